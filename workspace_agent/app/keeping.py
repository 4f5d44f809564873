"""What the watcher has kept on the volume: precious files at once, the rest at last."""

from __future__ import annotations

import os
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from workspace_agent.app import rescues
from workspace_agent.host import files
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model import layout
from workspace_agent.model.problem import Problem
from workspace_agent.rescue.plan import plan
from workspace_agent.rescue.saving import BUSY, Limits, Outcome
from workspace_agent.watch.kinds import KINDS, PRECIOUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from workspace_agent.app.facts import Facts
    from workspace_agent.app.survey import Ground
    from workspace_agent.config.schema import Profile
    from workspace_agent.model.atrisk import Entry
    from workspace_agent.rescue.run import Run
    from workspace_agent.watch.inventory import Inventory

    Scanned = Callable[[Callable[[Entry], None]], None]

# A file that is written on and on is kept as it is now and then.
_QUIET_NS, _LONGEST = 3 * 10**9, 60.0

# So much at once, and then as long a pause as these ask for: the pod's work comes first. Bytes a
# second, and the share of a core; some thousand small files a second.
_AT_ONCE, _FILES_AT_ONCE, _RATE, _SHARE = 16 << 20, 2000, 5 << 20, 0.1
_EVERY = 2.0

# After a volume that refused.
_REFUSED = 60.0

# Before anything was measured, in bytes a second; and what one more measurement counts for. A
# large file that turns out to take too long is given up in time.
_FIRST_RATE, _NEW = 200e6, 0.3

# So many files wait at most, and so many are kept while they are written: a tree of generated files
# is left to the end, and this process stays small.
_WAITING, _KEPT = 20_000, 50_000

# What is measured in less time, or with smaller files, says nothing of the volume's bandwidth.
_MEASURED, _LARGE = 0.2, 1 << 20

# The last look at what is there may take its time.
_LAST = 1.5

# Of what is not kept so many are named, the most valuable first.
_NAMED = 200

# What is worth less is nobody's work, and not named at all.
_WORTH = 20


class Keeping:
    """Keeps what is taken (`take`) on the volume of *facts*; *is_written* asks for open files."""

    def __init__(
        self,
        profile: Profile,
        facts: Facts,
        here: Ground,
        written: Callable[[], set[str]],
        say: Callable[[str], None],
    ) -> None:
        self._rescue, self._facts, self._say = profile.rescue, facts, say
        self._written, self._here = written, here
        self._root = SafeRoot.at("/")
        self._open = ExitStack()
        self._run: Run | None = None
        self._pending: dict[str, tuple[float, Entry]] = {}
        self._due = self._gone_due = 0.0
        self._has_more = False
        self._until: float | None = None
        self._problem: Problem | None = None
        self.rate = _FIRST_RATE
        self._saved = self._bytes = self._length = 0
        self._here_once: set[str] = set()  # kept, and in this container: not only carried along
        # The boot has put something back here, or a watcher before us kept something.
        self._is_begun = files.exists(f"{facts.runtime}/{layout.RESCUE_RUN}")
        self.is_on = self._rescue.mode != "off" and facts.volume.survives
        self.refused = rescues.refused(profile, facts)

    def take(self, entry: Entry) -> None:
        """Hear of a file that is new, or has changed."""
        if self._rescue.mode != "auto" or not self.is_on or not self._is_for_now(entry):
            return
        if len(self._pending) >= _WAITING and entry.path not in self._pending:
            self._has_more = True
        elif not self._is_kept(entry):
            first = self._pending.get(entry.path, (time.monotonic(), entry))[0]
            self._pending[entry.path] = (first, entry)

    def _is_kept(self, entry: Entry) -> bool:
        """Say whether it is on the volume as it is, or one of too many."""
        own = self._run.own.saved if self._run else {}
        known = own.get(entry.path)
        if known is None:
            return len(own) >= _KEPT
        return (known.size, known.mtime_ns) == (entry.size, entry.mtime_ns) and not (
            known.torn or known.backup or known.mode != entry.mode & 0o777
        )

    def _is_for_now(self, entry: Entry) -> bool:
        return (
            entry.value >= PRECIOUS
            and entry.size <= self._rescue.small
            and stat.S_IFMT(entry.mode) in (stat.S_IFREG, stat.S_IFLNK)
            and entry.kind not in self.refused
        )

    def on_time(self, now: float, inventory: Inventory) -> bool:
        """Keep what is quiet, a part at a time; says whether all is to be looked at again."""
        if now < self._due or not self.is_on:
            return False
        self._due = now + _EVERY
        if ready := self._ready(now):
            self._keep(ready, {one.path for first, one in ready if now - first >= _LONGEST})
        again = self._has_more and not self._pending
        if again:
            self._has_more = False
            inventory.fresh = 0  # those for which there was no place are heard of again
        if (self._here_once or self._is_begun) and now >= self._gone_due:
            began = time.process_time()
            with self._locked() as run:
                self._forget(run)
            self._gone_due = now + max(30.0, (time.process_time() - began) / 0.002)
        return again

    def _keep(self, ready: list[tuple[float, Entry]], late: set[str]) -> None:
        """Save what is *ready*; what is busy and not *late*, or has no room now, waits on."""
        began = time.process_time()
        entries = [one for _, one in ready]
        done = self._save(entries, None, lambda path: 0 if path in late else _QUIET_NS)
        if done and not done.problem:
            cost = time.process_time() - began
            self._due = time.monotonic() + max(_EVERY, done.bytes / _RATE, cost / _SHARE)
        left = done.left if done else [(one, BUSY) for one in entries]
        again = {one.path for one, why in left if why == BUSY or (done and done.problem)}
        clock = time.time_ns()
        for first, one in ready:
            if one.path in again:
                self._pending[one.path] = first, replace(one, ctime_ns=clock)

    def _ready(self, now: float) -> list[tuple[float, Entry]]:
        """Take what is quiet, the most valuable first, out of what waits, and since when it did."""
        clock = time.time_ns()
        quiet = [
            (first, one) for first, one in self._pending.values()
            if clock - one.ctime_ns >= _QUIET_NS or now - first >= _LONGEST
        ]  # fmt: skip
        quiet.sort(key=lambda pair: (-pair[1].value, -pair[1].mtime_ns))
        taken: list[tuple[float, Entry]] = []
        size = 0
        for first, one in quiet[:_FILES_AT_ONCE]:
            if taken and size + one.size > _AT_ONCE:
                break
            taken.append((first, one))
            size += one.size
            del self._pending[one.path]
        return taken

    def stop(self, secs: float, scanned: Scanned) -> None:
        """Keep all there is that *secs* allow: the pod ends."""
        self._until = time.monotonic() + secs
        self._all(self._until, scanned, last=False)

    def last(self, scanned: Scanned) -> None:
        """Keep what there is after the workload's end, and note what is not kept."""
        now = time.monotonic()
        until = max(self._until, now) + _LAST if self._until else now + self._rescue.budget
        self._all(until, scanned, last=True)
        self._shut()

    def _all(self, until: float, scanned: Scanned, *, last: bool) -> None:
        if not self.is_on:
            return
        entries: list[Entry] = []
        # a cache may have a million files
        scanned(lambda one: entries.append(one) if one.value >= _WORTH else None)
        left = self._kept(entries, until)
        if last:
            with suppress(OSError):
                self._note(left)

    def _kept(self, entries: list[Entry], until: float) -> list[tuple[Entry, str]]:
        """Save what can be saved of *entries*; returns the rest, and why."""
        wanted, left = rescues.sorted_out(entries, self.refused)
        self._pending.clear()
        while True:  # it often goes faster than was planned
            secs = until - time.monotonic()
            made = plan(wanted, secs=secs, rate=self.rate, room=self._rescue.most)
            done = self._save(made.take, until)
            left += done.left if done else [(one, _NO_VOLUME) for one in made.take]
            wanted = [one for one, _ in made.left]
            if not (wanted and made.take and done) or done.problem:
                return [*left, *made.left]

    def _save(
        self,
        entries: Sequence[Entry],
        until: float | None,
        quiet: Callable[[str], int] = lambda _: 0,
    ) -> Outcome | None:
        if not entries and self._run is None and not self._is_begun:
            return Outcome()  # a volume on which nothing is kept is not written to
        with self._locked() as run:
            if run is None:
                return None
            whole = rescues.whole(entries, self._here.layer.born)
            limits = Limits(
                until=until, refuse=self.refused, is_written=self._writing(), quiet=quiet
            )
            done = run.save(self._root, whole, limits)
            self._here_once.update(one.path for one in whole)
        self._saved += done.saved
        self._bytes += done.bytes
        if done.secs > _MEASURED and done.bytes > done.saved * _LARGE:
            self.rate += _NEW * (done.bytes / done.secs - self.rate)
        if done.problem:
            self._failed(done.problem)
        else:
            self._problem = None
        return done

    def _writing(self) -> Callable[[str], bool]:
        open_now = self._written()
        return lambda path: path in open_now

    @contextmanager
    def _locked(self) -> Iterator[Run | None]:
        """Hold the lock, and give the run as it is now: hooks and hands write to it, too."""
        with rescues.locked(self._facts.runtime):
            if self._run and _length(self._run) != self._length:
                self._shut()
            run = self._opened()
            yield run
            self._length = _length(run) if run else 0

    def _shut(self) -> None:
        """Let the volume go; what is written is durable, whatever it says to that."""
        self._run = None
        with suppress(OSError):
            self._open.close()

    def _opened(self) -> Run | None:
        if self._run is None:
            try:
                run = rescues.run_of(self._facts, self._here, self._rescue, self._open)
            except OSError as error:
                self._failed(rescues.not_saved(error))
                return None
            back = {
                path for path, one in run.own.backs.items() if one.how in _PUT and not one.place
            }
            here = {path for path in run.own.saved if os.path.lexists(path)}
            self._here_once |= here | back
            self._run = run
        return self._run

    def _failed(self, problem: Problem) -> None:
        """Try again later, with the volume opened anew."""
        self._shut()
        self._due = time.monotonic() + _REFUSED
        if problem != self._problem:
            self._problem = problem
            for line in problem.lines("degraded"):
                self._say(line)

    def _forget(self, run: Run | None) -> None:
        """Note which kept files their owner has removed: they must not come back."""
        gone = [path for path in self._here_once if not os.path.lexists(path)]
        if run:
            with suppress(OSError):
                run.gone([path for path in gone if path in run.own.saved])
                run.compact()
            self._here_once.difference_update(gone)

    def _note(self, left: list[tuple[Entry, str]]) -> None:
        """Say on the volume what is not kept, and that this is the end."""
        left = [(one, why) for one, why in left if KINDS[one.kind].value >= _WORTH]
        if not left and not self._length:
            return  # nothing is on the volume: the next boot has nothing to look for
        left.sort(key=lambda one: -one[0].value)
        with self._locked() as run:
            if run:
                self._forget(run)
                run.left(rescues.summed(left, _NAMED))
                run.end("the workload has ended")

    def state(self) -> dict[str, object]:
        """Return how it goes: files and bytes kept, how many wait, bytes a second."""
        return {
            "on": self.is_on, "files": self._saved, "bytes": self._bytes,
            "waiting": len(self._pending), "rate": int(self.rate), "refused": self.refused,
            "problem": self._problem.to_json() if self._problem else None,
        }  # fmt: skip


# How something was put back where it was.
_PUT = ("restored", "replaced")

_NO_VOLUME = "the volume did not take it"


def _length(run: Run) -> int:
    """Return how long *run* is; -1 on a volume that is gone, and is opened anew."""
    try:
        return run.length()
    except OSError:
        return -1
