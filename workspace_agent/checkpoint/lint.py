"""What can be said of the workload's processes before anything is frozen.

Only /proc is read. What *stops* was tried with CRIU 4.2.1 in real containers and failed, and what
does not stop went well: tests/container/test_checkpoint_lint.py.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from workspace_agent.checkpoint import powers, tree
from workspace_agent.checkpoint.descriptors import of_descriptors, unknown_kind
from workspace_agent.checkpoint.regular import is_ghost, too_large
from workspace_agent.checkpoint.scene import look, maps, who
from workspace_agent.host import files
from workspace_agent.model.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workspace_agent.checkpoint.powers import Powers
    from workspace_agent.checkpoint.scene import Found, Scene
    from workspace_agent.checkpoint.tree import Task

# Mappings that are more than memory or a file that is still there, and where they are.
_MAPPED = re.compile(r"^(\S+) .* (/SYSV\S*|/secretmem|anon_inode:\S+|/.*(?= \(deleted\)$))", re.M)


@dataclass(frozen=True)
class Finding:
    """Something to know before a dump; it *stops*: the dump, or the restore of it, would fail."""

    problem: Problem
    stops: bool


def findings(
    tasks: Sequence[Task], may: Powers, *, floor: int, tcp: str, volume: str
) -> list[Finding]:
    """Return all that stands against a dump of *tasks*, root first, and against its restore."""
    live = [one for one in tasks if one.state != tree.ZOMBIE]
    if not live:
        return []
    scene = look(live, may, volume=volume, tcp=tcp)
    found = [*_clock(may), *_numbers(tasks, floor), *_left(tasks)]
    for one in live:
        found += [*_identity(one, scene), *_memory(one, scene)]
    return _once([*found, *of_descriptors(scene)])


def _once(found: Iterable[Found]) -> list[Finding]:
    """Say once what many processes share, and of how many it is true."""
    groups: dict[tuple[str, str], list[Found]] = {}
    for problem, stops, shared in found:
        key = (problem.slug, shared or problem.what)
        groups.setdefault(key, []).append((problem, stops, shared))
    said = []
    for (problem, stops, _), *more in groups.values():
        what = f"{problem.what}, and {len(more)} more" if more else problem.what
        said.append(Finding(replace(problem, what=what), stops))
    return said


def _clock(may: Powers) -> Iterator[Found]:
    if not powers.is_full(may):
        yield Problem(
            "checkpoint.clock", "monotonic clocks will be those of the next machine",
            "without SYS_ADMIN, SYS_PTRACE, NET_ADMIN and SYS_TIME there is no time namespace:"
            " timers end early, or very late on a machine that was started more recently",
            "add these capabilities, or restore on machines that have been up for longer",
        ), False, ""  # fmt: skip


def _numbers(tasks: Sequence[Task], floor: int) -> Iterator[Found]:
    root = tasks[0]
    if root.session != root.pid or not all(one.session for one in tasks):
        yield Problem(
            "checkpoint.session", f"{who(root)} does not lead a session of its own",
            "the leader would stay behind", "let the agent start it, or use `setsid`",
        ), True, ""  # fmt: skip
    for one in tasks:
        if low := [n for n in tree.numbers([one]) if 0 < n < floor]:
            yield Problem(
                "checkpoint.low-number", f"{who(one)} has the number {min(low)}",
                f"the next container's own processes have numbers below {floor}",
                "let the agent start the workload", f"/proc/{one.pid}",
            ), False, "low"  # fmt: skip


def _left(tasks: Sequence[Task]) -> Iterator[Found]:
    """Find who went away from the workload: children of its parent that are not the agent's."""
    root = tasks[0]
    for one in tree.processes() if root.parent == 1 else ():
        if one.parent != 1 or one.pid <= root.pid or one.state == tree.ZOMBIE:
            continue
        words = files.read(f"/proc/{one.pid}/cmdline") or b""
        if not any(ours in words for ours in (b"workspace_agent", b"workspace-agent")):
            yield Problem(
                "checkpoint.left-tree", f"{who(one)} has left the workload",
                "its parent is gone: it is not in the checkpoint and ends with the container",
                "start it in the foreground, or below a process that adopts its orphans"
                " (PR_SET_CHILD_SUBREAPER)",
            ), False, ""  # fmt: skip


def _identity(one: Task, scene: Scene) -> Iterator[Found]:
    """Look at whose process it is, who holds it, and where it lives."""
    said, may = powers.status(one.pid), scene.may
    users, groups = (set(said.get(name, "").split()[:3]) for name in ("Uid", "Gid"))
    ours = users <= {str(os.getuid())} and groups <= {str(os.getgid())}
    if not (ours or may.has(powers.SYS_RESOURCE)):
        whose = f"user {' '.join(sorted(users))}, group {' '.join(sorted(groups))}"
        yield Problem(
            "checkpoint.other-user", f"{who(one)} runs as {whose}",
            "without SYS_RESOURCE the limits of another user's process cannot be read",
            "run all of the workload as the agent's user, or add the capability SYS_RESOURCE",
        ), True, whose  # fmt: skip
    if said.get("TracerPid", "0") != "0":
        yield Problem(
            "checkpoint.traced", f"{who(one)} is traced by process {said['TracerPid']}",
            "a process can be traced by one other only", "end the debugger or tracer",
        ), True, ""  # fmt: skip
    if said.get("Seccomp", "0") != "0" and not (may.seccomp or may.has(powers.SYS_ADMIN)):
        yield Problem(
            "checkpoint.sandbox", f"{who(one)} has a seccomp filter of its own",
            "without SYS_ADMIN it cannot be suspended",
            "switch the program's sandbox off, or add the capability SYS_ADMIN",
        ), True, "seccomp"  # fmt: skip
    for space in scene.namespaces:
        if not scene.keeps(one, space):
            yield Problem(
                "checkpoint.sandbox", f"{who(one)} has a {space} namespace of its own",
                "that cannot be made again in the next container",
                "switch the program's sandbox off",
            ), True, space  # fmt: skip


def _memory(one: Task, scene: Scene) -> Iterator[Found]:
    """Look at what is mapped."""
    for place, what in _MAPPED.findall(maps(one.pid)):
        if what.startswith("/SYSV"):
            if scene.is_own(one, "ipc"):
                continue
            yield Problem(
                "checkpoint.shared-memory", f"{who(one)} has System V shared memory",
                "it belongs to the container and not to the processes",
                "let the program use POSIX shared memory or mmap (PostgreSQL:"
                " shared_memory_type = mmap, and dynamic_shared_memory_type = posix)",
            ), True, ""  # fmt: skip
        elif what == "/secretmem" or what.startswith("anon_inode:"):
            yield unknown_kind(f"{who(one)} has {what} in its memory"), True, ""
        elif is_ghost(f"/proc/{one.pid}/map_files/{place}"):
            yield too_large(f"{who(one)} has {what} in its memory, which is deleted"), True, what
