"""A question that may never be answered: by a volume that hangs, a driver that hangs or crashes."""

from __future__ import annotations

import os
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A process has no more descriptors open than this when we ask; each that is missed only waits.
_DESCRIPTORS = 4096


def in_time(ask: Callable[[], str], secs: float) -> str | None:
    """Return what *ask* says; None when it takes longer than *secs*, or fails.

    A child asks: no thread or process that waits for a hung volume can be ended. It has none of
    our descriptors, or whoever reads what we print would wait for it too.
    """
    import select
    import signal

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(ask, writer)
    os.close(writer)
    data, until = b"", time.monotonic() + secs
    try:
        while select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
            if not (more := os.read(reader, 1 << 16)):
                return os.fsdecode(data[:-1]) if data else None
            data += more
        return None
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _buried(child)


def _answer(ask: Callable[[], str], writer: int) -> None:
    """Be the child; never returns. Its last byte says that the answer is whole."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for fd, number in ((writer, 0), (null, 1), (null, 2)):
            os.dup2(fd, number)
        os.closerange(3, _DESCRIPTORS)
        data = memoryview(os.fsencode(ask()) + b"\n")
        while data:
            data = data[os.write(0, data) :]
    finally:
        os._exit(0)


def _buried(child: int) -> None:
    """Reap *child*, unless the kernel does not let go of it: then whoever comes after us does."""
    for _ in range(20):
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.005)
