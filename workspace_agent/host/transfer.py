"""One object from one open folder into another: its bytes, holes, rights and times.

The time comes last, after a close that told no error: an object with the right size and time is
whole, which is what a copy that was killed is taken up by.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from workspace_agent.host import files
from workspace_agent.host.walk import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

    from workspace_agent.host.safe_root import SafeRoot

# The volume will not have this one name, or a file so large. Every other refusal of the volume
# ends the copy: a home of which everything was "left out" must not count as made.
_NAME = frozenset({errno.EEXIST, errno.EILSEQ, errno.EINVAL, errno.ENAMETOOLONG})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
_TOO_LARGE = frozenset({errno.EFBIG})

# A volume without such things: what it does not take is left away.
_NO_SUCH_RIGHTS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})

# An attribute that is refused, too large, or has no room beside the inode.
_NO_ATTRIBUTE = _NO_SUCH_RIGHTS | {errno.E2BIG, errno.ENOSPC, errno.ERANGE, errno.ENODATA}

# Privilege that a volume carries would be somebody else's in the next pod.
_PRIVILEGED = ("security.", "trusted.")
KEPT = 0o1777

# Up to here one read and one write; above it the kernel copies, if it can. A piece must not take
# so long that PID 1, which hears of each, would hold the volume for hung.
_SMALL = 64 << 10
_PIECE, _IN_KERNEL = 1 << 20, 4 << 20

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_CHANGED = "it changed while it was copied"


class LeftOutError(Exception):
    """This object cannot be copied, and its text says why; the copy goes on."""


class Ways:
    """How bytes get from one device to the other; a way that fails once is not tried again.

    *in_kernel* is False for FUSE: each request counts there, and `sendfile` makes one of 64 KiB.
    """

    def __init__(self, in_kernel: bool = True) -> None:
        self._ways = [_copy_range, _send] if in_kernel else []

    def piece(self, reader: int, writer: int, count: int) -> int:
        """Copy up to *count* bytes from where both stand; returns how many, 0 at the end."""
        for way in tuple(self._ways):
            try:
                if done := way(reader, writer, min(count, _IN_KERNEL)):
                    return done
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE):
                    raise
                with suppress(ValueError):  # another thread has met the same
                    self._ways.remove(way)
        data = _read(reader, min(count, _PIECE))
        files.write_all(writer, data)
        return len(data)


class Rights:
    """Keeps owners, where we may, and modes; the first refusal of an owner is the answer to all.

    Modes go into the calls that make things, which saves a request each. *masked* are the bits
    that this process's umask takes away there, and those of no such call.
    """

    def __init__(self) -> None:
        self._ours = (os.geteuid(), os.getegid())
        self.kept = self._ours[0] == 0
        umask = os.umask(0o022)
        os.umask(umask)
        self.masked = umask | KEPT & ~0o777

    def give(self, target: int | str, info: os.stat_result, folder: int | None = None) -> None:
        """Give *target* the owner of *info*."""
        if not self.kept or (info.st_uid, info.st_gid) == self._ours:
            return
        try:
            if isinstance(target, int):
                os.chown(target, info.st_uid, info.st_gid)
            else:
                os.chown(target, info.st_uid, info.st_gid, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_SUCH_RIGHTS:
                raise
            self.kept = False  # a squashed export


def copy_file(
    source: int,
    target: int,
    name: str,
    info: os.stat_result,
    ways: Ways,
    rights: Rights,
    moved: Callable[[], None],
) -> os.stat_result:
    """Copy the regular file *name* from the folder *source* into *target*; returns what it was.

    *info* is what a listing said; a file that is another by now, or that changes under the copy,
    is taken once more. *moved* is called as bytes move. Raises LeftOutError, after which the
    target has no such name, and OSError when the volume refuses.
    """
    try:
        reader = os.open(name, _READ, dir_fd=source)
    except OSError as error:
        raise _left_out(error) from error
    try:
        for _ in range(2):
            try:
                writer = os.open(name, _WRITE, info.st_mode & 0o777, dir_fd=target)
            except OSError as error:
                _end_unless(_NAME, error)
            try:
                try:
                    _fill(writer, reader, info, ways, rights, moved)
                finally:
                    os.close(writer)  # on NFS this is where a full volume says so
            except BaseException:
                files.remove(name, target)  # half a file is worse than none
                raise
            now = os.fstat(reader)
            if _same(info, now):
                _set_times(name, info, target)
                return info
            files.remove(name, target)
            if not stat.S_ISREG(now.st_mode):
                break
            os.lseek(reader, 0, os.SEEK_SET)
            info = now
        raise LeftOutError(_CHANGED)
    finally:
        os.close(reader)


def copy_link(source: int, target: int, name: str, info: os.stat_result, rights: Rights) -> None:
    """Copy the symbolic link *name*, literally; errors as in `copy_file`."""
    try:
        to = os.readlink(name, dir_fd=source)
    except OSError as error:
        raise _left_out(error) from error
    try:
        os.symlink(to, name, dir_fd=target)
    except OSError as error:
        _end_unless(_NAME | _NO_LINKS, error)
    rights.give(name, info, target)
    _set_times(name, info, target)


def link(root: SafeRoot, first: str, target: int, name: str) -> bool:
    """Give the copied file *first*, below *root*, a second name; False where that cannot be.

    Raises LeftOutError where the volume will not have this name.
    """
    above, _, last = first.rpartition("/")
    try:
        with root.folder(above) as folder:
            os.link(last, name, src_dir_fd=folder.fd, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS | {errno.EMLINK, errno.ENOENT, errno.EXDEV}:
            _end_unless(_NAME, error)  # "A" where there is an "a", say
        return False
    return True


def make_folder(target: int, name: str, info: os.stat_result) -> None:
    """Make the folder *name*, open to us until it is dressed; one that is there serves."""
    try:
        os.mkdir(name, info.st_mode & 0o777 | 0o700, dir_fd=target)
    except FileExistsError:
        return
    except OSError as error:
        _end_unless(_NAME, error)


def dress_folder(target: int, source: int, info: os.stat_result, rights: Rights) -> None:
    """Give the finished folder *target* what its *source* has: attributes, owner, mode, times."""
    if source >= 0:
        _attributes(source, target)
    rights.give(target, info)
    if info.st_mode & rights.masked or info.st_mode & 0o700 != 0o700:
        _set_mode(target, info)
    _set_times(target, info)


def is_whole(target: int, name: str, info: os.stat_result, source: int) -> bool:
    """Say whether an earlier try finished *name*; what it did not finish is removed.

    Size and time are not enough: a disk may have lost what a killed process wrote.
    """
    try:
        found = os.stat(name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        return False
    stamp = (stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns)
    if stamp == (stat.S_IFMT(info.st_mode), info.st_size, info.st_mtime_ns):
        if stat.S_ISLNK(info.st_mode):
            whole = os.readlink(name, dir_fd=target) == os.readlink(name, dir_fd=source)
        else:
            whole = same_start(source, target, name, info.st_size)
        if whole:
            return True
    os.unlink(name, dir_fd=target)
    return False


def same_start(one: int, other: int, name: str, size: int) -> bool:
    """Say whether *name* has the same first *size* bytes in both folders; raises OSError."""
    a = os.open(name, _READ, dir_fd=one)
    try:
        b = os.open(name, _READ, dir_fd=other)
        try:
            while size > 0:
                piece = os.read(b, min(size, _PIECE))
                if not piece or os.read(a, len(piece)) != piece:
                    return False
                size -= len(piece)
        finally:
            os.close(b)
    finally:
        os.close(a)
    return True


def _fill(
    writer: int,
    reader: int,
    info: os.stat_result,
    ways: Ways,
    rights: Rights,
    moved: Callable[[], None],
) -> None:
    """Give the new file its bytes, and everything but its time."""
    try:
        if 0 < info.st_size <= _SMALL and info.st_blocks * 512 >= info.st_size:
            files.write_all(writer, _read(reader, info.st_size))
        elif info.st_size:
            _bytes(reader, writer, info, ways, moved)
    except OSError as error:
        _end_unless(_TOO_LARGE, error)
    _attributes(reader, writer)
    rights.give(writer, info)
    if info.st_mode & rights.masked:
        _set_mode(writer, info)


def _bytes(
    reader: int, writer: int, info: os.stat_result, ways: Ways, moved: Callable[[], None]
) -> None:
    at = 0
    for start, end in data_parts(reader, info):
        os.lseek(reader, start, os.SEEK_SET)
        os.lseek(writer, start, os.SEEK_SET)
        at = start
        while at < end and (done := ways.piece(reader, writer, end - at)):
            at += done
            moved()
    if at < info.st_size:
        os.ftruncate(writer, info.st_size)  # a hole at the end


def data_parts(reader: int, info: os.stat_result) -> Iterator[tuple[int, int]]:
    """List the parts of the file that hold data, as (start, end)."""
    if not _has_holes(info):
        yield 0, info.st_size
        return
    at = 0
    while at < info.st_size:
        try:
            start = os.lseek(reader, at, os.SEEK_DATA)
            at = os.lseek(reader, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole up to the end
            yield at, info.st_size  # a file system that cannot say
            return
        yield start, at


def _has_holes(info: os.stat_result) -> bool:
    return info.st_blocks * 512 < info.st_size


def _attributes(source: int, target: int) -> None:
    try:
        names = os.listxattr(source)
    except OSError:
        return
    for name in names:
        if name.startswith(_PRIVILEGED):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                raise


def _set_mode(target: int, info: os.stat_result) -> None:
    try:
        os.chmod(target, info.st_mode & KEPT)
    except OSError as error:
        if error.errno not in _NO_SUCH_RIGHTS:
            raise


def _set_times(target: int | str, info: os.stat_result, folder: int | None = None) -> None:
    times = (info.st_atime_ns, info.st_mtime_ns)
    try:
        if isinstance(target, int):
            os.utime(target, ns=times)
        else:
            os.utime(target, ns=times, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_SUCH_RIGHTS:
            raise


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (
        one.st_ctime_ns == other.st_ctime_ns
        and one.st_mtime_ns == other.st_mtime_ns
        and one.st_size == other.st_size
        and one.st_ino == other.st_ino
        and one.st_mode == other.st_mode
    )


def _read(reader: int, count: int) -> bytes:
    try:
        return os.read(reader, count)
    except OSError as error:
        raise _left_out(error) from error


def _end_unless(harmless: frozenset[int], error: OSError) -> NoReturn:
    """Leave this one object out, if *error* is one of the *harmless*; else end the copy."""
    if error.errno in harmless:
        raise _left_out(error) from error
    raise error


def _left_out(error: OSError) -> LeftOutError:
    return LeftOutError(reason(error))


def _copy_range(reader: int, writer: int, count: int) -> int:
    return os.copy_file_range(reader, writer, count)


def _send(reader: int, writer: int, count: int) -> int:
    return os.sendfile(writer, reader, None, count)
