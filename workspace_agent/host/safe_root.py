"""Names below one folder, resolved without ever leaving it.

A volume is written by others: any name on it may be a link by the time we use it. Here nothing
is reached by a path from the root of the file system; every folder on the way is opened beneath
the one before it, without following a link, a `..`, or a mount.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from workspace_agent.host import files
from workspace_agent.host.openat2 import bound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# What a file system without hard links answers to link(2).
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})

# Each level of a removal takes a descriptor, and a frame of Python's.
_DEEP = 100

# The kernel takes 4096 bytes at once, and a character has up to four.
_LONG = 1000

# How a folder is opened.
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SafeRoot:
    """The open folder *fd*, closed with the context; *path* is for people to read.

    A *below* is a relative path in it, without `..`; "" is the folder itself. Every method raises
    OSError, named after the part of the path that is to blame: ELOOP or ENOTDIR for a link or a
    file on the way, EXDEV for a `..` or another mount (without openat2: another file system).
    """

    def __init__(self, fd: int, path: str) -> None:
        self.fd, self.path = fd, path

    @classmethod
    def at(cls, path: str) -> SafeRoot:
        """Open the folder *path*; links on the way to it are the pod's own and are followed."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def __enter__(self) -> SafeRoot:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def open(self, below: str, flags: int, mode: int = 0) -> int:
        """Open *below*; a link at its end is refused as well, and nothing is waited for."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would wait for a writer
        try:
            return _beneath(self.fd, below or ".", flags, mode)
        except OSError as error:
            error.filename = self._blamed(below, error)
            raise

    def folder(self, below: str, make: int | None = None) -> SafeRoot:
        """Open the folder *below*; with *make*, what is missing is made with that mode."""
        try:
            return SafeRoot(self.open(below, FOLDER), self._of(below))
        except FileNotFoundError:
            if make is None:
                raise
        above, _, name = below.rpartition("/")
        with self.folder(above, make) as parent:
            with suppress(FileExistsError):  # another pod's; or no folder, as the next line says
                parent._at(name, lambda fd, name: os.mkdir(name, make, dir_fd=fd))
            return SafeRoot(parent.open(name, FOLDER), self._of(below))

    def look(self, below: str) -> os.stat_result | None:
        """Return what stands at *below*, itself and not what it leads to; None when nothing."""
        try:
            return self._in(below, lambda fd, name: os.stat(name, dir_fd=fd, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """List the names in the folder itself."""
        return os.listdir(self.fd)

    def read(self, below: str, limit: int = files.READ_LIMIT) -> bytes | None:
        """Read a small regular file as `files.read` does: None when it is not one."""
        try:
            return self._in(below, lambda fd, name: files.read(name, limit, dir_fd=fd))
        except OSError:
            return None

    def commit(self, below: str, text: str | bytes, mode: int = 0o600, **more: bool) -> None:
        """Replace the file *below* in one step, as `files.commit` does."""
        self._in(below, lambda fd, name: files.commit(name, text, mode, dir_fd=fd, **more))

    def create(self, below: str, text: str, *, durable: bool = False) -> bool:
        """Make the file *below* in one step unless its name is taken; says whether it was made."""
        return self._in(below, lambda fd, name: _create(fd, name, text, durable))

    def rename(self, below: str, to: str, other: SafeRoot | None = None) -> None:
        """Give *below* the name *to*, in *other* if that is given, replacing what stands there."""
        with (other or self)._above(to) as new:
            into, name = new.fd, _name(to.rpartition("/")[2])
            self._in(below, lambda fd, old: os.rename(old, name, src_dir_fd=fd, dst_dir_fd=into))

    def remove(self, below: str) -> None:
        """Remove the file *below* if it is there; what cannot be removed stays."""
        with suppress(OSError):
            self._in(below, lambda fd, name: os.unlink(name, dir_fd=fd))

    def remove_tree(self, below: str) -> None:
        """Remove *below*, whatever it is; what cannot be removed stays."""
        with suppress(OSError):
            self._in(below, _remove_tree)

    def _above(self, below: str) -> SafeRoot:
        return self.folder(below.rpartition("/")[0])

    def _in(self, below: str, act: Callable[[int, str], T]) -> T:
        """Do *act* in the folder that holds *below*; a name in this very folder costs no open."""
        if "/" not in below:
            return self._at(below, act)
        with self._above(below) as parent:
            return parent._at(below.rpartition("/")[2], act)

    def _at(self, name: str, act: Callable[[int, str], T]) -> T:
        try:
            return act(self.fd, _name(name))
        except OSError as error:
            error.filename, error.filename2 = self._of(name), None
            raise

    def _of(self, below: str) -> str:
        return f"{self.path}/{below}" if below else self.path

    def _blamed(self, below: str, error: OSError) -> str:
        """Return the first part of the way that cannot be opened."""
        above = below.rpartition("/")[0]
        if above and error.errno != errno.ENOENT:
            try:
                os.close(self.open(above, FOLDER))
            except OSError as earlier:
                return str(earlier.filename)
        return self._of(below)


def _name(below: str) -> str:
    """Return *below*, which must be a name."""
    if below in ("", ".", "..") or "\0" in below:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), below)
    return below


def _beneath(root: int, below: str, flags: int, mode: int) -> int:
    if below.startswith("/") or ".." in below.split("/") or "\0" in below:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), below)
    call = _openat2()
    if call is None:
        return _by_parts(root, below, flags, mode)
    cut = below.rfind("/", 0, _LONG) if len(below) > _LONG else -1
    if cut < 0:
        return call(root, below, flags, mode)
    fd = call(root, below[:cut], FOLDER, 0)
    try:
        return _beneath(fd, below[cut:].lstrip("/"), flags, mode)
    finally:
        os.close(fd)


def _by_parts(root: int, below: str, flags: int, mode: int) -> int:
    """Do what openat2 does, one part at a time."""
    *above, last = [part for part in below.split("/") if part not in ("", ".")] or ["."]
    fd = os.dup(root)
    try:
        for part in above:
            inner = _same_disk(root, os.open(part, FOLDER, dir_fd=fd))
            os.close(fd)
            fd = inner
        return _same_disk(root, os.open(last, flags, mode, dir_fd=fd))
    finally:
        os.close(fd)


def _same_disk(root: int, fd: int) -> int:
    """Return *fd*, unless it is a folder of another file system; files may look it on overlays."""
    info = os.fstat(fd)
    if stat.S_ISDIR(info.st_mode) and info.st_dev != os.fstat(root).st_dev:
        os.close(fd)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return fd


# Filled on the first use: openat2, or None where there is none.
_call: list[Callable[[int, str, int, int], int] | None] = []


def _openat2() -> Callable[[int, str, int, int], int] | None:
    if not _call:
        _call.append(bound())
    return _call[0]


def _create(folder: int, name: str, text: str, durable: bool) -> bool:
    temporary = files.prepare(name, text, 0o600, durable=durable, dir_fd=folder)
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        # A file server whose answer was lost is asked again: then this is our own link.
        return os.stat(temporary, dir_fd=folder, follow_symlinks=False).st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_in_place(folder, name, text)
    finally:
        files.remove(temporary, folder)
    if durable:
        files.sync_dir("", folder)
    return True


def _create_in_place(folder: int, name: str, text: str) -> bool:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, 0o600, dir_fd=folder)
    except FileExistsError:
        return False
    try:
        files.write_all(fd, os.fsencode(text))
    finally:
        os.close(fd)
    return True


def _remove_tree(parent: int, name: str) -> None:
    """Remove *name*, and inside it as much as can be."""
    moved: list[str] = [name]
    while moved:  # what was too deep stands beside *name* now
        _remove(parent, moved.pop(), parent, moved, 0)


def _remove(parent: int, name: str, top: int, moved: list[str], depth: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    fd = _beneath(parent, name, FOLDER, 0)
    try:
        os.fchmod(fd, 0o700)  # a read-only folder of the user's own
        for inside in os.listdir(fd):
            with suppress(OSError):
                if depth < _DEEP:
                    _remove(fd, inside, top, moved, depth + 1)
                else:
                    beside = f"stage-{os.urandom(8).hex()}"  # swept if we die now
                    os.rename(inside, beside, src_dir_fd=fd, dst_dir_fd=top)
                    moved.append(beside)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
