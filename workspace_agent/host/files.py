"""The one atomic writer, and small reads that cannot hurt.

`os` only: PID 1 uses this module before it starts the workload.
"""

from __future__ import annotations

import errno
import stat

from workspace_agent.host.chalf import os

# Process numbers repeat from pod to pod, and pods share volumes.
_TOKEN = os.urandom(4).hex()

# State files are a few KiB; a larger one is not ours.
READ_LIMIT = 1 << 20


def commit(
    path: str,
    text: str | bytes,
    mode: int = 0o644,
    *,
    durable: bool = False,
    dir_fd: int | None = None,
) -> None:
    """Replace *path* by *text* in one step: readers see the old file or the new one, whole.

    The temporary name stands beside the target, is created exclusively and never followed.
    With *durable* the bytes and the name are synced. Raises OSError; the old file then stays.
    """
    temporary = prepare(path, text, mode, durable=durable, dir_fd=dir_fd)
    try:
        os.replace(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        remove(temporary, dir_fd)
        raise
    if durable:
        sync_dir(os.path.dirname(path), dir_fd)


def prepare(
    path: str, text: str | bytes, mode: int, *, durable: bool, dir_fd: int | None = None
) -> str:
    """Write *text* beside *path*, for `commit`; returns the temporary name. Raises OSError."""
    data = text if isinstance(text, bytes) else os.fsencode(text)
    temporary = temporary_name(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, mode, dir_fd=dir_fd)
    except FileExistsError:
        os.unlink(temporary, dir_fd=dir_fd)  # left by a killed boot that had our pid
        fd = os.open(temporary, flags, mode, dir_fd=dir_fd)
    try:
        try:
            os.fchmod(fd, mode)  # the umask has no say
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        remove(temporary, dir_fd)
        raise
    return temporary


def temporary_name(path: str) -> str:
    """Return where `commit` prepares *path*: no other process has this name, in any pod."""
    return f"{path}.{os.getpid()}-{_TOKEN}.new"


def write_in_place(path: str, text: str) -> None:
    """Overwrite an existing file that cannot be renamed over, such as a bind-mounted one.

    It is shortened last: a kill in between must not leave it empty. Raises OSError, also when it
    does not exist or is a symbolic link.
    """
    data = os.fsencode(text)
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        write_all(fd, data)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def read(path: str, limit: int = READ_LIMIT, dir_fd: int | None = None) -> bytes | None:
    """Return the bytes of a regular file, or None when it is absent, unreadable or over *limit*."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = os.read(fd, limit + 1)
        while 0 < len(data) <= limit:
            more = os.read(fd, limit + 1 - len(data))
            if not more:
                break
            data += more
    except OSError:
        return None
    finally:
        os.close(fd)
    return data if len(data) <= limit else None


def exists(path: str) -> bool:
    """Say whether something, even a dangling link, has this name."""
    try:
        os.lstat(path)
    except OSError as error:
        # Only these two mean absent; EIO or EACCES must not make us write over something.
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return True


def is_folder(path: str) -> bool:
    """Say whether *path* is a folder and not a link to one: on a volume, anybody plants links."""
    try:
        return os.lstat(path).st_mode & 0o170000 == 0o040000
    except OSError:
        return False


def remove(path: str, dir_fd: int | None = None) -> None:
    """Remove *path* if it is there; what cannot be removed stays."""
    try:
        os.unlink(path, dir_fd=dir_fd)
    except OSError:
        return


def write_all(fd: int, data: bytes) -> None:
    """Write the whole of *data*; short writes go on, errors raise OSError."""
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def sync_dir(path: str, dir_fd: int | None = None) -> None:
    """Make the names in *path* durable where the file system can; some refuse it on folders."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(fd)
