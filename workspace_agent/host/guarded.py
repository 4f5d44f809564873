"""Work in a process of its own, with us as its guardian: it may be killed, and so may we."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SUBREAPER = 36  # linux/prctl.h: orphans of the work come to us


def guarded(
    work: Callable[[], bytes], undo: Callable[[], None], *, adopt: bool = True
) -> bytes | None:
    """Return what *work* returns; where it dies without an answer, *undo* what it did.

    With *adopt*, nobody whom it started is left by then; else those are for PID 1. None is for a
    death. It goes on alone when we die; a TERM or an interrupt for us ends it in good order.
    """
    if adopt:
        _adopt()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(work, writer)
    os.close(writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: _pass_on(child))
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if status == 0 and answer:
        return answer
    _wait_for_all()
    undo()
    return None


def _work(work: Callable[[], bytes], writer: int) -> None:
    code = 1
    try:
        os.setsid()  # whoever kills our group means the guardian
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _leave)
        answer = work()
        with suppress(BrokenPipeError), open(writer, "wb") as pipe:
            pipe.write(answer)
        code = 0
    finally:
        os._exit(code)


def _leave(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what follows puts things in order
    raise SystemExit(128 + number)


def _pass_on(child: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)


def _adopt() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def _wait_for_all() -> None:
    with suppress(ChildProcessError):
        while True:
            os.wait()
