"""PID 1 asks the engine: a forked child works, this side waits with one eye on the clock.

The engine may hang in the kernel on a dead volume, crash, or be killed for memory; then it is
asked once more, told to leave the volume alone. If even that fails, the workload gets the
container's own environment. A TERM that arrives meanwhile ends the boot at once: a boot may be
killed anywhere.
"""

from __future__ import annotations

import marshal
import os
import select
from time import monotonic

from workspace_agent.host import installing
from workspace_agent.host.chalf import signal as _signal
from workspace_agent.model.recipe import path_beside
from workspace_agent.supervise import init, spawn, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from workspace_agent.start import Boot

# Silence for so long means that the volume hangs; the profile may say otherwise
# (`volume.deadline`), and the engine passes that on before it touches the volume.
PATIENCE = 30.0

# Signals that mean "stop" to a boot; the others would have gone to a workload that is not there.
_STOP = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGHUP)

# What the engine gets between a TERM and the KILL; its work can be killed anywhere.
_LAST_WORDS = 1.0

ALIVE, BURY, DEADLINE, GO, RELEASE = "alive", "bury", "deadline", "go", "release"

_SLICE_MS = 50  # how late a signal may be noticed while we listen to the engine

_HUNG = {
    "slug": "volume.not-responding",
    "what": "the volume does not answer; this boot goes on without it",
    "why": "no progress for {0:g} s",
    "fix": "look at the volume's server or the node's mount; the next boot tries again",
    "where": "",
}
_CRASHED = {
    "slug": "agent.crashed",
    "what": "the set-up ended unexpectedly; this boot goes on without the volume",
    "why": "the engine's wait status was {0}",
    "fix": "`workspace-agent setup -v` repeats it in the foreground",
    "where": "",
}


def consult(boot: Boot, mask: set[int]) -> int | None:
    """Fill *boot* with the engine's answer; returns an exit code when a signal ended the boot."""
    trouble: Mapping[str, str] | None = None
    for _ in range(2):
        answer = _ask(boot, mask, trouble)
        if isinstance(answer, int):
            return 128 + answer
        if "slug" not in answer:
            _take(boot, answer)
            return None
        boot.say(f"{answer['what']} ({answer['why']})")
        trouble = trouble or answer
    if trouble is not None:
        boot.problems.append(dict(trouble))
        volume = boot.environ.get("WORKSPACE_VOLUME", "/workspace")
        boot.env = {**boot.env, "PATH": path_beside(boot.env.get("PATH", os.defpath), volume)}
    return None


def capture(boot: Boot, mask: set[int], told: Callable[[], bool], last: bool) -> int:
    """Note what was installed by hand, in a child of PID 1; returns its exit code.

    *told* is called once it is known who is at work, and says whether that was in time: before the
    TERM. *last* is the end of the pod.
    """
    if boot.lock >= 0:
        os.close(boot.lock)
    os.setsid()
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    busy = installing.installer()
    if not told() and last:
        busy = busy or "perhaps an installer: the machine was too busy to see"
    if busy and not last:
        return watch.NOT_NOW
    os.nice(0 if last else 10)
    from workspace_agent.app.captures import work

    return work(boot, busy)


def _take(boot: Boot, answer: Mapping[str, Any]) -> None:
    boot.env, boot.command, boot.grace = answer["env"], answer["command"], answer["grace"]
    boot.termination_log = answer["termination_log"]
    boot.problems = answer["problems"]
    boot.refused = answer["refused"]
    boot.watch, boot.budget = answer["watch"], answer["budget"]
    boot.floor, boot.freeze = answer["floor"], answer["freeze"]
    boot.restored = answer["restored"]


def _ask(boot: Boot, mask: set[int], trouble: Mapping[str, str] | None) -> Any:
    """Return the engine's answer, the signal that ended the boot, or the trouble it had."""
    reader, writer = os.pipe()
    engine = os.fork()
    if engine == 0:
        os.close(reader)
        _work(boot, mask, trouble, writer)
    os.close(writer)
    try:
        return _listen(engine, reader)
    finally:
        os.close(reader)


def _work(boot: Boot, mask: set[int], trouble: Mapping[str, str] | None, writer: int) -> None:
    """Be the engine; never returns."""
    code = 1
    try:
        if boot.lock >= 0:
            os.close(boot.lock)  # or an engine stuck on a dead volume would hold it for ever
        os.setsid()  # a stop of the boot reaches the engine and not ourselves
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        _signal.signal(_signal.SIGTERM, _leave)  # a script that runs has to be ended, too
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

        def send(kind: str, value: object = None) -> None:
            data = marshal.dumps((kind, value))  # type: ignore[arg-type]  # builtins only
            os.write(writer, len(data).to_bytes(4, "big") + data)

        from workspace_agent.app.engine import work

        work(boot, trouble, send)
        code = 0
    except BaseException as error:
        import traceback

        if not isinstance(error, SystemExit):
            traceback.print_exc()
    finally:
        os._exit(code)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _listen(engine: int, reader: int) -> Any:
    """Read messages until the answer, a stop, a death or too long a silence."""
    os.set_blocking(reader, False)
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    patience, heard, data = PATIENCE, monotonic(), b""
    while True:
        if poll.poll(_SLICE_MS):
            more = os.read(reader, 1 << 16)
            heard = monotonic()
            data += more
            while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
                size = int.from_bytes(data[:4], "big")
                (kind, value), data = marshal.loads(data[4 : 4 + size]), data[4 + size :]
                if kind == GO:
                    return value
                if kind == RELEASE:
                    spawn.release()
                patience = value if kind == DEADLINE else patience
                if kind == BURY:
                    _bury_others(engine)
            if not more:
                return _filled(_CRASHED, _ended(engine))
        stop = _stop_signal()
        if stop:
            _end(engine)
            return stop
        if monotonic() - heard > patience:
            init.send(engine, _signal.SIGKILL)
            return _filled(_HUNG, patience)


def _bury_others(engine: int) -> None:
    """Reap whom a failed restore has left: the next one needs the numbers that they still have.

    Only when the engine asks for it: the child that we are about to attend may have ended, too.
    """
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        while (found := os.waitid(os.P_ALL, 0, look)) and found.si_pid != engine:
            os.waitpid(found.si_pid, 0)
    except ChildProcessError:
        return


def _stop_signal() -> int:
    """Take what has arrived; returns a signal that ends the boot, or 0."""
    while (info := _signal.sigtimedwait(init.EVERY, 0)) is not None:
        if info.si_signo in _STOP:
            return int(info.si_signo)
    return 0


def _filled(problem: Mapping[str, str], value: object) -> dict[str, str]:
    return {**problem, "why": problem["why"].format(value)}


def _ended(engine: int) -> int:
    """Return the wait status of the engine, which has closed its end."""
    try:
        return os.waitpid(engine, 0)[1]
    except ChildProcessError:
        return -1


def _end(engine: int) -> None:
    """Ask the engine to stop, and see to it."""
    init.send(engine, _signal.SIGTERM)
    limit = monotonic() + _LAST_WORDS
    while monotonic() < limit:
        _signal.sigtimedwait((_signal.SIGCHLD,), _SLICE_MS / 1000)
        if os.waitpid(engine, os.WNOHANG)[0]:
            return
    init.send(engine, _signal.SIGKILL)
