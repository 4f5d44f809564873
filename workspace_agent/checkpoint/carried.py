"""Files outside the volume, in one archive beside the images of the processes that have them open.

CRIU opens every file by its name again, and refuses one of another size: so what the container's
own layer and its tmpfs mounts hold has to be there first, as it was when the processes were frozen.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from workspace_agent.checkpoint import tar
from workspace_agent.checkpoint.tar import Member
from workspace_agent.host import files
from workspace_agent.host.transfer import Ways, data_parts
from workspace_agent.host.walk import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workspace_agent.checkpoint.roots import Roots

# Up to here one read; above it the kernel copies.
_SMALL = 64 << 10

# So much is written at once.
_ENOUGH = 1 << 20

# A file in more pieces than this is carried without its holes: their list has to be read at once.
_MOST_PARTS = 10_000

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# CRIU makes sockets again. A pipe with a name it opens, and so one has to be there.
_KINDS = {stat.S_IFREG: tar.FILE, stat.S_IFLNK: tar.LINK, stat.S_IFDIR: tar.FOLDER,
          stat.S_IFIFO: tar.PIPE}  # fmt: skip
_SOCKET, _DEVICE = "a socket", "a device"


@dataclass
class Packed:
    """How many *files* and *bytes* of theirs an archive has; *left* are (path, why) of others."""

    files: int = 0
    bytes: int = 0
    left: list[tuple[str, str]] = field(default_factory=list)


def pack(
    paths: Iterable[str],
    deleted: Iterable[str],
    roots: Roots,
    out: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Packed:
    """Write what stands at *paths*, and that *deleted* is gone, to the open file *out*.

    All are relative to the top of *roots*; a folder comes before what is in it, and only itself.
    Raises OSError when the bytes cannot be written.
    """
    packing = _Packing(roots, out, tell)
    for path in deleted:
        packing.add(tar.header(Member(path, tar.FILE, deleted=True)))
    for path in paths:
        try:
            packing.take(path)
        except _LeftError as error:
            packing.done.left.append((path, str(error)))
    packing.add(tar.END)
    packing.flush()
    return packing.done


class _LeftError(Exception):
    """It is not carried, and this is why."""


class _Packing:
    """An archive being written."""

    def __init__(self, roots: Roots, out: int, tell: Callable[[str], None]) -> None:
        self._roots, self._out, self._tell = roots, out, tell
        self._pending: list[bytes] = []
        self._waiting = 0
        self._firsts: dict[tuple[int, int], str] = {}
        self._ways = Ways()
        self.done = Packed()

    def add(self, data: bytes) -> None:
        """Write *data*, soon."""
        self._pending.append(data)
        self._waiting += len(data)
        if self._waiting >= _ENOUGH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        files.write_all(self._out, b"".join(self._pending))
        self._pending.clear()
        self._waiting = 0
        self._tell(f"{self.done.files} files packed")

    def take(self, path: str) -> None:
        """Add what stands at *path*."""
        name = path.rpartition("/")[2]
        try:
            above = self._roots.above(path)
            info = os.stat(name, dir_fd=above, follow_symlinks=False)
            kind = _KINDS.get(stat.S_IFMT(info.st_mode))
            if kind is None:
                raise _LeftError(_SOCKET if stat.S_ISSOCK(info.st_mode) else _DEVICE)
            to = os.readlink(name, dir_fd=above) if kind == tar.LINK else ""
            fd = os.open(name, _READ, dir_fd=above) if kind in (tar.FILE, tar.FOLDER) else -1
        except OSError as error:
            raise _LeftError(reason(error)) from error
        try:
            self._write(path, info, kind, to, fd)
        finally:
            if fd >= 0:
                os.close(fd)

    def _write(self, path: str, info: os.stat_result, kind: bytes, to: str, fd: int) -> None:
        one = Member(path, kind, info.st_mode & 0o7777, info.st_uid, info.st_gid,
                     mtime_ns=info.st_mtime_ns, to=to)  # fmt: skip
        if kind != tar.FILE:
            one.xattrs = _xattrs(fd) if fd >= 0 else ()
            self.add(tar.header(one))
            return
        if info.st_nlink > 1:
            one.to = self._firsts.setdefault((info.st_dev, info.st_ino), path)
            if one.to != path:
                one.kind = tar.HARD
                self.add(tar.header(one))
                return
            one.to = ""
        one.size, one.xattrs = info.st_size, _xattrs(fd)
        if info.st_blocks * 512 < info.st_size:
            parts = tuple((start, end - start) for start, end in data_parts(fd, info))
            one.parts = parts if len(parts) <= _MOST_PARTS else None
        self.done.files += 1
        self.done.bytes += one.size
        self.add(tar.header(one))
        if not self._bytes(fd, one):
            raise _LeftError("it became shorter meanwhile: its end is missing")

    def _bytes(self, fd: int, one: Member) -> bool:
        """Write the bytes; what a file that became shorter lacks is nothing but zeros."""
        total = missing = 0
        for start, length in ((0, one.size),) if one.parts is None else one.parts:
            total += length
            if length <= _SMALL:
                data = os.pread(fd, length, start)
                self.add(data.ljust(length, b"\0"))
                missing += length - len(data)
                continue
            self.flush()
            os.lseek(fd, start, os.SEEK_SET)
            left = length
            while left and (done := self._ways.piece(fd, self._out, left)):
                left -= done
            os.lseek(self._out, left, os.SEEK_CUR)
            missing += left
        self.add(tar.padding(total))
        return not missing


def _xattrs(fd: int) -> tuple[tuple[str, bytes], ...]:
    """Return the attributes that the container's own files may have."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return ()
    return tuple((name, os.getxattr(fd, name)) for name in names if is_carried(name))


def is_carried(attribute: str) -> bool:
    """Say whether an attribute is the file's own: labels of the machine's security are not."""
    return not attribute.startswith(("security.", "trusted.")) or (
        attribute == "security.capability"
    )
