"""Start the workload: its own session, its terminal, its signals, none of our descriptors.

C modules only (`_signal`, not `signal`, whose enum costs 12 ms): PID 1 runs this.
"""

from __future__ import annotations

import errno

from workspace_agent.host.chalf import os
from workspace_agent.host.chalf import signal as _signal
from workspace_agent.supervise import exitcode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# How the workload comes to its terminal.
NO_TTY = 0  # none on stdin, or not ours to give: a session of its own
HAND_OVER = 1  # we lead the session (a container's `-t`): the workload's session takes the terminal
LEND = 2  # a shell leads it (a person's machine): same session, in the foreground when we are

# CPython ignores these two for itself, and an exec would pass that on; subprocess resets the
# same pair. Its handler for INT goes with the exec.
_RESET = (_signal.SIGPIPE, _signal.SIGXFSZ)


class Spawned:
    """A started workload; or *pid* is 0, and *error* the errno of the exec."""

    __slots__ = ("error", "pid", "tty")

    def __init__(self, pid: int, tty: int, error: int) -> None:
        self.pid = pid
        self.tty = tty
        self.error = error


def spawn(argv: Sequence[str], env: Mapping[str, str], mask: Iterable[int]) -> Spawned:
    """Fork and execute *argv* with *env*, signal *mask* restored; returns once the exec is decided.

    PATH is that of *env*. A file without an interpreter line runs under /bin/sh, as shells do.
    """
    tty = tty_kind()
    if tty == HAND_OVER:
        release()
    if tty == NO_TTY:
        try:
            return _spawn_detached(argv, env, mask)
        except NotImplementedError:
            pass  # this C library's posix_spawn makes no sessions
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(argv, env, mask, tty, writer)
    os.close(writer)
    if tty == LEND:
        lend(pid)
    error = int(os.read(reader, 16) or b"0")
    os.close(reader)
    if error:
        os.waitpid(pid, 0)
        if tty == LEND:
            lend(os.getpgrp(), pid)
    return Spawned(0 if error else pid, tty, error)


def _spawn_detached(argv: Sequence[str], env: Mapping[str, str], mask: Iterable[int]) -> Spawned:
    """Start without a fork of the interpreter, which would cost 0.7 ms of the fast path's 10."""

    def start(file: str, words: list[bytes], raw: dict[bytes, bytes]) -> int:
        return os.posix_spawn(file, words, raw, setsid=True, setsigmask=mask, setsigdef=_RESET)

    pid, error = _attempt(start, argv, env)
    return Spawned(pid or 0, NO_TTY, error)


def tty_kind() -> int:
    """Say how a workload started now would come to the terminal on stdin."""
    if not os.isatty(0):
        return NO_TTY
    if os.getsid(0) == os.getpid():
        return HAND_OVER
    try:
        os.tcgetpgrp(0)
    except OSError:
        return NO_TTY  # another session's
    return LEND if os.isatty(1) else NO_TTY


def release() -> None:
    """Give up the terminal on stdin, if it controls us, for another session to take.

    The kernel sends our group a HUP and a CONT for that, which are for nobody.
    """
    of_it = (_signal.SIGHUP, _signal.SIGCONT)
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, of_it)
    handler = _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)  # another thread may not block it
    if _ioctl("TIOCNOTTY"):
        while _signal.sigtimedwait(of_it, 0) is not None:
            pass
    _signal.signal(_signal.SIGHUP, handler or _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def lend(pgrp: int, holder: int | None = None) -> None:
    """Give the terminal to group *pgrp* if group *holder* (ours) has it; else it stays.

    Both sides of a start call it, whoever is first. What a shell has put into the background
    must not take the terminal from it, not even to give it back.
    """
    with _Indifferent():
        os.setpgid(pgrp, pgrp)
    with _Indifferent():
        if os.tcgetpgrp(0) == (os.getpgrp() if holder is None else holder):
            os.tcsetpgrp(0, pgrp)


def is_foreground() -> bool:
    """Say whether our own group has the terminal on stdin."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


class _Indifferent:
    """Lets an OSError pass: the process has executed already, or is gone.

    `contextlib` would be one more import of PID 1.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


def executables(name: str, path: str) -> list[str]:
    """List the files that *name* may mean, in the order of search *path*."""
    if "/" in name:
        return [name]
    return [f"{folder or '.'}/{name}" for folder in path.split(":")] if name else []


def execute(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Replace this process by *argv*, found on the PATH of *env*.

    Returns only on failure, with the errno that says most: ENOENT if no candidate was there.
    """
    return _attempt(os.execve, argv, env)[1]


def _attempt(
    start: Callable[[str, list[bytes], dict[bytes, bytes]], int],
    argv: Sequence[str],
    env: Mapping[str, str],
) -> tuple[int | None, int]:
    """Call *start* for each file that *argv* may mean; returns (its result, 0) or (None, errno)."""
    raw = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    words = [os.fsencode(word) for word in argv]
    worst = errno.ENOENT
    for file in executables(argv[0], env.get("PATH", os.defpath)):
        try:
            return start(file, words, raw), 0
        except OSError as error:
            if error.errno == errno.ENOEXEC and file != "/bin/sh":
                return _attempt(start, ["/bin/sh", file, *argv[1:]], env)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error.errno or errno.EACCES
    return None, worst


def _become(
    argv: Sequence[str],
    env: Mapping[str, str],
    mask: Iterable[int],
    tty: int,
    report: int,
) -> None:
    """Turn this child into the workload; never returns."""
    try:
        if tty == LEND:
            lend(os.getpid(), os.getpgid(os.getppid()))
        else:
            os.setsid()
        if tty == HAND_OVER:
            _ioctl("TIOCSCTTY")
        for number in _RESET:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        os.write(report, b"%d" % execute(argv, env))
    finally:
        os._exit(exitcode.AGENT_FAILED)  # nobody reads it: the errno says why


def _ioctl(name: str) -> bool:
    import fcntl  # extension modules that only a terminal needs
    import termios

    try:
        fcntl.ioctl(0, getattr(termios, name), 0)
    except OSError:
        return False
    return True
