"""fanotify, where CAP_SYS_ADMIN allows it: what is written below a mount, and by whom.

No renames, deletions or new folders: a doorbell, and a witness. Never a list.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress

# linux/fanotify.h: CLOEXEC | NONBLOCK of the plain class; ADD | MOUNT; MODIFY | CLOSE_WRITE.
_INIT, _MARK, _MASK = 0x01 | 0x02, 0x01 | 0x10, 0x02 | 0x08
_OVERFLOW = 0x4000
_AT_FDCWD = -100

# A fifo must not hold the kernel up that opens it for us; O_LARGEFILE is 0 in Python.
_OPENED = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | 0o100000

# Each record opens a file: 170 at once and not thousands, or events are lost without a word.
_BUFFER = 4096

_RECORD = struct.Struct("=IBBHQii")

_REASONS = {
    errno.EPERM: "fanotify needs CAP_SYS_ADMIN",
    errno.ENOSYS: "this kernel has no fanotify",
    errno.EMFILE: "this machine's fanotify groups are used up",
}


class Fanotify:
    """Hears of writes below one mount; `fd` can be polled."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self) -> list[tuple[str, int]]:
        """Return the (path, pid) of what was written since; never blocks.

        An empty path is an overflow: everywhere. The pid is 0 for a process that we cannot see.
        """
        try:
            return entries(os.read(self.fd, _BUFFER))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Hear no more."""
        os.close(self.fd)


def opened(mount: str = "/") -> tuple[Fanotify | None, str]:
    """Return a listener for the mount *mount*, or None and why there is none."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.fanotify_init(_INIT, _OPENED)
        if fd < 0:
            return None, _reason(ctypes.get_errno())
        mask = ctypes.c_uint64(_MASK)
        if libc.fanotify_mark(fd, _MARK, mask, _AT_FDCWD, os.fsencode(mount)) == 0:
            return Fanotify(fd), ""
        code = ctypes.get_errno()
        os.close(fd)
        return None, _reason(code)
    except (ImportError, AttributeError, OSError):
        return None, "this system has no fanotify"


def entries(buffer: bytes) -> list[tuple[str, int]]:
    """Return the (path, pid) in a *buffer* of the kernel's, and close every file of it.

    Our own writes, and those to files without a name, are left out.
    """
    found: dict[tuple[str, int], None] = {}
    at = 0
    while at + _RECORD.size <= len(buffer):
        length, _, _, _, mask, fd, pid = _RECORD.unpack_from(buffer, at)
        at += max(length, _RECORD.size)
        path = ""
        if fd >= 0:
            with suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{fd}")
            os.close(fd)
        if mask & _OVERFLOW:
            found["", 0] = None
        elif pid != os.getpid() and path.startswith("/") and not path.endswith(" (deleted)"):
            found[path, pid] = None
    return list(found)


def _reason(code: int) -> str:
    return _REASONS.get(code, os.strerror(code))
