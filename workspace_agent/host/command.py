"""The only user of subprocess: one entry, a time limit, the end of the output."""

from __future__ import annotations

import contextlib  # `inspect` loads it anyway
import os
import time
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Enough to say why; the whole output is in the log.
TAIL_BYTES = 2000

# How often to tell that a command still runs; PID 1 takes longer silence for a hang.
_PULSE = 0.25

# After a time limit, or when the boot is stopped: what a script has to put its things away. Less
# than PID 1 gives us (consult.py), or scripts would outlive us.
_LAST_WORDS = 0.5


@dataclass(frozen=True)
class Finished:
    """How a command ended: *code* is 128 + N after signal N; *tail* is the end of its output."""

    code: int
    secs: float
    tail: str
    timed_out: bool = False


def run(
    argv: Sequence[str],
    *,
    log: str,
    env: Mapping[str, str],
    timeout: float,
    cwd: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Finished:
    """Run *argv* in a session of its own, output to the file *log*, and wait at most *timeout* s.

    *tell* hears a word several times a second. On a timeout, or when we are told to stop, the
    whole group gets TERM and then KILL. Raises OSError when it cannot be started.
    """
    import subprocess  # 8 ms; a warm boot runs nothing

    began = time.monotonic()
    with open(log, "ab") as out:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd,
            start_new_session=True,
        )  # fmt: skip
    late = False
    try:
        while child.poll() is None and not late:
            tell(f"{os.path.basename(argv[0])}: {time.monotonic() - began:.0f} s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                left = timeout - (time.monotonic() - began)
                child.wait(min(_PULSE, max(0.01, left)))
            late = child.returncode is None and time.monotonic() - began >= timeout
    finally:
        if child.returncode is None:
            _end(child.pid)
            child.wait()
    code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    return Finished(code, time.monotonic() - began, tail(log), late)


def tail(log: str) -> str:
    """Return the end of *log* as text."""
    try:
        with open(log, "rb") as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - TAIL_BYTES))
            return handle.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _end(group: int) -> None:
    import signal

    limit = time.monotonic() + _LAST_WORDS
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < limit:
            if os.waitid(os.P_PID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)
