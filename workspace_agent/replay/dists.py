"""What is installed in a Python, by its folders alone: nothing is started, nothing is read."""

from __future__ import annotations

import os
import re

from workspace_agent.host import files
from workspace_agent.replay.lines import normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workspace_agent.host.interpreter import Interpreter

# Debian's own packages, which its interpreter sees beside what pip installs.
_DEBIAN = "/usr/lib/python3/dist-packages"

# The list of the largest packages has 2 MiB.
_RECORD = 16 << 20

_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(?:-py3[0-9.]*)?\.(?:dist-info|egg-info)")


def folders(python: Interpreter) -> tuple[str, ...]:
    """Return the folders that hold the packages of *python*."""
    is_debian = python.site.startswith("/usr/") and os.path.isdir(_DEBIAN)
    return (python.site, *([_DEBIAN] if is_debian else [])) if python.site else ()


def installed(where: Iterable[str]) -> dict[str, str]:
    """Return the version of every package in the folders *where*, by its normal name.

    The first folder wins, as on the interpreter's path.
    """
    found: dict[str, str] = {}
    for folder in where:
        for info in _names(folder):
            if one := _INFO.fullmatch(info):
                found.setdefault(normal(one["name"]), one["version"])
    return found


def infos(site: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each package in *site*, and of the folder that describes it."""
    for info in _names(site):
        if found := _INFO.fullmatch(info):
            yield normal(found["name"]), info


def size(site: str, names: Iterable[str]) -> int:
    """Return how many bytes the packages *names* have in *site*, by their own lists."""
    wanted = set(names)
    rows = (row for name, info in infos(site) if name in wanted for row in record(site, info))
    return sum(int(row[2]) for row in rows if row[2:] and row[2].isdigit())


def record(site: str, info: str) -> list[list[str]]:
    """Return a package's own list of its files: paths below *site*, digests, sizes.

    It is empty where there is none, or one that nobody can read.
    """
    import csv

    text = (files.read(f"{site}/{info}/RECORD", _RECORD) or b"").decode("utf-8", "surrogateescape")
    try:
        return [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error:
        return []


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
