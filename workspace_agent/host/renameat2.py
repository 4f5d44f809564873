"""renameat2(2), which Python does not have: a rename that replaces nothing."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

_NOREPLACE = 1

# The C library, the kernel or the file system has no such call.
_NO_SUCH_CALL = frozenset({errno.ENOSYS, errno.EINVAL})


def move(name: str, source: int, target: int, to: str = "") -> bool:
    """Move *name* from one open folder into another; False where that has something of this name.

    *to* is its name there, if it is another. Where it cannot be done in one step it is a look and
    a rename. Raises OSError.
    """
    to = to or name
    code = _call(os.fsencode(name), source, os.fsencode(to), target)
    if code == errno.EEXIST:
        return False
    if code and code not in _NO_SUCH_CALL:
        raise OSError(code, os.strerror(code), name)
    if code:
        with suppress(FileNotFoundError):
            os.stat(to, dir_fd=target, follow_symlinks=False)
            return False
        os.rename(name, to, src_dir_fd=source, dst_dir_fd=target)
    return True


def _call(name: bytes, source: int, to: bytes, target: int) -> int:
    import ctypes  # a warm boot does not come here

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return errno.ENOSYS
    return ctypes.get_errno() if call(source, name, target, to, _NOREPLACE) else 0
