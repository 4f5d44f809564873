"""One thing, put where it belongs: beside its place first, checked, then one rename."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256

from workspace_agent.host import files
from workspace_agent.host.renameat2 import move
from workspace_agent.host.safe_root import FOLDER as OPEN_FOLDER
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.rescue.decide import ABSENT, ANOTHER_TYPE, OTHER, SAME, Verdict
from workspace_agent.rescue.lines import FOLDER, LINK, Saved, raw
from workspace_agent.rescue.reading import Meter, chunks, type_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL

# A folder that nothing is known of.
_PLAIN = 0o755


class PutError(Exception):
    """It is not put back, and this is the verdict."""

    def __init__(self, how: str, why: str) -> None:
        super().__init__(why)
        self.verdict = Verdict(how, why)


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

    It takes the place of nothing but the file *over*. Raises PutError, OSError.
    """
    # The same name each time: what a kill left is replaced by the next boot.
    temporary = f".rescue-{sha256(raw(saved.path)).hexdigest()[:24]}.new"
    folder.remove(temporary)
    try:
        if saved.type == LINK:
            os.symlink(saved.to, temporary, dir_fd=folder.fd)
            with suppress(OSError):
                os.chown(temporary, saved.uid, saved.gid, dir_fd=folder.fd, follow_symlinks=False)
            times = (saved.mtime_ns, saved.mtime_ns)
            os.utime(temporary, ns=times, dir_fd=folder.fd, follow_symlinks=False)
        else:
            out = folder.open(temporary, _CREATE, 0o600)
            try:
                _fill(store, out, saved)
                dress(out, saved)
            finally:
                os.close(out)
        if over is None:
            is_free = move(temporary, folder.fd, folder.fd, name)
        elif is_free := _stamp(folder.look(name)) == _stamp(over):
            folder.rename(temporary, name)
        if not is_free:
            raise PutError("refused", "something else has its name by now")
    except BaseException:
        folder.remove(temporary)
        raise


def _stamp(info: os.stat_result | None) -> tuple[int, int]:
    return (info.st_ino, info.st_ctime_ns) if info else (0, 0)


def _fill(store: SafeRoot, out: int, saved: Saved) -> None:
    """Write the bytes; raises PutError unless they are those that were saved."""
    digest, at = sha256(), saved.at
    with suppress(FileNotFoundError):  # then no bytes come
        fd = store.open(saved.file, os.O_RDONLY) if saved.stored else os.dup(out)
        try:
            for start, length in saved.parts:
                os.lseek(out, start, os.SEEK_SET)
                for data in chunks(fd, ((at, length),), Meter()):
                    digest.update(data)
                    files.write_all(out, data)
                at += length
        finally:
            os.close(fd)
    if saved.stored and digest.hexdigest() != saved.sha256:
        raise PutError("damaged", "its bytes on the volume are not those that were saved")
    os.ftruncate(out, saved.size)


def dress(fd: int, saved: Saved) -> None:
    """Give an open file or folder its owner, mode, attributes and time."""
    from binascii import a2b_base64

    with suppress(OSError):  # an owner that is nobody here, or is not ours to give
        os.fchown(fd, saved.uid, saved.gid)
    os.fchmod(fd, saved.mode)
    for name, value in saved.xattrs:
        with suppress(OSError, ValueError):
            os.setxattr(fd, name, a2b_base64(value))
    os.utime(fd, ns=(saved.mtime_ns, saved.mtime_ns))


def compared(top: SafeRoot, path: str, saved: Saved, untouched: Callable[[os.stat_result], bool]
             ) -> tuple[str, os.stat_result | None]:  # fmt: skip
    """Say what stands at *path*, compared to *saved*, and what `lstat` says of it."""
    info = top.look(path[1:])
    if info is None:
        return ABSENT, None
    if type_of(info.st_mode) != saved.type:
        return ANOTHER_TYPE, info
    if saved.type == LINK:
        with folder_of(top, path) as folder:
            same = os.readlink(path.rpartition("/")[2], dir_fd=folder.fd) == saved.to
    elif saved.type == FOLDER:
        same = True
    elif info.st_mode & 0o777 != saved.mode and untouched(info):
        same = False  # of a file of the image, that may be all there is to bring back
    else:
        same = info.st_size == saved.size and (
            info.st_mtime_ns == saved.mtime_ns or _has_its_bytes(top, path, saved)
        )
    return SAME if same else OTHER, info


def _has_its_bytes(top: SafeRoot, path: str, saved: Saved) -> bool:
    """Say whether a file has the very bytes; no holes are compared."""
    digest = sha256()
    fd = top.open(path[1:], os.O_RDONLY)
    try:
        for data in chunks(fd, saved.parts, Meter()):
            digest.update(data)
    finally:
        os.close(fd)
    return saved.stored == saved.size and digest.hexdigest() == saved.sha256


def plain(path: str, like: Saved) -> Saved:
    """Return the line for a folder that none is known of: of the same owner as what is in it."""
    return Saved(path, FOLDER, _PLAIN, like.uid, like.gid, 0, like.mtime_ns)
