"""The container's own pipes and terminal, which the next container has others of."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress

from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# The agent answers at once; where it is no agent, or is another one, CRIU says what it lacks.
_PATIENCE, _SLICE = 2.0, 0.002


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


def lacks_terminal(agent: int, stdio: Mapping[str, str]) -> bool:
    """Say whether one of *stdio* was a terminal, and is none in process *agent*."""
    here = outside(agent)
    return any(what.startswith("tty[") and not here.get(number, "").startswith("tty[")
               for number, what in stdio.items())  # fmt: skip


def wait_released(agent: int) -> None:
    """Wait until no terminal controls process *agent*, which was asked for it; not for ever."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        words = (files.read(f"/proc/{agent}/stat") or b"").rpartition(b")")[2].split()
        if not words or words[4] == b"0":
            return
        time.sleep(_SLICE)


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
