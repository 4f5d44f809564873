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

    def __init__(self, until: float | None, rate: float) -> None:
        self._until, self._rate = until, rate
        self._began, self._bytes = monotonic(), 0

    def moved(self, count: int) -> None:
        """Count bytes, and wait until they were due; raises LateError."""
        self._bytes += count
        if self._rate:
            wait = self._began + self._bytes / self._rate - monotonic()
            sleep(max(0.0, wait if self._until is None else min(wait, self._until - monotonic())))
        self.check()

    def check(self) -> None:
        """Raise LateError when it is too late."""
        if self._until is not None and monotonic() >= self._until:
            raise LateError


def type_of(mode: int) -> str:
    """Return the type of a line; raises LeftError for what cannot be saved."""
    found = _TYPES.get(stat.S_IFMT(mode))
    if not found:
        raise LeftError("a special file")
    return found


def line_of(entry: Entry, info: os.stat_result | Entry, image: str) -> Saved:
    """Return the line of *entry*, as *info* says that it is, without its bytes."""
    seen = info if isinstance(info, os.stat_result) else None
    mode = seen.st_mode if seen else entry.mode
    kind = type_of(mode)
    bits = mode & (0o1777 if kind == FOLDER else 0o777)
    if seen is None:
        owner = (entry.uid, entry.gid, entry.size, entry.mtime_ns)
    else:
        owner = (seen.st_uid, seen.st_gid, seen.st_size, seen.st_mtime_ns)
    return Saved(entry.path, kind, bits, *owner, entry.kind, entry.added, image=image)


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
        while length:
            data = os.read(fd, min(length, _CHUNK))
            if not data:
                return
            length -= len(data)
            meter.moved(len(data))
            yield data


def is_torn(before: os.stat_result, after: os.stat_result, kind: str) -> bool:
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
            if name.startswith("user."):
                value = os.getxattr(fd, name)
                room -= len(name) + len(value)
                if room >= 0:
                    found.append((name, b2a_base64(value, newline=False).decode()))
    except OSError:
        return ()
    return tuple(found)
