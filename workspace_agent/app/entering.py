"""`nsrestore`: restore in a container from outside of it, with a node agent's privileges."""

from __future__ import annotations

import os
from contextlib import suppress

from workspace_agent.host import runtime
from workspace_agent.model.problem import AgentError, Problem

# The user's namespace stays: CRIU needs our capabilities there. The cgroup's is no matter.
_SPACES = ("ipc", "uts", "net", "pid", "mnt")

_PROGRAM = "/usr/local/bin/workspace-agent"


def nsrestore(pid: int, which: str, as_json: bool) -> int:
    """Run `workspace-agent restore WHICH` in the container of process *pid*; returns its exit code.

    The container needs no right of its own. Raises AgentError where it cannot be entered.
    """
    environ = runtime.variables(f"/proc/{pid}/environ")
    try:
        spaces = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in _SPACES]
        _join_cgroup(pid)
        for fd in spaces:
            _enter(fd)
            os.close(fd)
    except OSError as error:
        raise AgentError(Problem(
            "checkpoint.not-entered", f"the container of process {pid} cannot be entered",
            os.strerror(error.errno or 0), "run it as root of the node, in its namespaces",
        )) from error  # fmt: skip
    child = os.fork()  # only a child is in the new namespace of process numbers
    if child == 0:
        _become(environ, [*(["--json"] if as_json else []), "restore", *([which] if which else [])])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _become(environ: dict[str, str], words: list[str]) -> None:
    try:
        os.chdir("/")
        os.execve(_PROGRAM, [_PROGRAM, *words], environ)
    finally:
        os._exit(127)


def _enter(fd: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0):
        raise OSError(ctypes.get_errno(), "setns")


def _join_cgroup(pid: int) -> None:
    """Have what is restored counted as the container's, where that can be done."""
    with suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="ascii") as lines:
        for line in lines:
            number, _, path = line.strip().split(":", 2)
            if number == "0":
                with open(f"/sys/fs/cgroup{path}/cgroup.procs", "w", encoding="ascii") as procs:
                    procs.write("0")
