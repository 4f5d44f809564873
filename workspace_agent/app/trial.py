"""The gate to Ready: a checkpoint is restored once beside the workload, if that can be done."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from workspace_agent.checkpoint import artifact, criu, stdio, trial
from workspace_agent.host import command, files
from workspace_agent.model.problem import AgentError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workspace_agent.app.checkpoints import Bench
    from workspace_agent.checkpoint.tree import Task

PASSED = "passed"

_NO_NAMESPACES = "this container may not make the namespaces that it takes (CAP_SYS_ADMIN)"

# CRIU makes them again at their paths, where the workload's own still are.
_SOCKETS = "it has sockets with a path, whose names a trial would take away"

# CRIU links such a file to a name beside the old one, and every restore takes that away again.
_LINKS = "it has a file open by a name that is gone, and CRIU's link to it would be used up"

# remap-fpath.img: a magic number and entries behind their sizes; the last field is the kind.
_REMAPS, _MAGIC, _NO_LINK = "remap-fpath.img", 8, (b"\x18\x01", b"\x18\x02")


def run(bench: Bench, agent: int, stage: int, tasks: Sequence[Task]) -> str:
    """Try what is in the open folder *stage*; returns `passed`, or `waived: ` and why.

    Raises AgentError where it does not come back, or the profile wants a trial that cannot be made.
    """
    wish = bench.profile.checkpoint.trial
    if wish == "never":
        return "waived: `checkpoint.trial` is `never`"
    why = _SOCKETS if _has_sockets(tasks) else _LINKS if _has_links(stage) else ""
    code, log = (trial.NO_NAMESPACES, "") if why else _try(bench, agent, stage)
    if code == 0:
        return PASSED
    if code == trial.NO_NAMESPACES and wish == "auto":
        return f"waived: {why or _NO_NAMESPACES}"
    if code == trial.NO_NAMESPACES:
        raise AgentError(Problem("checkpoint.no-trial", "the checkpoint could not be tried",
                                 why or _NO_NAMESPACES, "`auto` goes without it"))  # fmt: skip
    found = criu.failed("restore", log, f"exit code {code}")
    raise AgentError(Problem("checkpoint.trial-failed", "the checkpoint does not come back",
                             found.why, found.fix, found.where))  # fmt: skip


def _try(bench: Bench, agent: int, stage: int) -> tuple[int, str]:
    work = f"{bench.work}/trial"
    os.makedirs(work, 0o700, exist_ok=True)
    pidfile = f"{work}/root.pid"
    files.remove(pidfile)
    with ExitStack() as stack:
        inherit = stdio.opened(agent, stdio.outside(agent))
        for fd in inherit:
            stack.callback(os.close, fd)
            if inherit[fd].startswith("tty["):  # CRIU would take it away from the workload
                master, slave = os.openpty()
                stack.callback(os.close, master)
                os.dup2(slave, fd)
                os.close(slave)
        argv = [sys.executable, "-I", "-S", trial.__file__,
                *replace(bench.tool(), work=work).restore(pidfile, inherit)]  # fmt: skip
        done = command.run(
            argv, log=f"{work}/criu.out", env={"PATH": os.defpath}, pass_fds=tuple(inherit),
            timeout=bench.profile.checkpoint.timeout,
            cwd=f"/proc/{os.getpid()}/fd/{stage}/{artifact.IMAGES}",
        )  # fmt: skip
    return done.code, f"{work}/{criu.RESTORE_LOG}"


def _has_links(stage: int) -> bool:
    """Say whether the dump has made a link."""
    data = files.read(f"/proc/self/fd/{stage}/{artifact.IMAGES}/{_REMAPS}") or b""
    at = _MAGIC
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if not data.endswith(_NO_LINK, at, end):
            return True
        at = end
    return False


def _has_sockets(tasks: Sequence[Task]) -> bool:
    """Say whether one of them listens at a path."""
    named = {}
    for line in os.fsdecode(files.read("/proc/net/unix") or b"").splitlines()[1:]:
        words = line.split(None, 7)
        if len(words) == 8 and words[7].startswith("/"):
            named[f"socket:[{words[6]}]"] = words[7]
    for one in tasks if named else ():
        try:
            names = os.listdir(f"/proc/{one.pid}/fd")
            if any(os.readlink(f"/proc/{one.pid}/fd/{n}") in named for n in names):
                return True
        except OSError:
            continue
    return False
