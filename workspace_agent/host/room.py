"""How much room a file system has. The only place that calls statvfs, which no fake carries."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Room:
    """*free* bytes and *inodes* for this user; -1 inodes where there is no such limit.

    *size* and *used* are the whole file system's, whoever uses it. Only from one that is
    *executable* programs start, and shared libraries load.
    """

    free: int
    inodes: int
    read_only: bool
    executable: bool = True
    size: int = 0
    used: int = 0


def room(path: str) -> Room:
    """Return the room on the file system of *path*; raises OSError."""
    raw = os.statvfs(path)
    inodes = raw.f_favail if raw.f_files else -1
    flags = raw.f_flag
    return Room(raw.f_bavail * raw.f_frsize, inodes, bool(flags & os.ST_RDONLY),
                not flags & os.ST_NOEXEC, raw.f_blocks * raw.f_frsize,
                (raw.f_blocks - raw.f_bfree) * raw.f_frsize)  # fmt: skip
