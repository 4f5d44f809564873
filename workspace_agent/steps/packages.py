"""Packages that somebody put onto the volume by `pip --target`: for which Python they are."""

from __future__ import annotations

import os
import re

from workspace_agent.host import files
from workspace_agent.model.problem import Problem

# A folder of ours in that folder: cp313-x86_64, cp313t-aarch64-musl.
_KEYED = re.compile(r"cp3\d+t?-\w+(-musl)?")

# The interpreter in a wheel's tag, where it is for one alone: cp311-cp311-manylinux_2_17_x86_64.
_TAG = re.compile(rb"^Tag: cp(3\d+)-cp\d+t?-\w*?(x86_64|aarch64|any)$", re.MULTILINE)


def parent(folder: str, abi: str) -> str:
    """Return where packages without a key would lie, "" unless *folder* is named by the *abi*."""
    above, _, name = folder.rpartition("/")
    return above if name == abi else ""


def count(folder: str) -> int:
    """Return how many packages lie in *folder* itself, beside those of single interpreters."""
    return len(_infos(folder))


def mismatch(folder: str, abi: str) -> Problem | None:
    """Say that a package in *folder* is for another Python than *abi*, such as cp311-x86_64."""
    for info in _infos(folder):
        wheel = files.read(os.path.realpath(f"{folder}/{info}/WHEEL"), 64 << 10) or b""
        tags = {
            f"cp{python.decode()}-{machine.decode()}" for python, machine in _TAG.findall(wheel)
        }
        if tags and abi.removesuffix("-musl") not in tags:
            return Problem(
                "python.other-abi",
                f"{folder} is not used: its packages are for another Python",
                f"{info} is for {' and '.join(sorted(tags))}, and this is {abi}",
                f"install them again into {folder}/{abi}, or list them in requirements.txt:"
                " every pod then gets those that fit it",
                folder,
            )
    return None


def _infos(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(name for name in names if name.endswith(".dist-info"))


def has_any(folder: str) -> bool:
    """Say whether something else than folders of ours lies in *folder*."""
    try:
        return any(not _KEYED.fullmatch(name) for name in os.listdir(folder))
    except OSError:
        return False
