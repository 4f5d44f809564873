"""Which Python the workload means, and where its packages live, by path rules alone.

Asking the interpreter would cost a start of it (20 ms and more) at every boot.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from workspace_agent.host import files


@dataclass(frozen=True)
class Interpreter:
    """The workload's `python3`: *site* is the folder whose `.pth` lines it reads.

    *executable* and *site* are empty when there is none, or it follows no layout we know; *abi*
    then is that of the agent's own interpreter, so that names on the volume stay stable.
    """

    executable: str
    site: str
    abi: str


def find(path: str, root: str = "") -> Interpreter:
    """Return the interpreter that *path* (a PATH) leads to."""
    for folder in path.split(":"):
        executable = f"{root}{folder}/python3"
        if folder and os.path.isfile(executable) and os.access(executable, os.X_OK):
            version, site = _venv(executable) or _installed(executable, root)
            return Interpreter(executable, site, abi(version or _own()))
    return Interpreter("", "", abi(_own()))


def abi(version: str) -> str:
    """Return the key of packages built for *version* ("3.13", "3.13t"), such as cp313-x86_64."""
    libc = "-musl" if files.exists(f"/lib/ld-musl-{os.uname().machine}.so.1") else ""
    return f"cp{version.replace('.', '')}-{os.uname().machine}{libc}"


def _own() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _venv(executable: str) -> tuple[str, str] | None:
    base = os.path.dirname(os.path.dirname(executable))
    text = os.fsdecode(files.read(f"{base}/pyvenv.cfg") or b"")
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() in ("version", "version_info"):
            version = ".".join(value.strip().split(".")[:2])
            return version, _folder(f"{base}/lib/python{version}/site-packages")
    return None


def _installed(executable: str, root: str) -> tuple[str, str]:
    real = os.path.realpath(executable)
    version = os.path.basename(real).removeprefix("python")
    if not version.startswith("3."):
        return "", ""  # a launcher script (pyenv, a wrapper): it alone knows
    prefix = os.path.dirname(os.path.dirname(real))
    if prefix == f"{root}/usr" and os.path.isdir(f"{root}/usr/lib/python3/dist-packages"):
        # Debian and Ubuntu: what pip installs for the system interpreter goes here.
        return version, f"{root}/usr/local/lib/python{version}/dist-packages"
    return version, _folder(f"{prefix}/lib/python{version}/site-packages")


def _folder(path: str) -> str:
    return path if os.path.isdir(path) else ""
