"""The workload's processes with all they have open, read once; whoever judges looks at it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field

from workspace_agent.checkpoint import powers, sockets, stdio, tree
from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workspace_agent.checkpoint.powers import Powers
    from workspace_agent.checkpoint.tree import Task
    from workspace_agent.model.problem import Problem

    # What was found, whether it stops, and for many of one kind what they have in common.
    Found = tuple[Problem, bool, str]


@dataclass(frozen=True)
class Open:
    """Descriptor *number* of *task*, which leads to *target*; *info* is its /proc/PID/fdinfo."""

    task: Task
    number: int
    target: str
    info: str

    @property
    def link(self) -> str:
        """Where it can be looked at."""
        return f"/proc/{self.task.pid}/fd/{self.number}"

    @property
    def flags(self) -> int:
        """How it was opened, as in open(2)."""
        return int(self.field("flags") or "0", 8)

    @property
    def writes(self) -> bool:
        """Whether it is open for writing."""
        return bool(self.flags & (os.O_WRONLY | os.O_RDWR))

    def field(self, name: str) -> str:
        """Return a line of *info*; "" where there is none."""
        _, found, rest = f"\n{self.info}".partition(f"\n{name}:")
        return rest.split("\n", 1)[0].strip() if found else ""

    def __str__(self) -> str:
        return f"descriptor {self.number} of {who(self.task)}"


@dataclass(frozen=True)
class Scene:
    """The processes *tasks*, what *may* be done here, and what each descriptor is measured by.

    *mounts* are the kinds of file systems by their mount's number, *devices* by their device's;
    *given* is what a restore leads to the next container's own: see stdio.py.
    """

    tasks: Sequence[Task]
    may: Powers
    opened: Sequence[Open]
    sockets: sockets.Sockets
    mounts: Mapping[str, str]
    devices: Mapping[tuple[int, int], str]
    namespaces: Mapping[str, str]
    volume: str = "/"
    tcp: str = "close"
    pids: frozenset[int] = field(default_factory=frozenset)
    given: frozenset[str] = field(default_factory=frozenset)

    def keeps(self, task: Task, space: str) -> bool:
        """Say whether *task* comes back into the namespace of kind *space* that it is in."""
        own = _namespace(task.pid, space)
        if own in ("", self.namespaces[space]):
            return True
        # Those that the root brought are made again where CRIU has all rights.
        can = space in ("net", "ipc") or (
            space == "uts" and os.access("/proc/sys/kernel/hostname", os.W_OK)
        )
        return can and powers.is_full(self.may) and own == _namespace(self.tasks[0].pid, space)

    def is_own(self, task: Task, space: str) -> bool:
        """Say whether *task* is in a namespace of the workload's own."""
        return _namespace(task.pid, space) not in ("", self.namespaces[space])

    def inodes(self, kind: str) -> set[int]:
        """Return the inodes of all that the tree has open of a *kind*: `socket` or `pipe`."""
        return {inode(one.target) for one in self.opened if one.target.startswith(f"{kind}:")}


_SPACES = ("user", "pid", "mnt", "uts", "ipc", "net")


def look(tasks: Sequence[Task], may: Powers, *, volume: str, tcp: str) -> Scene:
    """Read /proc of these processes; the first of them is the root."""
    root = tasks[0].pid
    kinds: dict[str, str] = {}
    devices: dict[tuple[int, int], str] = {}
    table = files.read(f"/proc/{root}/mountinfo", _LARGE) or b""
    for line in table.decode("latin-1").split("\n"):
        head, _, tail = line.partition(" - ")
        if tail:
            number, _, device, *_ = head.split(" ")
            major, _, minor = device.partition(":")
            kinds[number] = devices[int(major), int(minor)] = tail.split(" ")[0]
    given = stdio.outside(tasks[0].parent).values()
    opened = [one for task in tasks for one in descriptors(task.pid, task)]
    spaces = {space: _namespace("self", space) for space in _SPACES}
    return Scene(tasks, may, opened, sockets.look(root), kinds, devices, spaces, volume, tcp,
                 frozenset(tree.numbers(tasks)), frozenset(given))  # fmt: skip


# Maps and mount tables of large programs are longer than a state file.
_LARGE = 1 << 26


def descriptors(pid: int, task: Task) -> Iterator[Open]:
    """Go through what *pid* has open, as far as we may look."""
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                is_socket = target.startswith("socket:")  # nothing is asked of their fdinfo
                info = b"" if is_socket else files.read(f"/proc/{pid}/fdinfo/{name}") or b""
                yield Open(task, int(name), target, info.decode("latin-1"))


def maps(pid: int) -> str:
    """Return /proc/PID/maps."""
    return os.fsdecode(files.read(f"/proc/{pid}/maps", _LARGE) or b"")


def inode(target: str) -> int:
    """Return the number in a link such as `pipe:[42]`."""
    return int(target.partition("[")[2].rstrip("]"))


def who(task: Task) -> str:
    """Name a process for people."""
    return f"process {task.pid} ({task.name})"


def _namespace(pid: int | str, space: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{space}")
    except OSError:
        return ""
