"""openat2(2), which Python does not have: the kernel itself resolves a name beneath a folder."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# linux/openat2.h: NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH.
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08
_NUMBER = 437  # the same on every architecture


def bound() -> Callable[[int, str, int, int], int] | None:
    """Return `openat2(folder, below, flags, mode)`, or None where it does not work.

    Kernels before 5.6 have none, gVisor neither, and some seccomp profiles forbid it.
    """
    try:
        return _tried(os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except (ImportError, OSError):
        return None


def _tried(here: int) -> Callable[[int, str, int, int], int]:
    import ctypes  # a warm boot does not come here
    import errno
    import sys

    call = ctypes.CDLL(None, use_errno=True).syscall

    def openat2(folder: int, below: str, flags: int, mode: int) -> int:
        words = (flags, mode if flags & os.O_CREAT else 0, _RESOLVE)
        how = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
        numbers = (ctypes.c_long(_NUMBER), ctypes.c_long(folder))
        while True:
            fd: int = call(*numbers, os.fsencode(below), how, ctypes.c_long(len(how)))
            if fd >= 0:
                return fd
            code = ctypes.get_errno()
            if code != errno.EINTR:  # a signal: again, as `os.open` does
                raise OSError(code, os.strerror(code), below)

    try:
        os.close(openat2(here, ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, 0))
    finally:
        os.close(here)
    return openat2
