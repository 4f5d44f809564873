"""Freezing the workload at the pod's end: a TERM waits until that is done, or is not to be.

Whoever makes a checkpoint, we or a hook or a hand, leaves a word in the runtime folder before the
workload ends of it. C modules only: PID 1 runs this, resident.
"""

from __future__ import annotations

from time import monotonic

from workspace_agent.host import files
from workspace_agent.host.chalf import os
from workspace_agent.host.chalf import signal as _signal
from workspace_agent.model import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What is left of the grace for a workload that is not frozen in time, and has to end by itself.
_SHARE, _LEAST = 0.2, 2.0

_SLICE = 0.05

# Who froze it by hand or as a hook has so long to say so: its exit code is somebody's answer.
_ANSWER = 2.0


class Freezer:
    """Runs *argv*, `checkpoint`, at a TERM, if it is wanted *at_term*; and sees what others did."""

    __slots__ = (
        "_argv",
        "_asked",
        "_at_term",
        "_env",
        "_grace",
        "_is_over",
        "_mask",
        "_runtime",
        "_until",
        "pid",
    )

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], mask: set[int], runtime: str,
        *, at_term: bool,
    ) -> None:  # fmt: skip
        self._argv, self._env, self._mask, self._runtime = argv, env, mask, runtime
        self._at_term = at_term
        self._until = self._grace = 0.0
        self._is_over = self._asked = False
        self.pid = 0

    def takes_term(self, grace: float, now: float) -> bool:
        """Say whether a TERM, after which the pod has *grace* seconds, waits for us."""
        if self._at_term and not self._is_over and not self.pid:
            self._grace, self._until = grace, now + grace
            self._start("--grace", f"{max(0.0, grace - self._kept()):.1f}")
        return self.pid > 0

    def left(self, grace: float) -> float:
        """Return what is left of the *grace*, from the TERM on."""
        return max(1.0, self._until - monotonic()) if self._until else grace

    def wait(self, now: float) -> float | None:
        """Say how long it is until it has to be over."""
        return max(0.0, self._limit(self._asked) - now) if self.pid else None

    def on_time(self, now: float) -> None:
        """End what takes too long; it puts things in order, and the workload goes on.

        One that does not end, because it waits for a dead volume, is left to itself.
        """
        if self.wait(now) != 0:
            return
        if not self._asked:
            self._asked = True
            os.kill(self.pid, _signal.SIGTERM)
        else:
            self.on_exit(1)

    def on_exit(self, status: int) -> None:
        """Hear how it went; a workload that is not frozen gets its TERM now."""
        self.pid, self._is_over = 0, True
        if status:
            os.kill(os.getpid(), _signal.SIGTERM)

    def on_term(self, grace: float) -> None:
        """Hear of a TERM that was passed on."""

    def ended(self, code: int) -> None:
        """Hear that the workload is over and done, with *code*: no container goes on with it."""
        names = (layout.RESTORED, layout.CHECKPOINTED)
        if not self.pid and any(files.exists(f"{self._runtime}/{name}") for name in names):
            self._start("--ended", f"{code}")

    def finish(self, grace: float) -> None:
        """Let whoever freezes come to the end."""
        limit = monotonic() + self.left(grace)
        while self.pid and monotonic() < limit:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
            else:
                _signal.sigtimedwait((_signal.SIGCHLD,), _SLICE)
        limit = min(limit, monotonic() + _ANSWER)
        while self._number(layout.FROZEN) and self._is_held() and monotonic() < limit:
            _signal.sigtimedwait((_signal.SIGCHLD,), _SLICE)

    def has_frozen(self, child: int) -> bool:
        """Say whether process *child* ended because it is in a checkpoint."""
        return self._number(layout.FROZEN) == child

    def successor(self, child: int) -> int:
        """Return the process that took the place of *child*, a placeholder; 0 for none."""
        number = self._number(layout.SUCCESSOR)
        return number if number != child and files.exists(f"/proc/{number or 'none'}") else 0

    def _is_held(self) -> bool:
        """Say whether whoever makes a checkpoint has not ended yet."""
        import fcntl

        try:
            fd = os.open(f"{self._runtime}/{layout.FREEZE_LOCK}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except OSError:
            return True
        finally:
            os.close(fd)

    def _number(self, name: str) -> int:
        text = (files.read(f"{self._runtime}/{name}") or b"").strip()
        return int(text) if text.isdigit() else 0

    def _kept(self) -> float:
        return max(_LEAST, self._grace * _SHARE)

    def _limit(self, asked: bool) -> float:
        return self._until - self._kept() * (0.5 if asked else 1)

    def _start(self, *more: str) -> None:
        env = {os.fsencode(name): os.fsencode(value) for name, value in self._env.items()}
        words = [os.fsencode(word) for word in (*self._argv, *more)]
        # What it says goes where we say ours, unless that is closed.
        said = [(os.POSIX_SPAWN_DUP2, 2, 1)] if files.exists("/proc/self/fd/2") else []
        try:
            self.pid = os.posix_spawn(
                self._argv[0], words, env, setsigmask=self._mask, setpgroup=0,
                file_actions=said,
            )  # fmt: skip
        except OSError:
            self._is_over = True
