"""Tiny wheels, made by hand: packages for tests without a network.

wheel(folder, "rich", "13.0", {"rich/__init__.py": "x = 1"}, needs=("pygments>=2",))
env = offline(folder)     # what makes pip look there and nowhere else
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def wheel(
    folder: Path,
    name: str,
    version: str,
    content: Mapping[str, str | bytes] | None = None,
    *,
    needs: Sequence[str] = (),
    extras: Mapping[str, Sequence[str]] | None = None,
    scripts: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
) -> Path:
    """Make the wheel of *name* in *folder*; returns its path.

    *content* are its files, a module that knows its version when not given; *needs* and *extras*
    are requirements, *scripts* commands such as `{"hello": "hello:main"}`. The same call makes the
    same bytes.
    """
    module = name.replace("-", "_").replace(".", "_")
    if content is None:
        content = {f"{module}.py": f"__version__ = {version!r}\n"}
    info = f"{module}-{version}.dist-info"
    whole: dict[str, str | bytes] = {
        **content,
        f"{info}/METADATA": _metadata(name, version, needs, extras or {}),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if scripts:
        lines = (f"{command} = {target}\n" for command, target in scripts.items())
        whole[f"{info}/entry_points.txt"] = "[console_scripts]\n" + "".join(lines)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-{tag}.whl"
    record = ""
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in whole.items():
            data = text.encode() if isinstance(text, str) else text
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{inner},sha256={digest},{len(data)}\n"
            archive.writestr(zipfile.ZipInfo(inner), data)
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), f"{record}{info}/RECORD,,\n")
    return path


def _metadata(
    name: str, version: str, needs: Sequence[str], extras: Mapping[str, Sequence[str]]
) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in needs]
    for extra, more in extras.items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {one} ; extra == "{extra}"' for one in more]
    return "\n".join(lines) + "\n"


def offline(folder: Path) -> dict[str, str]:
    """Return the variables with which pip finds the wheels in *folder*, and nothing else."""
    return {"PIP_FIND_LINKS": str(folder), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}
