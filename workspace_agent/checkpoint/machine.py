"""What a checkpoint needs of the machine, and whether this one has it."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress

from workspace_agent.checkpoint import powers
from workspace_agent.host import files
from workspace_agent.model.words import duration, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from workspace_agent.checkpoint.tree import Task

_POD = re.compile(r"/pods/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/")

# A program that was started on a processor keeps what it found out about it then.
_FLAGS = ("flags", "Features")


def here(criu: Sequence[int]) -> dict[str, Any]:
    """Return the facts of this container and its machine; *criu* is the version of that."""
    name = os.uname()
    return {
        "arch": name.machine, "kernel": name.release, "criu": list(criu),
        "page": os.sysconf("SC_PAGE_SIZE"), "cpu": _cpu(), "cpu_flags": _cpu_flags(),
        "memory": _memory(),
        "uptime": round(time.clock_gettime(time.CLOCK_MONOTONIC), 3),
        "boot": _text("/proc/sys/kernel/random/boot_id"), "host": name.nodename,
        "pod": pod(_text("/proc/self/mountinfo")),
    }  # fmt: skip


def of_tree(tasks: Sequence[Task]) -> dict[str, Any]:
    """Return what a frozen tree needs wherever it goes on."""
    needed = 0
    for one in tasks:
        said = powers.status(one.pid)
        needed |= int(said.get("CapPrm", "0"), 16) | int(said.get("CapInh", "0"), 16)
    clock = round(_clock(tasks[0].pid), 3)
    return {"needs_capabilities": needed, "uptime": clock, "own_time": _has_own_time(tasks[0].pid)}


def mismatches(
    version: Mapping[str, Any], here: Mapping[str, Any], *, time_space: bool
) -> list[str]:
    """Say everything that keeps the facts of a *version* from going on *here*.

    A fact that was not noted is none. With a *time_space* the clock goes on where it was.
    """
    found = []
    for name, word in (("arch", "processor's kind"), ("page", "page size")):
        if name in version and version[name] != here[name]:
            found.append(f"the {word} is {here[name]}, and was {version[name]}")
    if tuple(version.get("criu", ())) > tuple(here["criu"]):
        found.append(f"CRIU is {_dots(here['criu'])}, and was {_dots(version['criu'])}")
    if missing := sorted(set(version.get("cpu_flags", ())) - set(here["cpu_flags"])):
        more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
        found.append(f"the processor lacks {' '.join(missing[:6])}{more}")
    if 0 < here["memory"] < version.get("needs_memory", 0):
        found.append(f"the memory limit is {size(here['memory'])}, and the workload had"
                     f" {size(version['needs_memory'])} in memory")  # fmt: skip
    if not time_space and version.get("own_time"):
        found.append("it has a time namespace, which takes SYS_ADMIN, SYS_PTRACE, NET_ADMIN and"
                     " SYS_TIME here")  # fmt: skip
    if not time_space and version.get("uptime", 0) > here["uptime"]:
        secs = duration(version["uptime"] - here["uptime"])
        found.append(f"this machine's clock is {secs} behind the other's: every timer would wait"
                     " so long (a time namespace takes SYS_ADMIN and SYS_TIME)")  # fmt: skip
    if version.get("at_term") and version.get("pod") and version["pod"] == here["pod"]:
        found.append("it was frozen in this very pod: a container that is restarted in its pod, as"
                     " after a failed liveness probe, begins anew")  # fmt: skip
    return found


def pod(mountinfo: str) -> str:
    """Return the UID of the Kubernetes pod that this container is in; "" for none.

    The kubelet keeps what it mounts into a pod's containers in a folder of that name.
    """
    found = _POD.search(mountinfo)
    return found[1] if found else ""


def fingerprint(here: Mapping[str, Any]) -> str:
    """Name machines on which the same fails for the same reason."""
    from hashlib import sha256

    parts = [here[name] for name in ("arch", "kernel", "criu", "cpu")]
    return sha256(repr(parts).encode()).hexdigest()[:16]


def _clock(pid: int) -> float:
    """Return the monotonic clock of *pid*, whose time namespace may be another one than ours."""
    theirs, ours = (_offset(_text(f"/proc/{one}/timens_offsets")) for one in (pid, "self"))
    return time.clock_gettime(time.CLOCK_MONOTONIC) + theirs - ours


def _has_own_time(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/time") != os.readlink("/proc/self/ns/time")
    except OSError:
        return False


def _offset(said: str) -> float:
    words = said.split()[:3]
    return int(words[1]) + int(words[2]) / 1e9 if len(words) == 3 else 0.0


def _memory() -> int:
    """Return the container's memory limit in bytes; 0 for none."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(ValueError):
            return int(_text(path))
    return 0


def _cpu() -> str:
    return next((line.partition(":")[2].strip() for line in _text("/proc/cpuinfo").splitlines()
                 if line.startswith("model name")), "")  # fmt: skip


def _cpu_flags() -> list[str]:
    for line in _text("/proc/cpuinfo").splitlines():
        if line.split("\t", 1)[0].strip() in _FLAGS:
            return sorted(line.partition(":")[2].split())
    return []


def _dots(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _text(path: str) -> str:
    return (files.read(path) or b"").decode("utf-8", "replace").strip()
