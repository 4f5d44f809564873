"""SQLite databases, copied by SQLite: the bytes of a live one are worth nothing.

Rows that are committed may be in the log beside the file alone, and pages change in any order.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from time import monotonic

from workspace_agent.rescue.reading import LeftError, is_torn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from workspace_agent.host.safe_root import SafeRoot

_MAGIC = b"SQLite format 3\0"
_PARTS = ("-wal", "-shm", "-journal")

# Up to here in memory, above it into its file on the volume.
IN_MEMORY = 64 << 20

# Whoever writes to a database waits so long for others, by default.
_SECS = 5.0
_PAGES = 1024


def is_one(fd: int) -> bool:
    """Say whether an open file is a database."""
    os.lseek(fd, 0, os.SEEK_SET)
    return os.read(fd, len(_MAGIC)) == _MAGIC


def is_part(top: SafeRoot, path: str) -> bool:
    """Say whether *path* belongs to the database beside it."""
    for suffix in _PARTS:
        if path.endswith(suffix):
            found = top.look(path[1:].removesuffix(suffix))
            with suppress(OSError):
                fd = top.open(path[1:].removesuffix(suffix), os.O_RDONLY)
                try:
                    return found is not None and is_one(fd)
                finally:
                    os.close(fd)
    return False


def log(top: SafeRoot, path: str) -> tuple[int, int]:
    """Return the size and the time of the log beside a database; (0, 0) without one."""
    with suppress(OSError):
        found = top.look(f"{path[1:]}-wal")
        if found and found.st_size:
            return found.st_size, found.st_mtime_ns
    return 0, 0


def copied(top: SafeRoot, path: str, fd: int, until: float | None, place: str = "") -> bytes:
    """Return the database *path*, open as *fd*, as one file; or write it to *place*.

    Raises LeftError. Nobody may close a descriptor of the file meanwhile, *fd* included: that
    would end SQLite's locks.
    """
    try:
        import sqlite3
    except ImportError as error:
        raise LeftError("this Python has no sqlite3 to copy it with") from error

    end = monotonic() + _SECS if until is None else min(until, monotonic() + _SECS)
    above, _, name = path[1:].rpartition("/")
    # One with a log that nobody has open would get new files beside it.
    is_still = os.pread(fd, 1, 18) == b"\2" and top.look(f"{path[1:]}-wal") is None
    before = os.fstat(fd)
    try:
        with (
            top.folder(above) as folder,
            closing(
                _connected(
                    f"/proc/self/fd/{folder.fd}/{name}", "immutable=1" if is_still else "mode=ro"
                )
            ) as source,
            closing(_connected(place or ":memory:", "nolock=1")) as copy,
        ):
            data = _backup(source, copy, fd, end, in_memory=not place)
    except sqlite3.Error as error:
        raise LeftError(f"its database could not be copied: {error}") from error
    if is_still and (is_torn(before, os.fstat(fd), "") or log(top, path)[0]):
        raise LeftError("its database was opened while it was copied")
    return data


def _backup(
    source: sqlite3.Connection, copy: sqlite3.Connection, fd: int, end: float, *, in_memory: bool
) -> bytes:
    def progress(*_: int) -> None:
        if monotonic() >= end:
            raise LeftError("its database is too busy, or too large, for the time there is")

    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # one moment, for all pages
    _same_file(fd)
    copy.execute("PRAGMA synchronous=OFF")
    if not in_memory:
        copy.execute("PRAGMA journal_mode=OFF")
    source.backup(copy, pages=_PAGES, progress=progress, sleep=0.01)
    source.execute("ROLLBACK")
    if not in_memory:
        return b""
    if not hasattr(copy, "serialize"):
        raise LeftError("copying its database takes Python 3.11")
    return bytes(copy.serialize())


def _connected(path: str, mode: str) -> sqlite3.Connection:
    import sqlite3
    from urllib.parse import quote_from_bytes

    uri = f"file:{quote_from_bytes(os.fsencode(path))}?{mode}"
    return sqlite3.connect(uri, uri=True, timeout=1.0, isolation_level=None)


def _same_file(fd: int) -> None:
    """Raise LeftError unless SQLite has the file *fd* open: the name may lead elsewhere by now."""
    ours = os.fstat(fd)
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found = os.stat(int(name))
            if int(name) != fd and os.path.samestat(ours, found):
                return
    raise LeftError("its name led to another file")
