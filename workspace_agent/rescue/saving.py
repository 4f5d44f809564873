"""The saver: bytes in batches, each durable before its lines; what cannot be saved is named."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic

from workspace_agent.host.files import write_all
from workspace_agent.host.room import room
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import counted, size
from workspace_agent.rescue import databases, whole
from workspace_agent.rescue.lines import FILE, FOLDER, LINK, Saved, decode, encode
from workspace_agent.rescue.packs import SMALL
from workspace_agent.rescue.reading import (
    LateError,
    LeftError,
    Meter,
    chunks,
    extents,
    is_torn,
    line_of,
    type_of,
    xattrs,
)  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.model.atrisk import Entry
    from workspace_agent.rescue.run import Run

# A batch: what a kill may cost, against one sync for each.
_FILES, _BYTES, _SECS = 256, 8 << 20, 1.0

# The same bytes are looked for among files of at least this size.
_TWICE = 64 << 10


class VolumeError(Exception):
    """The volume refused; nothing more can be saved."""


@dataclass
class Outcome:
    """What came of it: *left* are the entries that are not saved, and why each is not.

    *bytes* were written in *secs*; *problem* says why it ended early.
    """

    saved: int = 0
    unchanged: int = 0
    left: list[tuple[Entry, str]] = field(default_factory=list)
    bytes: int = 0
    secs: float = 0.0
    problem: Problem | None = None


class Saving:
    """One call of `Run.save`."""

    def __init__(
        self,
        run: Run,
        top: SafeRoot,
        until: float | None,
        rate: float,
        refuse: Mapping[str, str],
        is_written: Callable[[str], bool],
        tell: Callable[[str], None],
    ) -> None:
        self._run, self._top, self._refuse, self._tell = run, top, refuse, tell
        self._is_written, self._until = is_written, until
        self._meter = Meter(until, rate)
        self._done = Outcome()
        self._batch: list[tuple[Entry, Saved]] = []
        self._began, self._in_batch = 0.0, 0
        self._free = self._quota = -1  # -1: as much as there is
        self._same = {
            _key(one): one for one in run.known.saved.values() if one.stored >= _TWICE
        }  # fmt: skip

    def all(self, entries: Sequence[Entry]) -> Outcome:
        """Save them in order, as far as it goes."""
        began = monotonic()
        try:
            self._measure()
            for n, entry in enumerate(entries):
                try:
                    self._meter.check()
                    self._one(entry)
                except LateError:
                    self._leave(entries[n:], "no time was left")
                    break
                except LeftError as error:
                    self._leave([entry], str(error))
                except OSError as error:
                    self._leave([entry], os.strerror(error.errno or 0))
                except VolumeError:
                    in_batch = bool(self._batch) and self._batch[-1][0] is entry
                    self._leave(entries[n + in_batch :], "the volume refused it")
                    raise
            self._flush()
            self._run.compact()
        except VolumeError as error:
            self._give_up(error)
        self._done.secs = monotonic() - began
        return self._done

    def _leave(self, entries: Iterable[Entry], why: str) -> None:
        self._done.left += [(entry, why) for entry in entries]

    def _give_up(self, error: VolumeError) -> None:
        """Keep what is there: what was written so far may still get its lines."""
        try:
            self._flush()
        except VolumeError:
            self._leave((entry for entry, _ in self._batch), "the volume refused it")
            self._batch.clear()
        self._run.packs.close()
        self._done.problem = Problem(
            "rescue.not-saved",
            f"{counted(len(self._done.left), 'file')} outside the volume could not be saved",
            str(error),
            "make room on the volume, or keep such files on it in the first place",
            self._run.store.top.path,
        )

    def _one(self, entry: Entry) -> None:
        if why := self._refuse.get(entry.kind):
            raise LeftError(why)
        kind = type_of(entry.mode)
        known = self._run.known.saved.get(entry.path)
        if known and self._is_unchanged(entry, known, kind):
            if entry.path in self._run.own.saved:
                self._done.unchanged += 1
            else:
                self._add(entry, known, 0)
        elif kind == FOLDER:
            self._add(entry, replace(line_of(entry, entry, self._image), size=0), 0)
        elif kind == LINK:
            above, _, name = entry.path[1:].rpartition("/")
            with self._top.folder(above) as folder:
                to = os.readlink(name, dir_fd=folder.fd)
            self._add(entry, replace(line_of(entry, entry, self._image), to=to), 0)
        else:
            self._file(entry)

    @property
    def _image(self) -> str:
        return self._run.header.image

    def _is_unchanged(self, entry: Entry, known: Saved, kind: str) -> bool:
        now = line_of(entry, entry, "")
        same = (known.type, known.mode, known.uid, known.gid) == (kind, now.mode, now.uid, now.gid)
        if kind == FOLDER or not same or known.torn:
            return same
        if known.backup:  # its size is that of the backup, and changes may be in the log beside it
            return known.mtime_ns == max(entry.mtime_ns, databases.log(self._top, entry.path)[1])
        return (known.size, known.mtime_ns) == (entry.size, entry.mtime_ns)

    def _file(self, entry: Entry) -> None:
        key = (entry.device, entry.inode)
        first = self._run.firsts.get(key) if entry.links > 1 else None
        if first and (first.size, first.mtime_ns) == (entry.size, entry.mtime_ns):
            if first.path != entry.path:
                first = replace(first, path=entry.path, hard=first.path, kind=entry.kind)
            self._add(entry, first, 0)
            return
        if databases.is_part(self._top, entry.path):
            raise LeftError("part of the database beside it, which is saved as a whole")
        fd = self._top.open(entry.path[1:], os.O_RDONLY)
        try:
            if type_of(os.fstat(fd).st_mode) != FILE:
                raise LeftError("it is something else by now")
            is_database = databases.is_one(fd)
            saved, written = (self._database if is_database else self._settled)(entry, fd)
        finally:
            os.close(fd)
        self._add(entry, saved, written)
        if entry.links > 1 and not saved.torn:
            self._run.firsts[key] = saved

    def bytes_of(self, entry: Entry) -> Saved:
        """Store the bytes of a file, durably, without a line that counts; raises OSError."""
        fd = self._top.open(entry.path[1:], os.O_RDONLY)
        try:
            saved, _ = self._settled(entry, fd)
            self._run.packs.sync()
        except VolumeError as error:
            raise OSError(errno.EIO, str(error)) from error
        finally:
            os.close(fd)
        return saved

    def _settled(self, entry: Entry, fd: int) -> tuple[Saved, int]:
        """Store the file, and say how much was written; one that changes is taken once more."""
        if whole.is_checkpoint(entry.kind) and (why := self._unfinished(entry, fd)):
            raise LeftError(f"not complete: {why}")
        for last in (False, True):
            info = os.fstat(fd)
            parts = extents(fd, info)
            length = info.st_size if parts is None else sum(n for _, n in parts)
            line = line_of(entry, info, self._image)
            line = replace(line, extents=parts or (), stored=length, xattrs=xattrs(fd))
            self._fits(length)
            if length <= SMALL:
                data = b"".join(chunks(fd, line.parts, self._meter))
                name, digest, read = "", hashlib.sha256(data).hexdigest(), len(data)
            else:
                name, digest, read = self._large(fd, line)
            torn = read != length or is_torn(info, os.fstat(fd), entry.kind)
            if torn and (not last or read != length or whole.is_checkpoint(entry.kind)):
                self._drop(name)
                continue
            line = replace(line, sha256=digest if length else "", torn=torn)
            if same := self._twin(line):
                self._drop(name)
                line, length = replace(line, file=same.file, at=same.at), 0
            elif name:
                line = replace(line, file=name)
            elif length:
                with _volume():
                    file, at = self._run.packs.put(data)
                line = replace(line, file=file, at=at)
            return line, length
        raise LeftError("it was being written, twice")

    def _unfinished(self, entry: Entry, fd: int) -> str:
        if self._is_written(entry.path):
            return "a process writes it"
        for suffix in whole.UNDER_WAY:
            if entry.path.endswith(suffix) or self._top.look(entry.path[1:] + suffix):
                return f"there is a {suffix} file"
        return whole.unfinished(entry.path, os.fstat(fd).st_size, lambda at, n: os.pread(fd, n, at))

    def _large(self, fd: int, line: Saved) -> tuple[str, str, int]:
        """Copy what is large to a file of its own; returns its name, its digest, its bytes."""
        digest, read = hashlib.sha256(), 0
        if any(one.stored == line.stored for one in self._same.values()):
            for data in chunks(fd, line.parts, self._meter):  # moved, maybe: no bytes then
                digest.update(data)
                read += len(data)
            if self._twin(replace(line, sha256=digest.hexdigest())):
                return "", digest.hexdigest(), read
            digest, read = hashlib.sha256(), 0
        with _volume():
            name, out = self._run.packs.alone()
        try:
            for data in chunks(fd, line.parts, self._meter):
                digest.update(data)
                read += len(data)
                with _volume():
                    write_all(out, data)
            with _volume():
                os.fsync(out)
        except BaseException:
            self._drop(name)
            raise
        finally:
            os.close(out)
        return name, digest.hexdigest(), read

    def _database(self, entry: Entry, fd: int) -> tuple[Saved, int]:
        """Store a database by its own means; its bytes alone may be of no use."""
        info = os.fstat(fd)
        extra, stamp = databases.log(self._top, entry.path)
        line = replace(line_of(entry, info, self._image), backup=True, xattrs=xattrs(fd))
        line = replace(line, mtime_ns=max(info.st_mtime_ns, stamp))
        self._fits(info.st_size + extra)
        if info.st_size + extra <= databases.IN_MEMORY:
            data = databases.copied(self._top, entry.path, fd, self._until)
            line = replace(line, sha256=hashlib.sha256(data).hexdigest(), stored=len(data))
            same = self._twin(line)
            with _volume():
                file, at = (same.file, same.at) if same else self._run.packs.put(data)
            written = 0 if same else len(data)
        else:
            at = 0
            with _volume():
                file, out = self._run.packs.alone()
            try:
                place = f"/proc/self/fd/{self._run.store.data.fd}/{file}"
                databases.copied(self._top, entry.path, fd, self._until, place)
                with _volume():
                    os.fsync(out)
                digest, written = hashlib.sha256(), os.fstat(out).st_size
                for data in chunks(out, ((0, written),), self._meter):
                    digest.update(data)
                line = replace(line, sha256=digest.hexdigest(), stored=written)
            except BaseException:
                self._drop(file)
                raise
            finally:
                os.close(out)
        return replace(line, file=file, at=at, size=line.stored), written

    def _drop(self, name: str) -> None:
        if name:
            self._run.packs.drop(name)

    def _twin(self, line: Saved) -> Saved | None:
        return self._same.get(_key(line)) if line.stored >= _TWICE else None

    def _add(self, entry: Entry, line: Saved, written: int) -> None:
        """Have the line written with its batch."""
        if decode(encode(line)) is None:
            raise LeftError("there is no way to write down its name")
        if not self._batch:
            self._began = monotonic()
        self._batch.append((entry, line))
        self._in_batch += written
        self._done.bytes += written
        if line.stored >= _TWICE:
            self._same.setdefault(_key(line), line)
        full = len(self._batch) >= _FILES or self._in_batch >= _BYTES
        if full or monotonic() - self._began >= _SECS:
            self._flush()

    def _flush(self) -> None:
        """Bytes first, then the lines that name them."""
        if self._batch:
            with _volume():
                self._run.packs.sync()
                self._run.write([line for _, line in self._batch])
            self._done.saved += len(self._batch)
            self._batch.clear()
            self._in_batch = 0
            self._measure()
            self._tell(f"{counted(self._done.saved, 'file')} saved")

    def _measure(self) -> None:
        """See how much room there is; asked once for a batch."""
        run = self._run
        with _volume():
            if run.min_free:
                self._free = max(0, room(run.store.top.path).free - run.min_free)
            if run.most:
                self._quota = max(0, run.most - run.store.used())

    def _fits(self, count: int) -> None:
        for left, name in ((self._free, "on the volume"), (self._quota, "for what is saved")):
            if 0 <= left < self._in_batch + count:
                raise LeftError(f"there is no room left {name}: it has {size(count)}")


def _key(line: Saved) -> tuple[object, ...]:
    return line.sha256, line.stored, line.size, line.extents


@contextmanager
def _volume() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VolumeError(os.strerror(error.errno or 0)) from error


def keeping(run: Run, top: SafeRoot, entry: Entry) -> Saved:
    """Store the bytes of *entry* in *run*, without a line; raises OSError, ValueError."""
    try:
        return Saving(run, top, None, 0, {}, lambda _: False, lambda _: None).bytes_of(entry)
    except LeftError as error:
        raise ValueError(str(error)) from error
