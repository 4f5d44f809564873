"""Names below one folder, resolved without ever leaving it.

A volume is written by others: any name on it may be a link by the time we use it. Here nothing
is reached by a path from the root of the file system; every folder on the way is opened beneath
the one before it, without following a link, a `..`, or a mount.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# linux/openat2.h: NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH.
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08
_OPENAT2 = 437  # the same number on every architecture

# Kernels before 5.6, gVisor, and seccomp profiles that do not know it.
_ABSENT = frozenset({errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.EINVAL})

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SafeRoot:
    """The open folder *fd*, closed with the context; *path* is for people to read.

    A *below* is a relative path in it, without `..`; "" is the folder itself. Every method raises
    OSError: ELOOP or ENOTDIR for a link or a file on the way, EXDEV for another mount or a `..`.
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
        """Open *below*; a link at its end is refused as well."""
        return _beneath(self.fd, below or ".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)

    def folder(self, below: str, make: int | None = None) -> SafeRoot:
        """Open the folder *below*; with *make*, what is missing is made with that mode."""
        try:
            return SafeRoot(self.open(below, _FOLDER), self._of(below))
        except FileNotFoundError:
            if make is None:
                raise
        above, _, name = below.rpartition("/")
        with self.folder(above, make) as parent:
            with suppress(FileExistsError):  # another pod's; or no folder, as the next line says
                os.mkdir(name, make, dir_fd=parent.fd)
            return SafeRoot(parent.open(name, _FOLDER), self._of(below))

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

    def rename(self, below: str, to: str, other: SafeRoot | None = None) -> None:
        """Give *below* the name *to*, in *other* if that is given, replacing what stands there."""
        with self._above(below) as old, (other or self)._above(to) as new:
            os.rename(_name(below), _name(to), src_dir_fd=old.fd, dst_dir_fd=new.fd)

    def remove(self, below: str) -> None:
        """Remove the file *below* if it is there; what cannot be removed stays."""
        try:
            self._in(below, lambda fd, name: os.unlink(name, dir_fd=fd))
        except OSError:
            return

    def remove_tree(self, below: str) -> None:
        """Remove *below*, whatever it is; what cannot be removed stays."""
        try:
            with self._above(below) as parent:
                _remove_tree(parent.fd, _name(below))
        except OSError:
            return

    def _above(self, below: str) -> SafeRoot:
        return self.folder(below.rpartition("/")[0])

    def _in(self, below: str, act: Callable[[int, str], T]) -> T:
        """Do *act* in the folder that holds *below*; a name in this very folder costs no open."""
        if "/" not in below:
            return act(self.fd, _name(below))
        with self._above(below) as parent:
            return act(parent.fd, _name(below))

    def _of(self, below: str) -> str:
        return f"{self.path}/{below}" if below else self.path


def _name(below: str) -> str:
    """Return the last part of *below*, which must be a name."""
    name = below.rpartition("/")[2]
    if name in ("", ".", ".."):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), below)
    return name


def _beneath(root: int, below: str, flags: int, mode: int) -> int:
    if below.startswith("/") or ".." in below.split("/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), below)
    call = _openat2()
    return call(root, below, flags, mode) if call else _by_parts(root, below, flags, mode)


def _by_parts(root: int, below: str, flags: int, mode: int) -> int:
    """Do what openat2 does, one part at a time."""
    *above, last = below.split("/")
    fd = os.dup(root)
    try:
        for part in above:
            fd = _closing(fd, os.open(part, _FOLDER, dir_fd=fd))
        found = os.open(last, flags, mode, dir_fd=fd)
        if os.fstat(found).st_dev != os.fstat(root).st_dev:
            os.close(found)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), below)
        return found
    finally:
        os.close(fd)


def _closing(old: int, new: int) -> int:
    os.close(old)
    return new


# Filled on the first use: openat2, or None where there is none.
_call: list[Callable[[int, str, int, int], int] | None] = []


def _openat2() -> Callable[[int, str, int, int], int] | None:
    """Return openat2(2), or None where the kernel has none; asked once."""
    if not _call:
        _call.append(_bound())
    return _call[0]


def _bound() -> Callable[[int, str, int, int], int] | None:
    import ctypes  # Python has no os.openat2; a warm boot does not come here
    import sys

    libc = ctypes.CDLL(None, use_errno=True)

    def openat2(root: int, below: str, flags: int, mode: int) -> int:
        words = (flags, mode if flags & os.O_CREAT else 0, _RESOLVE)
        how = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
        numbers = (ctypes.c_long(_OPENAT2), ctypes.c_long(root))
        fd: int = libc.syscall(*numbers, os.fsencode(below), how, ctypes.c_long(len(how)))
        if fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), below)
        return fd

    try:
        here = os.open("/", _FOLDER)
        try:
            os.close(openat2(here, ".", _FOLDER, 0))
        finally:
            os.close(here)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    return openat2


def _remove_tree(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    fd = os.open(name, _FOLDER, dir_fd=parent)
    try:
        os.fchmod(fd, 0o700)  # a read-only folder of the user's own
        for inside in os.listdir(fd):
            _remove_tree(fd, inside)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
