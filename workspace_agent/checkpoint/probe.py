"""The truth with a tiny process, where a table of capabilities only promises."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace

from workspace_agent.checkpoint import criu, tree
from workspace_agent.host import command, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workspace_agent.checkpoint.criu import Criu

# It takes a fifth of a second; a machine under load may need longer.
_PATIENCE = 60.0

# The process has no more descriptors open than this.
_DESCRIPTORS = 4096

_CLONE3, _SIGCHLD = 435, 17

_LAST = "/proc/sys/kernel/ns_last_pid"


@dataclass(frozen=True)
class Trip:
    """How far a process came: *dumped*, *restored*, and else *why* not; in *secs*."""

    dumped: bool
    restored: bool
    why: str
    secs: float


def round_trip(tool: Criu, folder: str) -> Trip:
    """Dump and restore a process that waits, with its images in *folder*, and end it."""
    tool = replace(tool, work=folder)
    child = _waiting()
    try:
        done = _run(tool.dump(child), folder)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    if done.code:
        return Trip(False, False, _why(folder, "dump", done.tail), done.secs)
    pidfile = f"{folder}/probe.pid"
    back = _run(tool.restore(pidfile, {}), folder)
    secs = done.secs + back.secs
    if back.code:
        return Trip(True, False, _why(folder, "restore", back.tail), secs)
    return Trip(True, _ended(int(files.read(pidfile) or 0)), "", secs)


def gives_numbers() -> bool:
    """Say whether a process can be given its number, as each has to that is restored."""
    import ctypes  # with this feature only
    import struct

    if os.access(_LAST, os.W_OK):
        return True  # CRIU's other way
    free = os.fork()
    if free == 0:
        os._exit(0)
    os.waitpid(free, 0)
    wanted = ctypes.c_int(free)
    # struct clone_args: exit_signal is the 5th field, set_tid and its length are the 9th and 10th.
    fields = [0, 0, 0, 0, _SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1]
    arguments = ctypes.create_string_buffer(struct.pack("=10Q", *fields), 80)
    made = ctypes.CDLL(None).syscall(_CLONE3, arguments, ctypes.c_size_t(80))
    if made == 0:
        os._exit(0)
    if made > 0:
        os.waitpid(made, 0)
    return bool(made == free)


def _waiting() -> int:
    """Start a process with a session of its own and nothing of ours open."""
    import signal

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.closerange(3, _DESCRIPTORS)
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    os.read(reader, 1)  # the end: it has let go of the other side
    os.close(reader)
    return child


def _run(argv: list[str], folder: str) -> command.Finished:
    log = f"{folder}/probe.log"
    return command.run(argv, log=log, env=os.environ, timeout=_PATIENCE, cwd=folder)


def _why(folder: str, verb: str, said: str) -> str:
    """Return the cause in CRIU's words; it says on stderr why it does not even begin."""
    log = os.fsdecode(files.read(f"{folder}/{verb}.log", 1 << 24) or b"")
    return "; ".join(criu.causes(log)) or said.split("\n")[-1]


def _ended(pid: int) -> bool:
    """End what came back; say whether it was there. Whoever adopted it buries it."""
    there = tree.task(pid)
    with suppress(OSError):
        os.kill(pid, 9)
    return there is not None and there.state != tree.ZOMBIE  # it stops a moment after CRIU ends
