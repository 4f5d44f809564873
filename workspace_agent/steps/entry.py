"""One object of a home or of the image's defaults: what it is, and where to look for it."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workspace_agent.host.safe_root import SafeRoot

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}

# Nothing, a file, a link, another mount, a name that cannot be: there is nothing of ours.
_NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG})

# A fifo must not hold us up, and a link is not to be followed.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Entry:
    """What stands at *path*: *size*, *mtime_ns* and *sha256* are of files, *target* of links."""

    path: str
    kind: str
    mode: int
    size: int
    mtime_ns: int
    target: str = ""
    sha256: str = ""


class Near:
    """Looks things up below *root*, neighbours at the price of one open; a context."""

    def __init__(self, root: SafeRoot) -> None:
        self._root, self._above, self._fd = root, "", os.dup(root.fd)

    def __enter__(self) -> Near:
        return self

    def __exit__(self, *_: object) -> None:
        self._go(None)

    def _go(self, above: str | None) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._above, self._fd = above or "", -1
        try:
            if above is not None:
                self._fd = self._root.open(above, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno not in _NOTHING:
                raise

    def at(self, path: str) -> tuple[int, str]:
        """Return the open folder that holds *path*, -1 when there is none, and the name in it."""
        above, _, name = path.rpartition("/")
        if above != self._above:
            self._go(above)
        return self._fd, name

    def look(self, path: str) -> Entry | None:
        """Return what stands at *path*, content not read; None when nothing does."""
        fd, name = self.at(path)
        if fd < 0:
            return None
        try:
            return entry_of(path, os.stat(name, dir_fd=fd, follow_symlinks=False), fd)
        except OSError as error:
            if error.errno not in _NOTHING:
                raise
            return None

    def digest(self, path: str) -> str:
        """Return the SHA-256 of the regular file at *path*; raises OSError."""
        return digest(*self.at(path))


def entry_of(path: str, info: os.stat_result, folder: int) -> Entry:
    """Return what *info* says of *path*, whose last name is in the open *folder*."""
    kind = KINDS.get(stat.S_IFMT(info.st_mode), "special")
    name = path.rpartition("/")[2]
    target = os.readlink(name, dir_fd=folder) if kind == "link" else ""
    size, mtime = (info.st_size, info.st_mtime_ns) if kind == "file" else (0, 0)
    return Entry(path, kind, stat.S_IMODE(info.st_mode), size, mtime, target)


def digest(folder: int, name: str) -> str:
    """Return the SHA-256 of the regular file *name*, of nothing for any other; raises OSError."""
    import hashlib

    fd = os.open(name, READ, dir_fd=folder)
    try:
        made = hashlib.sha256()
        while stat.S_ISREG(os.fstat(fd).st_mode) and (piece := os.read(fd, 1 << 20)):
            made.update(piece)
        return made.hexdigest()
    finally:
        os.close(fd)
