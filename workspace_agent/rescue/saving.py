"""The saver: bytes in batches, each durable before its lines; what cannot be saved is named."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from hashlib import sha256
from time import monotonic, time_ns

from workspace_agent.host.files import write_all
from workspace_agent.host.room import room
from workspace_agent.model.atrisk import Entry
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
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.rescue.run import Run

# A batch: what a kill may cost, against one sync for each.
_FILES, _BYTES, _SECS = 256, 8 << 20, 1.0

# The same bytes are looked for among files of at least this size.
_TWICE = 64 << 10

BUSY = "it changed a moment ago"
_REFUSED, _FULL = "the volume refused it", "there is no room left"
_FIX = "make room on the volume, or keep such files on it in the first place"


class VolumeError(Exception):
    """The volume refused; nothing more can be saved."""


@dataclass(frozen=True)
class Limits:
    """*until* is a monotonic time, *rate* the most bytes a second, *refuse* kinds and why not.

    *is_written* says whether some process writes a file just now, *quiet* for how many ns a file
    must not have changed: one that is being written in place is half of what it will be.
    """

    until: float | None = None
    rate: float = 0
    refuse: Mapping[str, str] = field(default_factory=dict)
    is_written: Callable[[str], bool] = lambda _: False
    quiet: Callable[[str], int] = lambda _: 0


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
        self, run: Run, top: SafeRoot, limits: Limits, tell: Callable[[str], None]
    ) -> None:
        self._run, self._top, self._limits, self._tell = run, top, limits, tell
        self._meter = Meter(limits.until, limits.rate)
        self._done = Outcome()
        self._batch: list[tuple[Entry, Saved]] = []
        self._began, self._in_batch = monotonic(), 0
        self._free = self._quota = -1  # -1: as much as there is
        self._same = {_key(one): one for one in run.known.saved.values() if one.stored >= _TWICE}

    def all(self, entries: Sequence[Entry]) -> Outcome:
        """Save them in order, as far as it goes."""
        began, n = monotonic(), 0
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
            n = len(entries)
            self._flush()
            self._run.compact()
        except VolumeError as error:
            in_batch = bool(self._batch) and self._batch[-1][0] in entries[n : n + 1]
            self._give_up(entries[n + in_batch :], str(error))
        else:
            self._fail(_FULL, _FULL)
        self._done.secs = monotonic() - began
        return self._done

    def bytes_of(self, path: str, kind: str) -> Saved:
        """Store the bytes of a file, durably, without a line; raises OSError, LeftError."""
        fd = self._top.open(path[1:], os.O_RDONLY)
        try:
            saved, _ = self._settled(Entry.of(path, kind, 0, os.fstat(fd)), fd)
            self._run.packs.sync()
        except VolumeError as error:
            raise OSError(errno.EIO, str(error)) from error
        finally:
            os.close(fd)
        return saved

    def _leave(self, entries: Iterable[Entry], why: str) -> None:
        self._done.left += [(entry, why) for entry in entries]

    def _give_up(self, rest: Iterable[Entry], why: str) -> None:
        """Keep what is there: what was written so far may still get its lines."""
        self._leave(rest, _REFUSED)
        try:
            self._flush()
        except VolumeError:
            self._leave((entry for entry, _ in self._batch), _REFUSED)
        self._run.packs.close()
        self._fail(_REFUSED, why)

    def _fail(self, reason: str, why: str) -> None:
        """Make a problem of what is left for this *reason*, if anything is."""
        if count := sum(one.startswith(reason) for _, one in self._done.left):
            what = f"{counted(count, 'file')} outside the volume could not be saved"
            where = self._run.store.top.path
            self._done.problem = Problem("rescue.not-saved", what, why, _FIX, where)

    def _one(self, entry: Entry) -> None:
        if why := self._limits.refuse.get(entry.kind):
            raise LeftError(why)
        line = line_of(entry, self._run.header.image)
        known = self._run.known.saved.get(entry.path)
        if known and self._is_unchanged(line, known):
            if entry.path in self._run.own.saved:
                self._done.unchanged += 1
            else:
                self._add(entry, known, 0)
        elif line.type == FOLDER:
            self._add(entry, line, 0)
        elif line.type == LINK:
            above, _, name = entry.path[1:].rpartition("/")
            with self._top.folder(above) as folder:
                self._add(entry, replace(line, to=os.readlink(name, dir_fd=folder.fd)), 0)
        else:
            self._file(entry)

    def _is_unchanged(self, now: Saved, known: Saved) -> bool:
        if any(getattr(now, name) != getattr(known, name) for name in _RIGHTS):
            return False
        if now.type == FOLDER or known.torn:
            return not known.torn
        if known.backup:  # its size is that of the backup, and changes may be in the log beside it
            return known.mtime_ns == max(now.mtime_ns, databases.log(self._top, now.path)[1])
        return (known.size, known.mtime_ns) == (now.size, now.mtime_ns)

    def _file(self, entry: Entry) -> None:
        key = (entry.device, entry.inode)
        first = self._run.firsts.get(key) if entry.links > 1 else None
        if first and (first.size, first.mtime_ns) == (entry.size, entry.mtime_ns):
            hard = first.path if first.path != entry.path else ""
            self._add(entry, replace(first, path=entry.path, hard=hard, kind=entry.kind), 0)
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

    def _line(self, entry: Entry, fd: int, info: os.stat_result, **more: Any) -> Saved:
        line = line_of(Entry.of(entry.path, entry.kind, 0, info), self._run.header.image)
        return replace(line, added=entry.added, xattrs=xattrs(fd), **more)

    def _settled(self, entry: Entry, fd: int) -> tuple[Saved, int]:
        """Store the file, and say how much was written; one that changes is taken once more."""
        must_be_whole = whole.is_checkpoint(entry.kind)
        if must_be_whole and (why := self._unfinished(entry.path, fd)):
            raise LeftError(f"not complete: {why}")
        for last in (False, True):
            info = os.fstat(fd)
            if 0 <= time_ns() - info.st_ctime_ns < self._limits.quiet(entry.path):
                raise LeftError(BUSY)
            parts = extents(fd, info)
            length = info.st_size if parts is None else sum(n for _, n in parts)
            line = self._line(entry, fd, info, extents=parts or (), stored=length)
            self._fits(length)
            digest, data, read, file = self._read(fd, line)
            torn = read != length or is_torn(info, os.fstat(fd), entry.kind)
            line, at = replace(line, sha256=digest, torn=torn), 0
            same = self._same.get(_key(line)) if length >= _TWICE else None
            if same or (torn and (not last or read != length or must_be_whole)):
                self._run.packs.drop(file)
                if same:
                    return replace(line, file=same.file, at=same.at), 0
                continue
            if data:
                with _volume():
                    file, at = self._run.packs.put(data)
            return replace(line, file=file, at=at), length
        raise LeftError("it was being written, twice")

    def _unfinished(self, path: str, fd: int) -> str:
        if self._limits.is_written(path):
            return "a process writes it"
        for suffix in whole.UNDER_WAY:
            if path.endswith(suffix) or self._top.look(path[1:] + suffix):
                return f"there is a {suffix} file"
        return whole.unfinished(path, os.fstat(fd).st_size, lambda at, n: os.pread(fd, n, at))

    def _read(self, fd: int, line: Saved) -> tuple[str, bytes, int, str]:
        """Read a small file, or copy a large one to a file of its own.

        Returns the digest, what was read, how much it was, and the file's name.
        """
        digest, read, small = sha256(), 0, []
        with self._alone() if line.stored > SMALL else nullcontext(("", -1)) as (file, out):
            for data in chunks(fd, line.parts, self._meter):
                digest.update(data)
                read += len(data)
                with _volume():
                    small.append(data) if out < 0 else write_all(out, data)
        return digest.hexdigest(), b"".join(small), read, file

    def _database(self, entry: Entry, fd: int) -> tuple[Saved, int]:
        """Store a database by its own means; its bytes alone may be of no use."""
        info, (extra, stamp) = os.fstat(fd), databases.log(self._top, entry.path)
        self._fits(info.st_size + extra)
        with self._alone() as (file, out):
            place = f"/proc/self/fd/{self._run.store.data.fd}/{file}"
            databases.copy(self._top, entry.path, fd, place, self._limits.until)
            length, digest = os.fstat(out).st_size, sha256()
            for data in chunks(out, ((0, length),), self._meter):
                digest.update(data)
        return self._line(
            entry, fd, info, size=length, stored=length, file=file, backup=True,
            mtime_ns=max(info.st_mtime_ns, stamp), sha256=digest.hexdigest(),
        ), length  # fmt: skip

    @contextmanager
    def _alone(self) -> Iterator[tuple[str, int]]:
        """Have a data file of its own: durable in the end, or not there."""
        with _volume():
            file, out = self._run.packs.alone()
        try:
            yield file, out
            with _volume():
                os.fsync(out)
        except BaseException:
            self._run.packs.drop(file)
            raise
        finally:
            os.close(out)

    def _add(self, entry: Entry, line: Saved, written: int) -> None:
        """Have the line written with its batch."""
        if decode(encode(line)) != line:
            raise LeftError("there is no way to write it down")
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
        for left, where in ((self._free, "on the volume"), (self._quota, "for what is saved")):
            if 0 <= left < self._in_batch + count:
                raise LeftError(f"{_FULL} {where}: it has {size(count)}")


# What has to be as it was for a thing to be unchanged, beside its size and time.
_RIGHTS = ("type", "mode", "uid", "gid")


def _key(line: Saved) -> tuple[object, ...]:
    return line.sha256, line.stored, line.size, line.extents


@contextmanager
def _volume() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VolumeError(os.strerror(error.errno or 0)) from error
