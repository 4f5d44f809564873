"""The watcher, kept alive beside the workload: started after it, told of its end, waited for.

It is told by its standard input: a line `stop SECONDS` when the pod is to end, and the end of the
input when the workload has ended. C modules only: PID 1 runs this, resident.
"""

from __future__ import annotations

from time import monotonic

from workspace_agent.host.chalf import os
from workspace_agent.host.chalf import signal as _signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A workload that is over at once is not slowed down by a watcher that starts beside it.
FIRST = 1.0

# A watcher that dies is started again, later each time, and at last no more; one that has lived for
# so long before counts as the first.
_PAUSES, _LIVED = (2.0, 10.0, 60.0, 300.0), 3600.0

# The runtime's own limit is some five seconds after the workload's: what was begun is finished.
_MORE = 2.0

_SLICE = 0.1

# One that waits for a hung volume does not even die of a KILL; nobody waits for that.
_DEATH = 1.0


class Keeper:
    """Starts *argv* with *env* and *mask*; *budget* is how long it may take where nobody waits."""

    __slots__ = (
        "_argv",
        "_born",
        "_budget",
        "_deaths",
        "_due",
        "_env",
        "_mask",
        "_pipe",
        "_until",
        "pid",
    )

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], mask: set[int], budget: float
    ) -> None:
        self._argv, self._env, self._mask, self._budget = argv, env, mask, budget
        self._due: float | None = monotonic() + FIRST
        self._until: float | None = None
        self._deaths, self._born = 0, monotonic()
        self._pipe = -1
        self.pid = 0

    def wait(self, now: float) -> float | None:
        """Say how long it is to the next start; None where nothing is to be started."""
        return None if self._due is None else max(0.0, self._due - now)

    def on_time(self, now: float) -> None:
        """Start the watcher, if it is time to."""
        if self._due is not None and now >= self._due:
            self._start()

    def on_exit(self, status: int) -> None:
        """Hear the wait status of the watcher: it ended by itself if that is 0."""
        self._close()
        self.pid = 0
        if monotonic() - self._born >= _LIVED:
            self._deaths = 0
        if status and self._until is None and self._deaths < len(_PAUSES):
            self._due = monotonic() + _PAUSES[self._deaths]
        self._deaths += 1

    def on_term(self, grace: float) -> None:
        """Tell the watcher that the pod ends in *grace* seconds."""
        if self._until is not None:
            return
        self._last(grace)
        self._tell(b"stop %d\n" % max(1, int(grace)))

    def finish(self, grace: float) -> None:
        """Tell it that the workload has ended, and wait for it as long as there is time.

        A TERM that comes meanwhile leaves it *grace* seconds at most.
        """
        is_told = self._until is not None
        if not is_told:
            self._last(self._budget)
        self._close()
        limit = (self._until or 0.0) + _MORE
        while self.pid and monotonic() < limit:
            if self._is_over():
                return
            info = _signal.sigtimedwait((_signal.SIGCHLD, _signal.SIGTERM), _SLICE)
            if info and info.si_signo == _signal.SIGTERM and not is_told:
                is_told, limit = True, min(limit, monotonic() + grace + _MORE)
        if self.pid:
            os.kill(self.pid, _signal.SIGKILL)
            limit = monotonic() + _DEATH
            while not self._is_over() and monotonic() < limit:
                _signal.sigtimedwait((_signal.SIGCHLD,), _SLICE)
            self.pid = 0

    def _is_over(self) -> bool:
        if os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        return not self.pid

    def _last(self, secs: float) -> None:
        """Give it *secs* seconds, and start one that was not started yet."""
        self._until = monotonic() + secs
        if not self.pid and self._due is not None:
            self._start()

    def leave(self) -> None:
        """Be forgotten by a fork of ours: the watcher would wait for the end of that, too."""
        self._close()

    def _start(self) -> None:
        self._due, self._born = None, monotonic()
        reader, self._pipe = os.pipe()
        env = {os.fsencode(name): os.fsencode(value) for name, value in self._env.items()}
        try:
            self.pid = os.posix_spawn(
                self._argv[0],
                [os.fsencode(word) for word in self._argv],
                env,
                file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
                setsigmask=self._mask,
                setpgroup=0,  # a signal for the workload's group is none for it
            )
        except OSError:
            self._close()  # status says that there is none
        finally:
            os.close(reader)

    def _tell(self, line: bytes) -> None:
        try:
            if self._pipe >= 0:
                os.write(self._pipe, line)
        except OSError:
            # It has just died. We block the signal of that: it must not reach the workload.
            _signal.sigtimedwait((_signal.SIGPIPE,), 0)

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
