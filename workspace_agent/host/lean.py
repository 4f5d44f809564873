"""What PID 1 uses of `os`, from its C module alone: the same names with the same meaning."""

from __future__ import annotations

import posix
import sys
from posix import *  # noqa: F403 - that is the point
from posix import _exit as _exit

defpath = "/bin:/usr/bin"

_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def fsencode(text: str | bytes) -> bytes:
    """Return *text* as the kernel has it."""
    return text if isinstance(text, bytes) else text.encode(_ENCODING, _ERRORS)


def fsdecode(data: str | bytes) -> str:
    """Return *data* as text from which `fsencode` makes the same bytes."""
    return data if isinstance(data, str) else data.decode(_ENCODING, _ERRORS)


_BLOCK = posix.environ.items()
environ = {fsdecode(n): fsdecode(v) for n, v in _BLOCK}  # type: ignore[misc]


def makedirs(name: str, mode: int = 0o777, exist_ok: bool = False) -> None:
    """Make the folder *name*, and those above it."""
    above = path.dirname(name)
    if above and not path.exists(above):
        makedirs(above, exist_ok=True)
    try:
        posix.mkdir(name, mode)
    except OSError:
        if not exist_ok or not path.isdir(name):
            raise


class path:  # noqa: N801 - as in os
    """The few of `os.path`."""

    @staticmethod
    def dirname(name: str) -> str:
        """Return what is before the last slash."""
        head = name[: name.rfind("/") + 1]
        return head.rstrip("/") or head

    @staticmethod
    def abspath(name: str) -> str:
        """Return *name* from the root on; `.` and `..` inside it stay, and are the kernel's."""
        return name if name.startswith("/") else f"{posix.getcwd()}/{name}"

    @staticmethod
    def exists(name: str) -> bool:
        """Say whether *name* leads to something."""
        try:
            posix.stat(name)
        except (OSError, ValueError):
            return False
        return True

    @staticmethod
    def isdir(name: str) -> bool:
        """Say whether *name* leads to a folder."""
        try:
            return posix.stat(name).st_mode & 0o170000 == 0o040000
        except (OSError, ValueError):
            return False
