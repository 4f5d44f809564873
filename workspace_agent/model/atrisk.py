"""What would be lost: one thing outside the volume that ends with its container."""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, link or folder as a scan saw it; *path* is absolute, undecodable bytes escaped.

    *blocks* are the bytes it takes on its disk, *value* runs from 0 to 100, *added* says whether it
    is new (True) or a changed file of the image (False); None where that cannot be known.
    """

    path: str
    kind: str
    value: int
    mode: int
    uid: int
    gid: int
    size: int
    blocks: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int
    links: int
    added: bool | None = None

    @classmethod
    def of(cls, path: str, kind: str, value: int, info: os.stat_result) -> Entry:
        """Return the entry of what `lstat` said of *path*."""
        return cls(
            path, kind, value, info.st_mode, info.st_uid, info.st_gid, info.st_size,
            info.st_blocks * 512, info.st_mtime_ns, info.st_ctime_ns, info.st_dev, info.st_ino,
            info.st_nlink,
        )  # fmt: skip
