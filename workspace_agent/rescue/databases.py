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

# Whoever writes to a database waits so long for others, by default.
_SECS = 5.0
_PAGES = 1024


def is_one(fd: int) -> bool:
    """Say whether an open file is a database."""
    os.lseek(fd, 0, os.SEEK_SET)
    return os.read(fd, len(_MAGIC)) == _MAGIC


def is_part(top: SafeRoot, path: str) -> bool:
    """Say whether *path* belongs to the database beside it."""
    base = path[1:].rpartition("-")[0]
    if path.endswith(_PARTS):
        with suppress(OSError):
            fd = top.open(base, os.O_RDONLY)
            try:
                return is_one(fd)
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


def copy(top: SafeRoot, path: str, fd: int, place: str, until: float | None) -> None:
    """Copy the database *path*, open as *fd*, to the file *place*; raises LeftError.

    Nobody may close a descriptor of the database meanwhile: that would end SQLite's locks.
    """
    try:
        from sqlite3 import Error
    except ImportError as error:
        raise LeftError("this Python has no sqlite3 to copy its database with") from error

    above, _, name = path[1:].rpartition("/")
    # One with a log that nobody has open would get new files beside it.
    is_still = os.pread(fd, 1, 18) == b"\2" and top.look(f"{path[1:]}-wal") is None
    before = os.fstat(fd)
    end = min(until or monotonic() + _SECS, monotonic() + _SECS)
    try:
        with top.folder(above) as folder:
            where = f"/proc/self/fd/{folder.fd}/{name}"
            source = _connected(where, "immutable=1" if is_still else "mode=ro", end)
            with closing(source), closing(_connected(place, "nolock=1", end)) as target:
                _backup(source, target, fd, end)
    except Error as error:
        raise LeftError(f"its database could not be copied: {error}") from error
    if is_still and (is_torn(before, os.fstat(fd)) or log(top, path)[0]):
        raise LeftError("its database was opened while it was copied")


def _backup(source: sqlite3.Connection, target: sqlite3.Connection, fd: int, end: float) -> None:
    def progress(*_: int) -> None:
        if monotonic() >= end:
            raise LeftError("its database is too busy, or too large, for the time there is")

    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # one moment, for all pages
    _must_have_open(fd)
    for setting in ("synchronous", "journal_mode"):
        target.execute(f"PRAGMA {setting}=OFF")
    source.backup(target, pages=_PAGES, progress=progress, sleep=0.01)


def _connected(path: str, mode: str, end: float) -> sqlite3.Connection:
    import sqlite3
    from urllib.parse import quote_from_bytes

    uri = f"file:{quote_from_bytes(os.fsencode(path))}?{mode}"
    wait = max(0.0, end - monotonic())
    return sqlite3.connect(uri, uri=True, timeout=wait, isolation_level=None)


def _must_have_open(fd: int) -> None:
    """Raise LeftError unless SQLite has the file *fd* open: names may lead elsewhere by now."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if int(name) != fd and os.path.sameopenfile(int(name), fd):
                return
    raise LeftError("its name led to another file")
