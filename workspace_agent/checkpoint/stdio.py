"""The container's own pipes and terminal, which the next container has others of."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def outside(agent: int) -> dict[str, str]:
    """Return what CRIU calls the pipes and terminals at descriptors 0 to 2 of process *agent*.

    Those of its workload are the same ones.
    """
    found = {}
    for number in ("0", "1", "2"):
        path = f"/proc/{agent}/fd/{number}"
        with suppress(OSError):
            link, info = os.readlink(path), os.stat(path)
            if link.startswith("pipe:["):
                found[number] = link
            elif stat.S_ISCHR(info.st_mode) and os.path.basename(link).isdigit():
                found[number] = f"tty[{info.st_rdev:x}:{info.st_dev:x}]"  # /dev/pts/N
    return found


def terminals(stdio: Mapping[str, str]) -> list[str]:
    """Return the terminals among them."""
    return sorted({one for one in stdio.values() if one.startswith("tty[")})


def opened(agent: int, stdio: Mapping[str, str]) -> dict[int, str]:
    """Open our own in the places of *stdio*: descriptors of *agent*, and what they stand for.

    Raises OSError. What stands twice in *stdio* is opened once.
    """
    found: dict[int, str] = {}
    for number, what in sorted(stdio.items()):
        if number in ("0", "1", "2") and what not in found.values():
            flags = os.O_RDWR if what.startswith("tty[") else os.O_RDONLY if number == "0" else 1
            found[os.open(f"/proc/{agent}/fd/{number}", flags | os.O_NOCTTY)] = what
    return found
