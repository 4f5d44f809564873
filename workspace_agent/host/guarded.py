"""Work in a process of its own, and we are its guardian: it may be killed or hang, so may we."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SUBREAPER = 36  # linux/prctl.h: orphans of the work come to us

# How often it is looked at, how long it has for its end when it is told to, and how long those whom
# it started have for theirs when they are killed: one that waits for a dead disk never ends.
_LOOK, _LAST_WORDS, _DEATH = 0.5, 3.0, 2.0

# What was started is worth so much waiting, once who started it is dead.
_PATIENCE, _SLICE = 30.0, 0.01

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Guardian:
    """Waits for a process that works; where it dies, or `is_stuck`, *undo* takes back what it did.

    After *secs* it is told to end; 0 is never. With *adopt*, orphans of the work come to us, and
    none of them is left when it is undone.
    """

    def __init__(
        self, undo: Callable[[], None], is_stuck: Callable[[int], bool] = lambda _: False,
        *, secs: float = 0.0, adopt: bool = True,
    ) -> None:  # fmt: skip
        self._undo, self._is_stuck = undo, is_stuck
        self._limit = time.monotonic() + secs if secs else None
        self._until: float | None = None
        self._child = 0
        if adopt:
            import ctypes

            ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)

    def run(self, work: Callable[[], bytes]) -> bytes | None:
        """Return what *work* returns; None when it came to no end, and was undone.

        It goes on alone when we die. A TERM or an interrupt for us ends it in good order.
        """
        reader, writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(reader)
            _work(work, writer)
        os.close(writer)
        for number in _STOP:
            signal.signal(number, lambda *_: self._stop())
        try:
            answer = self._listen(reader)
        finally:
            os.close(reader)
        if answer and os.waitpid(self._child, 0)[1] == 0:
            return answer
        if answer is not None:
            self._wait()
        self._bury()
        self._undo()
        return None

    def _listen(self, reader: int) -> bytes | None:
        """Return all that it says; None when it hangs, or does not end when it is told to."""
        poll, found = select.poll(), b""
        poll.register(reader, select.POLLIN)
        while True:
            if poll.poll(_LOOK * 1000):
                more = os.read(reader, 1 << 16)
                found += more
                if not more:
                    return found
            if self._is_late():
                return None

    def _is_late(self) -> bool:
        if self._limit is not None and time.monotonic() > self._limit:
            self._stop()
        over = self._until is not None and time.monotonic() > self._until
        return over or self._is_stuck(self._child)

    def _stop(self) -> None:
        if self._until is not None:
            return
        self._until = time.monotonic() + _LAST_WORDS
        if self._child:
            with suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)

    def _wait(self) -> None:
        """Let those whom it started end by themselves: a CRIU that is killed may kill its tree."""
        self._child = 0  # it is dead, and its number may be another's
        limit = time.monotonic() + _PATIENCE
        while time.monotonic() < limit and not self._is_late():
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    time.sleep(_SLICE)
            except ChildProcessError:
                return

    def _bury(self) -> None:
        """Kill it and those whom it started, and wait for them, but not for ever."""
        limit = time.monotonic() + _DEATH
        while time.monotonic() < limit:
            for pid in _children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                if not os.waitpid(-1, os.WNOHANG)[0]:
                    time.sleep(_SLICE)
            except ChildProcessError:
                return


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def _work(work: Callable[[], bytes], writer: int) -> None:
    code = 1
    try:
        os.setsid()  # whoever kills our group means the guardian
        for number in _STOP:
            signal.signal(number, _leave)
        answer = work()
        with suppress(BrokenPipeError), open(writer, "wb") as pipe:
            pipe.write(answer)
        code = 0
    finally:
        os._exit(code)


def _leave(number: int, _: object) -> None:
    for one in _STOP:
        signal.signal(one, signal.SIG_IGN)  # once is enough: what follows puts things in order
    raise SystemExit(128 + number)
