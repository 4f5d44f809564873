"""Copy one tree into a fresh folder: everything a home holds, nothing followed, nothing shared."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from workspace_agent.host import files
from workspace_agent.model.recipe import matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

# These say "the volume, not this file": going on would only lose more.
_FATAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS})

_PIECE = 1 << 20

# A set-uid bit that a volume carries would be somebody else's privilege in the next pod.
_MODE = 0o1777


@dataclass
class Copied:
    """What a copy did: *skipped* lists (path below the source, reason)."""

    files: int = 0
    bytes: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class _Job:
    """One copy under way. (A dataclass without a docstring asks `inspect` to write one: 1 ms.)"""

    source: str
    prune: Collection[tuple[int, int]]
    exclude: Sequence[str]
    tell: Callable[[str], None]
    done: Copied = field(default_factory=Copied)
    links: dict[tuple[int, int], str] = field(default_factory=dict)


def copy_tree(
    source: str,
    target: str,
    *,
    prune: Collection[tuple[int, int]] = (),
    exclude: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Copied:
    """Copy what is in *source* into the folder *target*, which must be there and empty.

    Modes (without set-id bits), mtimes, symbolic and hard links are kept as far as the volume
    takes them. Folders in *prune* (device, inode) are left out; other devices, special files and
    what cannot be read are left out and listed.
    Raises OSError when the volume itself refuses (full, read-only, stale, input/output error).
    """
    job = _Job(source, prune, exclude, tell)
    _folder(job, "", target, os.lstat(source).st_dev)
    return job.done


def _folder(job: _Job, below: str, target: str, device: int) -> None:
    here = f"{job.source}/{below}" if below else job.source
    try:
        with os.scandir(here) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        job.done.skipped.append((below, os.strerror(error.errno or 0)))
        return
    for entry in entries:
        name = f"{below}/{entry.name}" if below else entry.name
        if any(matches(name, glob) for glob in job.exclude):
            continue
        try:
            _entry(job, name, entry.path, f"{target}/{entry.name}", device)
        except OSError as error:
            if error.errno in _FATAL:
                raise
            job.done.skipped.append((name, os.strerror(error.errno or 0)))
    _dress(target, os.lstat(here))


def _entry(job: _Job, name: str, path: str, target: str, device: int) -> None:
    job.tell(f"{job.done.files} files")
    info = os.lstat(path)
    if stat.S_ISDIR(info.st_mode):
        if (info.st_dev, info.st_ino) in job.prune:
            return
        if info.st_dev != device:
            job.done.skipped.append((name, "on another device"))
            return
        os.mkdir(target, 0o700)
        _folder(job, name, target, device)
    elif stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(path), target)
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)
    elif stat.S_ISREG(info.st_mode):
        _file(job, path, target, info)
    else:
        job.done.skipped.append((name, "a special file"))


def _file(job: _Job, path: str, target: str, info: os.stat_result) -> None:
    first = job.links.get((info.st_dev, info.st_ino))
    if first is not None and _linked(first, target):
        return
    reader = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _write(reader, target, info, job)
    finally:
        os.close(reader)
    if info.st_nlink > 1:
        job.links[(info.st_dev, info.st_ino)] = target
    job.done.files += 1
    job.done.bytes += info.st_size
    job.tell(f"{job.done.files} files")


def _write(reader: int, target: str, info: os.stat_result, job: _Job) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    writer = os.open(target, flags, 0o600)
    try:
        try:
            while piece := os.read(reader, _PIECE):
                files.write_all(writer, piece)
                job.tell(f"{job.done.files} files")
            _dress(writer, info)
        finally:
            os.close(writer)  # on NFS this is where a full volume says so
    except OSError:
        files.remove(target)  # half a file is worse than none
        raise


def _linked(first: str, target: str) -> bool:
    try:
        os.link(first, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _FATAL:
            raise
        return False  # a volume without hard links gets a second copy
    return True


def _dress(target: str | int, info: os.stat_result) -> None:
    """Give *target* the mode and times of *info*; volumes without such things refuse that."""
    try:
        os.chmod(target, info.st_mode & _MODE)
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
