"""Threads that share a list of tasks: none on a local disk, many where a round trip is slow.

On a local disk threads only fight over the interpreter: measured, 4 to 64 of them halve the
speed. Over a network volume a thread waits for nearly all of its time. So the first tasks run
here, one after another, and their waiting decides.
"""

from __future__ import annotations

import threading
from itertools import chain, islice
from time import perf_counter, thread_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

# More bring nothing: an NFS client has 64 slots, and names in one folder are made one by one.
MOST = 64

# Tasks that are timed one by one at the start: few, since on a slow volume each costs several
# round trips. After them, one after another, so many are timed together.
_FIRST, _EVERY = 8, 64

# A local disk answers in a tenth of this, also a busy one.
_SLOW = 0.0004

# Threads that do not bring this much go again.
_GAIN = 1.25


class Pace:
    """How many threads to use, from what tasks took alone and what they take together."""

    def __init__(self, fixed: int = 0) -> None:
        self.threads = fixed or 1
        self._settled = bool(fixed)
        self._first: list[tuple[float, float]] = []
        self._alone = 0.0

    @property
    def group(self) -> int:
        """How many tasks to time together."""
        return 1 if len(self._first) < _FIRST else _EVERY

    def heard(self, took: float, worked: float) -> None:
        """Learn of one task done alone: seconds by the clock, and of them on the processor."""
        if self._settled:
            return
        if len(self._first) < _FIRST:
            self._first.append((took - worked, worked))
            if len(self._first) == _FIRST:
                # Medians: on a busy machine one task in fifty waits for the processor instead.
                waits, works = zip(*self._first, strict=True)
                self._choose(_median(waits), _median(works))
        else:
            self._choose(took - worked, worked)

    def judge(self, done: int, secs: float) -> None:
        """Learn of *done* tasks done together; threads that are no gain are given up for good."""
        if not self._settled and done >= 2 * self.threads:
            self._settled = True
            if secs * _GAIN > done * self._alone:
                self.threads = 1

    def _choose(self, wait: float, work: float) -> None:
        self._alone = wait + work
        if wait > _SLOW:
            self.threads = 2
            while self.threads < MOST and self.threads * work < 2 * wait:
                self.threads *= 2


class Crew:
    """Runs tasks in as many threads as *pace* says, *most* of them, until it is closed.

    *pulse* is called by the caller's own thread alone, and only when work went on since.
    """

    def __init__(self, pace: Pace, pulse: Callable[[], None], most: int = MOST) -> None:
        self._pace, self._pulse, self._most = pace, pulse, most
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._act: Callable[[Any], None] = print
        self._tasks: Iterator[Any] = iter(())
        self._round = self._busy = self._done = self._stirred = 0
        self._error: BaseException | None = None
        self._over = False

    def close(self) -> None:
        """End all threads, when they are idle; no task is begun any more."""
        with self._changed:
            self._over, self._tasks = True, iter(())
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()  # they hold descriptors that the caller closes next

    def stir(self) -> None:
        """Say that a task is getting on; any thread may."""
        self._stirred += 1

    @property
    def alone(self) -> bool:
        """Whether the caller's own thread does the work at this moment."""
        return self._busy == 0

    def run(self, act: Callable[[Any], None], tasks: Iterable[Any]) -> None:
        """Do *act* with every task; raises the first error, after which no task is begun."""
        left = iter(tasks)
        for task in left:
            if self._pace.threads > 1:
                self._together(act, chain((task,), left))
                return
            count = 1
            began, worked = perf_counter(), thread_time()
            act(task)
            for task in islice(left, self._pace.group - 1):
                act(task)
                count += 1
            took, worked = perf_counter() - began, thread_time() - worked
            self._pace.heard(took / count, worked / count)
            self._pulse()

    def _together(self, act: Callable[[Any], None], tasks: Iterator[Any]) -> None:
        began, before = perf_counter(), self._done
        with self._changed:
            self._start()
            self._act, self._tasks, self._busy = act, tasks, len(self._threads)
            self._round += 1
            self._changed.notify_all()
        if not self._threads:
            for task in tasks:
                act(task)
        self._attend()
        self._pace.judge(self._done - before, perf_counter() - began)
        if self._error:
            raise self._error

    def _start(self) -> None:
        """Start what threads are missing, or as many as this container may have."""
        while len(self._threads) < min(self._pace.threads, self._most):
            thread = threading.Thread(target=self._work, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return
            self._threads.append(thread)

    def _attend(self) -> None:
        seen = -1
        while True:
            with self._changed:
                if not self._busy:
                    return
                self._changed.wait(0.1)
            if (now := self._done + self._stirred) != seen:
                seen = now
                self._pulse()

    def _work(self) -> None:
        last = 0
        while True:
            with self._changed:
                while not self._over and self._round == last:
                    self._changed.wait()
                if self._over:
                    return
                last, act = self._round, self._act
            self._do_all(act)
            with self._changed:
                self._busy -= 1
                if not self._busy:
                    self._changed.notify_all()

    def _do_all(self, act: Callable[[Any], None]) -> None:
        while True:
            with self._changed:
                try:
                    task = next(self._tasks)
                except StopIteration:
                    return
                except BaseException as error:
                    self._error, self._tasks = error, iter(())
                    return
                self._done += 1
            try:
                act(task)
            except BaseException as error:
                with self._changed:
                    self._error, self._tasks = self._error or error, iter(())


def _median(found: Sequence[float]) -> float:
    return sorted(found)[len(found) // 2]  # `statistics` costs 9 ms
