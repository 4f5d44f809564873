"""Forward, reap, stop: what an init owes its workload.

`Duty` decides and can be replayed from a history; `attend` acts. C modules only: PID 1 runs
this, resident, for as long as the pod lives.
"""

from __future__ import annotations

from time import monotonic

from workspace_agent.host.chalf import os
from workspace_agent.host.chalf import signal as _signal
from workspace_agent.supervise import spawn
from workspace_agent.supervise.exitcode import FROZEN, exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from workspace_agent.supervise.freezer import Freezer

    class Companion(Protocol):
        """What lives beside the workload; *pid* is its process, or 0."""

        pid: int

        def wait(self, now: float) -> float | None:
            """Say how long it is to the next `on_time`; None is for ever."""

        def on_time(self, now: float) -> None:
            """Hear the clock."""

        def on_exit(self, status: int) -> None:
            """Hear how its process ended."""

        def on_term(self, grace: float) -> None:
            """Hear that the pod ends in *grace* seconds; maybe not for the first time."""

        def finish(self, grace: float) -> None:
            """Do what is left to do after the workload's end."""


# Blocked from the first statement on, and taken one by one with sigtimedwait: a blocked signal
# is kept for us even as PID 1, to which the kernel otherwise delivers no unhandled signal.
EVERY = frozenset(_signal.valid_signals()) - {_signal.SIGKILL, _signal.SIGSTOP}

_SUSPEND = (_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU)

# The end of somebody else's child is not told to us: how often to look, once only such are left.
_LOOK = 0.1

# What Duty asks for.
SEND = "send"  # (SEND, number): to the workload's group
PAUSE = "pause"  # stop ourselves until CONT, as the workload is
REGAIN = "regain"  # take the lent terminal back, if the workload has it
LEND = "lend"  # and give it again, if we have it


class Duty:
    """What to do at each event; *now* is in seconds of one monotonic clock.

    *grace* is the time between a TERM and the KILL that follows it.
    """

    __slots__ = ("_deadline", "_paused", "_tty", "grace", "stopping")

    def __init__(self, grace: float, tty: int = spawn.NO_TTY) -> None:
        self.grace = grace
        self._tty = tty
        self._deadline: float | None = None
        self._paused = False
        self.stopping = False

    def on_signal(self, number: int, now: float) -> list[tuple[str, int]]:
        """Answer a signal that somebody sent us."""
        if number in _SUSPEND:
            # A group that left our session is orphaned: it would ignore TSTP, but not STOP.
            self._paused = True
            return [(SEND, _signal.SIGSTOP), (PAUSE, 0)]
        if number == _signal.SIGCONT:
            self._paused = False
        if number == _signal.SIGCONT and self._tty == spawn.LEND:
            return [(LEND, 0), (SEND, number)]
        if number == _signal.SIGTERM and not self.stopping:
            self.stopping = True
            self._deadline = now + self.grace
        return [(SEND, number)]

    def on_stop(self, foreground: bool = False) -> list[tuple[str, int]]:
        """Answer the workload having stopped by itself: by Ctrl-Z, or for want of the terminal.

        *foreground* says that we have the terminal: `fg` sends no CONT to a job that runs.
        """
        if self._paused or self._tty != spawn.LEND:
            return []  # our own STOP, or nobody who could bring us back
        if foreground:
            return [(LEND, 0), (SEND, _signal.SIGCONT)]
        return [(REGAIN, 0), (PAUSE, 0)]

    def on_end(self) -> list[tuple[str, int]]:
        """Answer the end of the workload."""
        return [(REGAIN, 0)] if self._tty == spawn.LEND else []

    def on_time(self, now: float) -> list[tuple[str, int]]:
        """Answer the clock: the grace is over, or it is not."""
        if self._deadline is None or now < self._deadline:
            return []
        self._deadline = None
        return [(SEND, _signal.SIGKILL)]

    def lingers(self) -> bool:
        """Say whether those whom the workload left behind still have time to end by themselves."""
        return self._deadline is not None

    def wait(self, now: float) -> float | None:
        """Say for how long nothing happens by itself; None is for ever."""
        return None if self._deadline is None else max(0.0, self._deadline - now)


def attend(
    child: int,
    duty: Duty,
    also: Iterable[int] = EVERY,
    beside: Sequence[Companion] = (),
    freezer: Freezer | None = None,
) -> int:
    """Be the init of *child* until it ends; returns the agent's exit code.

    Signals in *also* must be blocked. Every other child that ends is reaped on the way. After a
    TERM the rest of the group has what is left of the grace, too: a shell dies of the signal at
    once, while the training that it started still writes its checkpoint. What lives *beside* the
    workload hears of a TERM before that is passed on, and has hardly more time than the workload.
    A *freezer* has a TERM first; what it has frozen has not ended, and another process may be what
    we attend from then on.
    """
    ended = None
    if freezer:
        beside = (*beside, freezer)
    while True:
        status = _reap(child, duty, beside)
        ended = status if ended is None else ended
        if ended is not None and not (duty.lingers() and _lives(child)):
            frozen = freezer.has_frozen(child) if freezer else False
            next_child = freezer.successor(child) if freezer else 0
            if next_child:
                child, ended = next_child, None
                continue
            if freezer and frozen:
                for one in beside:
                    one.on_term(freezer.left(duty.grace))
            _act(child, duty.on_end())
            code = FROZEN if frozen else exit_code(ended, stopping=duty.stopping)
            if freezer and not frozen and not duty.stopping:
                freezer.ended(code)
            for one in beside:
                one.finish(duty.grace)
            return code
        pause = duty.wait(monotonic())
        if ended is not None and pause is not None:
            pause = min(pause, _LOOK)
        for one in beside:
            look = one.wait(monotonic())
            if look is not None:
                pause = look if pause is None else min(pause, look)
        info = _signal.sigwaitinfo(also) if pause is None else _signal.sigtimedwait(also, pause)
        now = monotonic()
        if info is not None and info.si_signo != _signal.SIGCHLD:
            if info.si_signo == _signal.SIGTERM:
                if freezer and freezer.takes_term(duty.grace, now):
                    continue
                duty.grace = freezer.left(duty.grace) if freezer else duty.grace
                for one in beside:
                    one.on_term(duty.grace)
            _act(child, duty.on_signal(info.si_signo, now))
        _act(child, duty.on_time(now))
        for one in beside:
            one.on_time(now)


def _lives(group: int) -> bool:
    try:
        os.kill(-group, 0)
    except OSError:
        return False
    return True


def _reap(child: int, duty: Duty, beside: Sequence[Companion]) -> int | None:
    """Collect whoever ended; returns the wait status of *child* if it was among them."""
    ended = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        if pid == child and os.WIFSTOPPED(status):
            _act(child, duty.on_stop(spawn.is_foreground()))
        elif pid == child:
            ended = status
        for one in beside:
            if pid == one.pid and not os.WIFSTOPPED(status):
                one.on_exit(status)


def _act(child: int, actions: list[tuple[str, int]]) -> None:
    for what, number in actions:
        if what == SEND:
            send(child, number)
        elif what == PAUSE:
            os.kill(os.getpid(), _signal.SIGSTOP)
        elif what == LEND:
            spawn.lend(child)
        else:
            spawn.lend(os.getpgrp(), child)


def send(child: int, number: int) -> None:
    """Signal the group of *child*, or *child* alone when it left its group, or has none yet."""
    for target in (-child, child):
        try:
            os.kill(target, number)
            return
        except OSError:
            continue  # it ended, and the next wait says how; or it is another user's now
