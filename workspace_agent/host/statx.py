"""Two things that the kernel knows of a file and Python does not ask for."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# linux/stat.h
_AT_FDCWD, _NO_FOLLOW = -100, 0x100
_BTIME, _BTIME_AT = 0x800, 80
_SIZE = 256

# linux/fcntl.h and fs/overlayfs/overlayfs.h: a handle of the kind OVL_FILEID_V1 is three bytes of
# padding, then version, magic, length and flags.
_HANDLE_FID, _HANDLE_BYTES = 0x200, 128
_OVERLAY, _FLAGS_AT, _BORN_IN_UPPER = 0xF8, 6, 0x04


def born_ns(path: str) -> int:
    """Return when *path* was made, in ns since 1970; 0 where nobody knows."""
    try:
        import ctypes

        buffer = ctypes.create_string_buffer(_SIZE)
        words = (_AT_FDCWD, os.fsencode(path), _NO_FOLLOW, _BTIME, buffer)
        if ctypes.CDLL(None).statx(*words) != 0:
            return 0
    except (ImportError, AttributeError):
        return 0  # an interpreter without ctypes: a minimal one of a distribution's
    raw = buffer.raw
    if not int.from_bytes(raw[:4], sys.byteorder) & _BTIME:
        return 0
    secs = int.from_bytes(raw[_BTIME_AT : _BTIME_AT + 8], sys.byteorder, signed=True)
    return secs * 10**9 + int.from_bytes(raw[_BTIME_AT + 8 : _BTIME_AT + 12], sys.byteorder)


# The call, once it is looked up: it is made for every file that is kept.
_calls: list[Callable[..., int]] = []


def is_added(path: str) -> bool | None:
    """Say whether *path*, which is in an overlay's upper layer, was made there.

    False: it is a changed file of the image. None: the kernel does not tell (before 6.6, or no
    overlay).
    """
    try:
        import ctypes

        room = _HANDLE_BYTES.to_bytes(4, sys.byteorder)
        buffer = ctypes.create_string_buffer(room, 8 + _HANDLE_BYTES)
        mount = ctypes.c_int()
        words = (_AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), _HANDLE_FID)
        if not _calls:
            _calls.append(ctypes.CDLL(None).name_to_handle_at)
        if _calls[0](*words) != 0:
            return None
    except (ImportError, AttributeError):
        return None
    if int.from_bytes(buffer.raw[4:8], sys.byteorder) != _OVERLAY:
        return None
    return bool(buffer.raw[8 + _FLAGS_AT] & _BORN_IN_UPPER)
