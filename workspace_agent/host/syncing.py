"""One sync of a whole volume, errors told."""

from __future__ import annotations

import os


def syncfs(fd: int) -> None:
    """Make everything on the file system of *fd* durable; raises OSError when that failed.

    One call instead of an fsync a file: on a network volume that is the difference between one
    round trip and thousands.
    """
    import ctypes  # Python has no os.syncfs; a warm boot does not come here

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
        return
    if libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
