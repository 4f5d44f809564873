"""Folders that the init keeps an eye on: once they have changed, and are quiet, a child works.

`Lookout` decides and can be replayed from a history; `Watch` acts. C modules only: PID 1 runs
this, resident, and looks at nothing but the times of a few local folders.
"""

from __future__ import annotations

from time import monotonic

from workspace_agent.host.chalf import os
from workspace_agent.host.chalf import signal as _signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # Given what to call once it has seen who is at work, which says whether that was in time, and
    # whether this is the end.
    Work = Callable[[Callable[[], bool], bool], int]

# Between two looks, in seconds; what is the same at both is quiet.
PAUSE = 2.0

# What the child exits with when it is not the moment, and how many looks later it is asked again.
NOT_NOW, _LATER = 75, 5

# How long a TERM is held back, at most, for the child to see who is at work: the TERM may end
# that. It takes some 10 ms; on a busy machine, more.
_SEEN = 1.0

# How long the pod's end waits for the child where the grace is longer: a volume may hang.
_LAST = 5.0

_SLICE = 0.1

# A thing that is none of the looks'.
_NEVER = [-1]


class Lookout:
    """When to work: *first* is what was there at the beginning, each look brings what is now."""

    __slots__ = ("_done", "_last", "_rest")

    def __init__(self, first: Sequence[int]) -> None:
        self._done: Sequence[int] = first
        self._last: Sequence[int] = first
        self._rest = 0

    def on_look(self, now: Sequence[int]) -> bool:
        """Say whether to work now: it has changed since the last work, and not since the last
        look.
        """
        quiet, self._last = now == self._last, now
        self._rest = max(0, self._rest - 1)
        return quiet and not self._rest and self.on_last_look(now)

    def on_last_look(self, now: Sequence[int]) -> bool:
        """Say whether to work at the very end, quiet or not."""
        changed, self._done = now != self._done, now
        return changed

    def on_exit(self, code: int) -> None:
        """Hear how the work went."""
        if code == NOT_NOW:
            self._done, self._rest = _NEVER, _LATER


class Watch:
    """Has *work* done in a child when *folders* have changed; *pid* is that child, or 0."""

    __slots__ = ("_folders", "_lookout", "_next", "_until", "_work", "pid")

    def __init__(self, folders: Sequence[str], work: Work) -> None:
        self._folders = folders
        self._work = work
        self._lookout = Lookout(self._look())
        self._next = monotonic() + PAUSE
        self._until: float | None = None
        self.pid = 0

    def wait(self, now: float) -> float:
        """Say how long it is to the next look."""
        return max(0.0, self._next - now)

    def on_time(self, now: float) -> None:
        """Look, if it is time to."""
        if now >= self._next:
            self._next = now + PAUSE
            if not self.pid and self._lookout.on_look(self._look()):
                self._start(False)

    def on_exit(self, status: int) -> None:
        """Hear the wait status of the child."""
        self.pid = 0
        self._lookout.on_exit(os.waitstatus_to_exitcode(status))

    def on_term(self, grace: float) -> None:
        """Start what is left to do; it has *grace* seconds from the first call on."""
        if self._until is None:
            self._until = monotonic() + grace
        if self._lookout.on_last_look(self._look()):
            self._start(True)

    def finish(self, grace: float) -> None:
        """Do what is left to do, and wait for it as long as its grace allows."""
        self.on_term(grace)
        limit = min(self._until or 0.0, monotonic() + _LAST)
        while self.pid and monotonic() < limit:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
            else:
                _signal.sigtimedwait((_signal.SIGCHLD,), _SLICE)

    def _look(self) -> list[int]:
        return [_changed(path) for path in self._folders]

    def _start(self, last: bool) -> None:
        if self.pid:  # it can be killed anywhere, and does not know the latest
            os.kill(self.pid, _signal.SIGKILL)
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(reader)
                code = self._work(lambda: _write(writer), last)
            finally:
                os._exit(code)
        os.close(writer)
        if last:
            import select  # PID 1 needs it at its end only

            select.select([reader], [], [], _SEEN)
        os.close(reader)  # from here on the child's word comes too late, and it hears of that


def _write(fd: int) -> bool:
    try:
        return os.write(fd, b".") > 0
    except OSError:
        return False


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
