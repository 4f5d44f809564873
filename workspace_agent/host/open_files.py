"""What processes have open for writing, and what they are called, as far as we may look."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def processes() -> list[int]:
    """Return the processes that there are, but us."""
    try:
        return [
            int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()
        ]
    except OSError:
        return []


def writing(pids: Iterable[int], wanted: Callable[[str], bool]) -> Iterator[tuple[str, int]]:
    """Yield (path, pid) of the regular files that *pids* have open for writing.

    Only those whose path is *wanted*; the others are not touched: they may be on a hung volume.
    """
    for pid in pids:
        with suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                if path := _written(f"/proc/{pid}", name, wanted):
                    yield path, pid


def argv(pid: int) -> list[str]:
    """Return the command line of *pid*; empty when it is over, or a thread of the kernel's."""
    text = files.read(f"/proc/{pid}/cmdline") or b""
    return os.fsdecode(text[:4096]).split("\0")[:-1]


def details(pid: int) -> tuple[int, Mapping[str, str] | None]:
    """Return when *pid* began, in ns since 1970, and its environment; 0 and None: not known."""
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return 0, None
    try:
        one = psutil.Process(pid)
        return int(one.create_time() * 1e9), one.environ()
    except (psutil.Error, OSError, ValueError):
        return 0, None


def _written(process: str, name: str, wanted: Callable[[str], bool]) -> str:
    """Return the path of the file number *name*, if it is open for writing and still there."""
    try:
        link = f"{process}/fd/{name}"
        path = os.readlink(link)
        if not path.startswith("/") or not wanted(path):
            return ""
        # Linux gives the link the rights that the file was opened with; gVisor gives it all.
        if not os.lstat(link).st_mode & stat.S_IWUSR:
            return ""
        info = os.stat(link)
        # Another container's process of the same pod has the same path for another file.
        if not stat.S_ISREG(info.st_mode) or not os.path.samestat(info, os.lstat(path)):
            return ""
        lines = (files.read(f"{process}/fdinfo/{name}") or b"").split(b"\n")
        flags = next(int(line[6:], 8) for line in lines if line.startswith(b"flags:"))
        return path if flags & (os.O_WRONLY | os.O_RDWR) else ""
    except (OSError, StopIteration, ValueError):
        return ""
