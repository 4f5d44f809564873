"""How a file outside the volume is read: its holes, its attributes, whether it changed."""

from __future__ import annotations

import errno
import os
import stat
from time import monotonic, sleep

from workspace_agent.rescue.lines import FILE, FOLDER, LINK, MOST_EXTENTS, Saved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workspace_agent.model.atrisk import Entry

_CHUNK = 1 << 20

# All of them have to fit in a line.
_XATTRS = 8 << 10

_TYPES = {stat.S_IFREG: FILE, stat.S_IFLNK: LINK, stat.S_IFDIR: FOLDER}

# What is only ever added to; that it grew while it was read says nothing.
_GROWING = ("logs", "trackers")


class LateError(Exception):
    """The time is over."""


class LeftError(Exception):
    """This one thing is not saved, and its text says why."""


class Meter:
    """Bytes that were read: not after *until*, and at most *rate* a second, if that is given."""

    def __init__(self, until: float | None = None, rate: float = 0) -> None:
        self._until, self._rate = until, rate
        self._began, self._bytes = monotonic(), 0

    def moved(self, count: int) -> None:
        """Count bytes, and wait until they were due; raises LateError."""
        self._bytes += count
        if self._rate:
            due = self._began + self._bytes / self._rate
            due = due if self._until is None else min(due, self._until)
            sleep(max(0.0, due - monotonic()))
        self.check()

    def check(self) -> None:
        """Raise LateError when it is too late."""
        if self._until is not None and monotonic() >= self._until:
            raise LateError


def type_of(mode: int) -> str:
    """Return the type of a line; "" for what cannot be saved."""
    return _TYPES.get(stat.S_IFMT(mode), "")


def line_of(entry: Entry, image: str) -> Saved:
    """Return the line of *entry*, without its bytes; raises LeftError."""
    kind = type_of(entry.mode)
    if not kind:
        raise LeftError("a special file")
    mode = entry.mode & (0o1777 if kind == FOLDER else 0o777)
    size = entry.size if kind == FILE else 0
    return Saved(entry.path, kind, mode, entry.uid, entry.gid, size, entry.mtime_ns, entry.kind,
                 entry.added, image=image)  # fmt: skip


def extents(fd: int, info: os.stat_result) -> tuple[tuple[int, int], ...] | None:
    """List the parts of a file that hold data; None for one without holes."""
    if info.st_blocks * 512 >= info.st_size:
        return None
    found: list[tuple[int, int]] = []
    end = 0
    try:
        while end < info.st_size and len(found) < MOST_EXTENTS - 1:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = min(os.lseek(fd, start, os.SEEK_HOLE), info.st_size)
            if start < end:
                found.append((start, end - start))
    except OSError as error:
        if error.errno != errno.ENXIO:
            return None  # a file system that cannot say
        end = info.st_size  # a hole up to the end
    if end < info.st_size:
        found.append((end, info.st_size - end))
    return None if found == [(0, info.st_size)] else tuple(found)


def chunks(fd: int, parts: Sequence[tuple[int, int]], meter: Meter) -> Iterator[bytes]:
    """Yield the bytes of *parts*; fewer when the file is shorter by now."""
    for start, length in parts:
        os.lseek(fd, start, os.SEEK_SET)
        while length and (data := os.read(fd, min(length, _CHUNK))):
            length -= len(data)
            meter.moved(len(data))
            yield data


def is_torn(before: os.stat_result, after: os.stat_result, kind: str = "") -> bool:
    """Say whether a file changed while it was read."""
    if kind in _GROWING and after.st_size > before.st_size:
        return False
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


def xattrs(fd: int) -> tuple[tuple[str, str], ...]:
    """Return the user's attributes as (name, base64), as far as there is room for them."""
    from binascii import b2a_base64

    found, room = [], _XATTRS
    try:
        for name in os.listxattr(fd):
            value = os.getxattr(fd, name) if name.startswith("user.") else b""
            room -= len(name) + len(value)
            if value and room >= 0:
                found.append((name, b2a_base64(value, newline=False).decode()))
    except OSError:
        return ()
    return tuple(found)
