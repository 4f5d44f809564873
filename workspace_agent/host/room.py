"""How much room a file system has. The only place that calls statvfs, which no fake carries."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Room:
    """*free* bytes and *inodes* for this user; -1 inodes where there is no such limit.

    Only from a file system that is *executable* programs start, and shared libraries load.
    """

    free: int
    inodes: int
    read_only: bool
    executable: bool = True


def room(path: str) -> Room:
    """Return the room on the file system of *path*; raises OSError."""
    raw = os.statvfs(path)
    inodes = raw.f_favail if raw.f_files else -1
    flags = raw.f_flag
    return Room(raw.f_bavail * raw.f_frsize, inodes, bool(flags & os.ST_RDONLY),
                not flags & os.ST_NOEXEC)  # fmt: skip
