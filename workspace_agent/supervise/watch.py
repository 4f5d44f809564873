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

    # Given what to call once it has seen who is at work, and whether this is the end.
    Work = Callable[[Callable[[], None], bool], int]

# Between two looks, in seconds; what is the same at both is quiet.
PAUSE = 2.0

# What the child exits with when it is not the moment, and how many looks later it is asked again.
NOT_NOW, _LATER = 75, 5

# How long a TERM is held back for the child to see who is at work: the TERM may end that.
_SEEN = 0.1

# How long the pod's end waits for the child, if the workload has so much grace.
_LAST = 5.0

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
        return quiet and not self._rest and self._take(now)

    def on_last_look(self, now: Sequence[int]) -> bool:
        """Say whether to work at the very end, quiet or not."""
        return self._take(now)

    def on_exit(self, code: int) -> None:
        """Hear how the work went."""
        if code == NOT_NOW:
            self._done, self._rest = _NEVER, _LATER

    def _take(self, now: Sequence[int]) -> bool:
        changed, self._done = now != self._done, now
        return changed


class Watch:
    """Has *work* done in a child when *folders* have changed; *pid* is that child, or 0."""

    __slots__ = ("_folders", "_lookout", "_next", "_work", "pid")

    def __init__(self, folders: Sequence[str], work: Work) -> None:
        self._folders = folders
        self._work = work
        self._lookout = Lookout(self._look())
        self._next = monotonic() + PAUSE
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

    def on_term(self) -> None:
        """Start what is left to do before the TERM is passed on."""
        if self._lookout.on_last_look(self._look()):
            self._start(True)

    def finish(self, limit: float) -> None:
        """Do what is left to do, and wait for it, for *limit* seconds or less."""
        self.on_term()
        until = monotonic() + min(limit, _LAST)
        while self.pid and monotonic() < until:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
            else:
                _signal.sigtimedwait((_signal.SIGCHLD,), min(0.1, _LAST))

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
                code = self._work(lambda: os.close(writer), last)
            finally:
                os._exit(code)
        os.close(writer)
        if last:
            import select  # PID 1 needs it at its end only

            select.select([reader], [], [], _SEEN)  # it is readable once nobody can write
        os.close(reader)


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
