"""The workload's processes, as /proc shows them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass

from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

# Fields of /proc/PID/stat, counted from behind the name: proc_pid_stat(5).
_STATE, _PARENT, _GROUP, _SESSION, _STARTED, _PAGES = 0, 1, 2, 3, 19, 21

_PAGE = os.sysconf("SC_PAGE_SIZE")

# A stopped task stops when it is next given time to.
_LATE, _SLICE = 5.0, 0.002

ZOMBIE, STOPPED, TRACED = "Z", "T", "t"


@dataclass(frozen=True)
class Task:
    """One process: *started* is in clock ticks since the machine's boot, *threads* are their ids.

    *resident* are the bytes that it has in memory, shared ones included.
    """

    pid: int
    parent: int
    group: int
    session: int
    state: str
    started: int
    resident: int
    name: str
    threads: tuple[int, ...] = ()


def task(pid: int) -> Task | None:
    """Return the process *pid*, without its threads; None when there is none."""
    text = files.read(f"/proc/{pid}/stat") or b""
    name, _, rest = text.rpartition(b")")
    words = rest.split()
    if not words:
        return None
    parent, group, session, started, pages = (
        int(words[n]) for n in (_PARENT, _GROUP, _SESSION, _STARTED, _PAGES)
    )
    return Task(pid, parent, group, session, words[_STATE].decode(), started, pages * _PAGE,
                os.fsdecode(name.partition(b"(")[2]))  # fmt: skip


def tree(root: int) -> list[Task]:
    """Return *root* and all that come from it, each after its parent; empty when *root* is gone."""
    below: dict[int, list[Task]] = {}
    for one in processes():
        below.setdefault(one.parent, []).append(one)
    first = task(root)
    found = [first] if first else []
    for one in found:
        found += below.get(one.pid, ())
    return [with_threads(one) for one in found]


def processes() -> Iterator[Task]:
    """Go through all processes that can be seen from here."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (one := task(int(name))):
            yield one


def ticks() -> int:
    """Return the time in which /proc says when a process started."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def is_same(pid: int, started: int) -> bool:
    """Say whether *pid* is still the process that *started* then, and no other of its number."""
    now = task(pid)
    return now is not None and now.started == started and now.state != ZOMBIE


def settled(find: Callable[[], list[Task]], asleep: Collection[int]) -> list[Task]:
    """Return what *find* does, once all but those *asleep* are stopped: CRIU does not wait.

    One that comes late is there as it is.
    """
    limit = time.monotonic() + _LATE
    while True:
        tasks = find()
        moving = [one for one in tasks if one.state not in (STOPPED, ZOMBIE)]
        if not {one.pid for one in moving} - set(asleep) or time.monotonic() > limit:
            return tasks
        time.sleep(_SLICE)


def numbers(tasks: Iterable[Task]) -> set[int]:
    """Return every number that these processes and their threads, groups and sessions have."""
    return {number for one in tasks for number in (one.pid, *one.threads, one.group, one.session)}


def with_threads(one: Task) -> Task:
    """Return *one* with the numbers of its threads."""
    with suppress(OSError):
        names = os.listdir(f"/proc/{one.pid}/task")
        return Task(**{**one.__dict__, "threads": tuple(sorted(map(int, names)))})
    return one
