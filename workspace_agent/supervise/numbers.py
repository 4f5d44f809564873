"""Where the next process numbers come from: above those that another container may need.

The kernel takes the next one after the last, and after a wrap-around none below 300. CRIU puts
processes back at their numbers without moving that cursor.
"""

from __future__ import annotations

import _thread

from workspace_agent.host.chalf import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CURSOR = "/proc/sys/kernel/ns_last_pid"


def is_placeholder(argv: Sequence[str]) -> bool:
    """Say whether a command waits for a checkpoint; such a one stays where nobody's numbers are."""
    ours = any(word.rpartition("/")[2] in ("workspace-agent", "__main__.py") for word in argv[:4])
    return ours and "placeholder" in argv


def reach(number: int) -> None:
    """Have the next process here come after *number*."""
    try:
        fd = os.open(_CURSOR, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % number)
        finally:
            os.close(fd)
    except OSError:
        _burn(number)  # a container's /proc/sys is read-only


def _burn(number: int) -> None:
    """Use numbers up: a thread takes one, and is over at once."""
    seen = 0
    done = _thread.allocate_lock()

    def take() -> None:
        nonlocal seen
        seen = _thread.get_native_id()
        done.release()

    first = 0
    while seen < number and seen >= first:  # less than before: the numbers have wrapped around
        first = seen
        done.acquire()
        try:
            _thread.start_new_thread(take, ())
        except RuntimeError:  # the kernel gives us no more threads just now
            done.release()
            return
        done.acquire()
        done.release()
