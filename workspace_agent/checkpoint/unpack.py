"""What `carried.pack` took along, put where it was, so that it can be undone to the last time."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from workspace_agent.checkpoint import tar
from workspace_agent.checkpoint.carried import is_carried
from workspace_agent.checkpoint.journal import ASIDE, DIRECTORY, MADE, MOVED, Journal, described
from workspace_agent.checkpoint.tar import Member
from workspace_agent.host import files
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.host.transfer import Ways

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.checkpoint.roots import Roots

    Act = tuple[Callable[..., None], tuple[object, ...]]

# One write of the journal for so many members.
_AT_ONCE = 256

# Up to here one read and one write; above it the kernel copies. And no more is compared: a file of
# the same size, time, mode and owner is one that the image or the boot made, and those are small.
_SMALL = 1 << 20

# Where what is in the way is moved: only root may write at the top.
_ASIDES = ("", "var/tmp", "tmp")

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class Unpacked:
    """How many *files* were written, and the *bytes* of them; *same* were there already."""

    files: int = 0
    bytes: int = 0
    same: int = 0


def unpack(
    source: int, roots: Roots, journal: str, tell: Callable[[str], None] = lambda _: None
) -> Unpacked:
    """Put what the archive *source* has below the top of *roots*; *journal* is a file to be made.

    Whatever happens, `undo` brings back what was; after a success that is `commit`'s to forget.
    Raises AgentError for an archive that is not whole, and OSError.
    """
    notes = Journal(journal)
    work = _Unpacking(source, roots, notes)
    try:
        found = tar.members(source)
        while batch := list(islice(found, _AT_ONCE)):
            for one in batch:
                work.plan(one)
            notes.write()
            work.act()
            tell(f"{work.done.files} files unpacked")
        work.finish()
    finally:
        notes.close()
        work.close()
    return work.done


class _Unpacking:
    """An archive being unpacked: acts are planned and noted a batch at a time, and then done."""

    def __init__(self, source: int, roots: Roots, notes: Journal) -> None:
        self._source, self._roots, self._notes = source, roots, notes
        self._ways = Ways()
        self._acts: list[Act] = []
        self._met: set[str] = set()
        self._made: set[str] = set()  # folders that were not there
        self._noted: dict[str, os.stat_result] = {}  # folders that were
        self._gone: set[str] = set()  # of those: no longer to be given their times
        self._dressed: list[Member] = []
        self._asides: dict[str, tuple[str, SafeRoot]] = {}
        self._number = 0
        self.done = Unpacked()

    def close(self) -> None:
        """Let go of what is open."""
        for _, aside in self._asides.values():
            os.close(aside.fd)

    def plan(self, one: Member) -> None:
        """Say what has to be done for *one*."""
        if one.path in self._met:
            raise tar.wrong(f"{one.path!a} comes twice")
        self._met.add(one.path)
        if one.path.rpartition("/")[0] in self._made:
            self._make_later(one)  # all of the folder goes when this is undone
            return
        info = self._look(one.path)
        if one.deleted:
            if info:
                self._clear(one.path, info)
        elif info is None:
            self._note_above(one.path)
            self._notes.note(MADE, one.path)
            self._make_later(one)
        elif stat.S_ISDIR(info.st_mode):
            if one.kind == tar.FOLDER:
                self._note_folder(one.path)
                self._dressed.append(one)
            else:
                self._clear(one.path, info)
                self._make_later(one)
        elif one.kind == tar.FOLDER:
            self._clear(one.path, info)
            self._make_later(one)
        elif self._is_same(one, info):
            self.done.same += 1
        else:
            self._note_above(one.path)
            self._acts.append((self._replace, (one, *self._note_aside(one.path))))

    def act(self) -> None:
        """Do what was planned and noted."""
        self._roots.forget()
        for act, words in self._acts:
            act(*words)
        self._acts.clear()
        self._roots.forget()

    def finish(self) -> None:
        """Give the folders their modes and times, the deepest first: all is in them now."""
        for one in reversed(self._dressed):
            with self._roots.folder(one.path) as folder:
                _dress(folder.fd, one)
            self._gone.add(one.path)
        for path in self._noted.keys() - self._gone:
            info = self._noted[path]
            with self._roots.folder(path) as folder, suppress(PermissionError):  # another's
                os.utime(folder.fd, ns=(info.st_atime_ns, info.st_mtime_ns))

    def _look(self, path: str) -> os.stat_result | None:
        try:
            return self._roots.look(path)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return None  # a link that this very batch may replace; else its act is refused

    def _make_later(self, one: Member) -> None:
        if one.kind == tar.FOLDER:
            self._made.add(one.path)
        self._acts.append((self._make, (one,)))

    def _clear(self, path: str, info: os.stat_result) -> None:
        """Plan to move away what stands at *path*; a folder of an image cannot be moved as one."""
        self._note_above(path)
        if not stat.S_ISDIR(info.st_mode):
            self._acts.append((self._move, (path, *self._note_aside(path))))
            return
        self._note_folder(path)
        with self._roots.folder(path) as folder:
            inside = [(name, folder.look(name)) for name in folder.names()]
        for name, below in inside:
            if below:
                self._clear(f"{path}/{name}", below)
        self._acts.append((self._remove_folder, (path,)))

    def _note_above(self, path: str) -> None:
        above = path.rpartition("/")[0]
        if above not in self._noted and above not in self._made and self._look(above):
            self._note_folder(above)

    def _note_folder(self, path: str) -> None:
        if path not in self._noted:
            with self._roots.folder(path) as folder:
                self._noted[path] = os.fstat(folder.fd)
                self._notes.note(DIRECTORY, path, *described(folder.fd))

    def _note_aside(self, path: str) -> tuple[SafeRoot, str]:
        """Return the folder, and the name in it, that *path* is to be moved to."""
        point = self._roots.point(path)
        if point not in self._asides:
            self._asides[point] = self._new_aside(point)
        name, aside = self._asides[point]
        self._number += 1
        self._notes.note(MOVED, path, name, str(self._number))
        return aside, str(self._number)

    def _new_aside(self, point: str) -> tuple[str, SafeRoot]:
        for above in _ASIDES:
            name = f"{point}/{above}".strip("/")
            if self._look(name) is None or self._roots.point(name) != point:
                continue
            self._note_folder(name)
            path = f"{name}/.carried-{os.urandom(8).hex()}".lstrip("/")
            self._notes.note(ASIDE, path)
            self._notes.write()
            try:
                with self._roots.folder(name) as folder:
                    os.mkdir(path.rpartition("/")[2], 0o700, dir_fd=folder.fd)
            except PermissionError:
                continue
            return path, self._roots.folder(path)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"/{point}")

    def _move(self, path: str, aside: SafeRoot, name: str) -> None:
        above = self._roots.above(path)
        os.rename(path.rpartition("/")[2], name, src_dir_fd=above, dst_dir_fd=aside.fd)

    def _remove_folder(self, path: str) -> None:
        self._roots.forget()
        self._gone.add(path)
        os.rmdir(path.rpartition("/")[2], dir_fd=self._roots.above(path))

    def _replace(self, one: Member, aside: SafeRoot, name: str) -> None:
        """Put a file in the place of another one in one step: it may be the C library."""
        self._make(one, aside.fd, f"{name}.new")
        above, last = self._roots.above(one.path), one.path.rpartition("/")[2]
        try:
            os.link(last, name, src_dir_fd=above, dst_dir_fd=aside.fd, follow_symlinks=False)
        except OSError:  # no such links here, or not of a file of somebody else
            os.rename(last, name, src_dir_fd=above, dst_dir_fd=aside.fd)
        os.rename(f"{name}.new", last, src_dir_fd=aside.fd, dst_dir_fd=above)

    def _make(self, one: Member, above: int = -1, name: str = "") -> None:
        if not name:
            above, name = self._roots.above(one.path), one.path.rpartition("/")[2]
        if one.kind == tar.FILE:
            self._file(one, above, name)
        elif one.kind == tar.FOLDER:
            os.mkdir(name, one.mode & 0o777 | 0o700, dir_fd=above)
            self._dressed.append(one)
        elif one.kind == tar.HARD:
            with self._roots.folder(one.to.rpartition("/")[0]) as first:
                os.link(one.to.rpartition("/")[2], name, src_dir_fd=first.fd, dst_dir_fd=above,
                        follow_symlinks=False)  # fmt: skip
        else:
            if one.kind == tar.LINK:
                os.symlink(one.to, name, dir_fd=above)
            else:
                os.mkfifo(name, 0o600, dir_fd=above)
                os.chmod(name, one.mode, dir_fd=above)
            with suppress(PermissionError):  # it is ours, then, or it could not be carried
                os.chown(name, one.uid, one.gid, dir_fd=above, follow_symlinks=False)
            times = (one.mtime_ns, one.mtime_ns)
            os.utime(name, ns=times, dir_fd=above, follow_symlinks=False)

    def _file(self, one: Member, above: int, name: str) -> None:
        fd = os.open(name, _CREATE, one.mode & 0o777, dir_fd=above)
        try:
            at = one.at
            for start, length in ((0, one.size),) if one.parts is None else one.parts:
                self._bytes(fd, start, at, length)
                at += length
            if one.parts is not None:
                os.ftruncate(fd, one.size)
            _dress(fd, one)
        finally:
            os.close(fd)
        self.done.files += 1
        self.done.bytes += one.size

    def _bytes(self, fd: int, start: int, at: int, length: int) -> None:
        if start:
            os.lseek(fd, start, os.SEEK_SET)
        if 0 < length <= _SMALL:
            files.write_all(fd, os.pread(self._source, length, at))
            return
        os.lseek(self._source, at, os.SEEK_SET)
        while length and (done := self._ways.piece(self._source, fd, length)):
            length -= done

    def _is_same(self, one: Member, info: os.stat_result) -> bool:
        """Say whether what stands there is *one* already."""
        if stat.S_IFMT(info.st_mode) != _FORMATS.get(one.kind) or one.parts is not None:
            return False
        wanted = (one.mode, one.uid, one.gid, one.mtime_ns)
        if wanted != (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns):
            return False
        above, name = self._roots.above(one.path), one.path.rpartition("/")[2]
        if one.kind == tar.LINK:
            return os.readlink(name, dir_fd=above) == one.to
        if one.kind != tar.FILE or info.st_size != one.size or one.size > _SMALL:
            return False
        fd = os.open(name, _READ, dir_fd=above)
        try:
            xattrs = {key for key in os.listxattr(fd) if is_carried(key)}
            same = xattrs == {key for key, _ in one.xattrs}
            return same and os.pread(fd, one.size, 0) == os.pread(self._source, one.size, one.at)
        finally:
            os.close(fd)


_FORMATS = {tar.FILE: stat.S_IFREG, tar.LINK: stat.S_IFLNK}


def _dress(fd: int, one: Member) -> None:
    """Give an open file or folder its owner, mode, attributes and time, in this order.

    An owner that is another's takes the right to be run as that one, and attributes, with it.
    """
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (one.uid, one.gid):
        os.chown(fd, one.uid, one.gid)
        now = os.fstat(fd)
    if stat.S_IMODE(now.st_mode) != one.mode:
        os.chmod(fd, one.mode)
    for name, value in one.xattrs:
        with suppress(OSError):  # a file system without such
            os.setxattr(fd, name, value)
    os.utime(fd, ns=(one.mtime_ns, one.mtime_ns))
