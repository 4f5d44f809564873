"""One thing, put where it belongs: beside its place first, checked, then one rename."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from hashlib import sha256

from workspace_agent.host import files
from workspace_agent.host.renameat2 import move
from workspace_agent.host.safe_root import FOLDER as OPEN_FOLDER
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.rescue.decide import ABSENT, ANOTHER_TYPE, OTHER, SAME
from workspace_agent.rescue.lines import FOLDER, LINK, Saved, raw
from workspace_agent.rescue.reading import Meter, chunks, type_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL

# A folder that nothing is known of.
_PLAIN = 0o755


class DamagedError(Exception):
    """The bytes on the volume are not those that were saved."""


class TakenError(Exception):
    """Something has this name by now."""


def folder_of(top: SafeRoot, path: str, make: Callable[[str, int], None] | None = None) -> SafeRoot:
    """Open the folder that holds *path*; *make* hears of each that was missing, and is open.

    Raises OSError for a link or a mount on the way.
    """
    above = path[1:].rpartition("/")[0]
    try:
        return top.folder(above)
    except FileNotFoundError:
        if make is None:
            raise
    at, way = SafeRoot(os.dup(top.fd), top.path), ""
    for name in above.split("/"):
        way = f"{way}/{name}"
        with at:
            try:
                inner = at.open(name, OPEN_FOLDER)
            except FileNotFoundError:
                os.mkdir(name, 0o700, dir_fd=at.fd)
                inner = at.open(name, OPEN_FOLDER)
                make(way, inner)
        at = SafeRoot(inner, f"{top.path.rstrip('/')}{way}")
    return at


def put(store: SafeRoot, folder: SafeRoot, name: str, saved: Saved, over: os.stat_result | None
        ) -> None:  # fmt: skip
    """Put *saved*, whose bytes are in *store*, as *name* into *folder*.

    It takes the place of nothing but the file *over*. Raises TakenError, DamagedError, OSError.
    """
    # The same name each time: what a kill left is replaced by the next boot.
    temporary = f".rescue-{sha256(raw(saved.path)).hexdigest()[:24]}.new"
    folder.remove(temporary)
    try:
        if saved.type == LINK:
            os.symlink(saved.to, temporary, dir_fd=folder.fd)
            _own(temporary, saved, folder.fd)
            _time(temporary, saved, folder.fd)
        else:
            out = folder.open(temporary, _CREATE, 0o600)
            try:
                _fill(store, out, saved)
                dress(out, saved)
            finally:
                os.close(out)
        if over is None:
            if not move(temporary, folder.fd, folder.fd, name):
                raise TakenError
        else:
            now = folder.look(name)
            if now is None or (now.st_ino, now.st_ctime_ns) != (over.st_ino, over.st_ctime_ns):
                raise TakenError
            folder.rename(temporary, name)
    except BaseException:
        folder.remove(temporary)
        raise


def _fill(store: SafeRoot, out: int, saved: Saved) -> None:
    """Write the bytes; raises DamagedError unless they are those that were saved."""
    digest, count = sha256(), 0
    if saved.stored:
        with suppress(FileNotFoundError):  # then no bytes came
            fd = store.open(saved.file, os.O_RDONLY)
            try:
                parts, at = iter(saved.parts), saved.at
                for start, length in parts:
                    os.lseek(out, start, os.SEEK_SET)
                    for data in chunks(fd, ((at, length),), Meter()):
                        digest.update(data)
                        files.write_all(out, data)
                        count += len(data)
                    at += length
            finally:
                os.close(fd)
        if count != saved.stored or digest.hexdigest() != saved.sha256:
            raise DamagedError
    os.ftruncate(out, saved.size)


def dress(fd: int, saved: Saved) -> None:
    """Give an open file or folder its owner, mode, attributes and time."""
    from binascii import a2b_base64

    _own(fd, saved)
    os.fchmod(fd, saved.mode)
    for name, value in saved.xattrs:
        with suppress(OSError, ValueError):
            os.setxattr(fd, name, a2b_base64(value))
    _time(fd, saved)


def _own(target: int | str, saved: Saved, folder: int | None = None) -> None:
    if os.geteuid() == 0:
        with suppress(PermissionError):  # a container without the right to
            if isinstance(target, int):
                os.fchown(target, saved.uid, saved.gid)
            else:
                os.chown(target, saved.uid, saved.gid, dir_fd=folder, follow_symlinks=False)


def _time(target: int | str, saved: Saved, folder: int | None = None) -> None:
    times = (saved.mtime_ns, saved.mtime_ns)
    if isinstance(target, int):
        os.utime(target, ns=times)
    else:
        os.utime(target, ns=times, dir_fd=folder, follow_symlinks=False)


def compared(top: SafeRoot, path: str, saved: Saved, untouched: Callable[[os.stat_result], bool]
             ) -> tuple[str, os.stat_result | None]:  # fmt: skip
    """Say what stands at *path*, compared to *saved*, and what `lstat` says of it."""
    info = top.look(path[1:])
    if info is None:
        return ABSENT, None
    if type_of(info.st_mode) != saved.type:
        return ANOTHER_TYPE, info
    return (SAME if _is_same(top, path, saved, info, untouched) else OTHER), info


def _is_same(
    top: SafeRoot, path: str, saved: Saved, info: os.stat_result, untouched: Callable[..., bool]
) -> bool:
    if saved.type == FOLDER:
        return True
    if saved.type == LINK:
        with folder_of(top, path) as folder:
            return os.readlink(path.rpartition("/")[2], dir_fd=folder.fd) == saved.to
    if info.st_size != saved.size:
        return False
    # Of a file of the image, a mode that was changed is all there may be to bring back.
    if stat.S_IMODE(info.st_mode) & 0o777 != saved.mode and untouched(info):
        return False
    return info.st_mtime_ns == saved.mtime_ns or (
        not saved.extents and digest_of(top, path, saved) == saved.sha256
    )


def digest_of(top: SafeRoot, path: str, saved: Saved) -> str:
    """Return the digest of as many bytes of a file as were stored."""
    digest = sha256()
    fd = top.open(path[1:], os.O_RDONLY)
    try:
        for data in chunks(fd, saved.parts, Meter()):
            digest.update(data)
    finally:
        os.close(fd)
    return digest.hexdigest() if saved.stored else ""


def remember(path: str, like: Saved) -> Saved:
    """Return the line for a folder that none is known of: of the same owner as what is in it."""
    return Saved(path, FOLDER, _PLAIN, like.uid, like.gid, 0, like.mtime_ns)
