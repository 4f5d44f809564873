"""The only user of subprocess: one entry, a time limit, the end of the output."""

from __future__ import annotations

import contextlib  # `inspect` loads it anyway
import os
import time
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO

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
    out: str = "",
    clean: Callable[[str], str] | None = None,
    moved: Callable[[], object] = lambda: None,
    silence: float = 0.0,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Run *argv* in a session of its own, output to the file *log*, and wait at most *timeout* s.

    Its standard output goes to the file *out* if that is given; what goes to the log is *clean*ed
    line by line. It keeps *pass_fds*. With *silence* it is ended, too, once neither its output nor
    what *moved* returns has changed for so long. *tell* hears a word several times a second. On a
    timeout, or when we are told to stop, the whole group gets TERM and then KILL. Raises OSError
    when it cannot be started.
    """
    import subprocess  # 8 ms; a warm boot runs nothing

    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        sink = _Sink(stack.enter_context(open(log, "ab")), clean)
        stack.callback(sink.close)
        start = sink.size  # what is said before is of another command
        own = stack.enter_context(open(out, "wb")) if out else None
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=own or sink.fd, stderr=sink.fd, env=env, cwd=cwd,
            start_new_session=True, pass_fds=pass_fds,
        )  # fmt: skip
        late = False
        last, since = (sink.size, moved()), began
        try:
            while child.poll() is None and not late:
                tell(f"{os.path.basename(argv[0])}: {time.monotonic() - began:.0f} s")
                sink.take()
                left = timeout - (time.monotonic() - began)
                _await(child, min(_PULSE, max(0.01, left)))
                now = time.monotonic()
                if silence and (found := (sink.size, moved())) != last:
                    last, since = found, now
                late = child.returncode is None and (
                    now - began >= timeout or 0 < silence <= now - since
                )
        finally:
            if child.returncode is None:
                _end(child.pid)
                child.wait()
            elif child.returncode < 0:  # somebody killed it, and not those whom it had started
                _kill(child.pid)
    code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    return Finished(code, time.monotonic() - began, tail(log, start), late)


def _await(child: subprocess.Popen[bytes], secs: float) -> None:
    """Wait for its end at most *secs*; `Popen.wait` would look only every 50 ms."""
    import select

    try:
        fd = os.pidfd_open(child.pid)
    except (OSError, AttributeError):
        time.sleep(min(secs, 0.05))
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(secs * 1000)
    finally:
        os.close(fd)


class _Sink:
    """Where output goes: *fd* is the log itself, or a pipe whose lines are cleaned on their way."""

    def __init__(self, log: IO[bytes], clean: Callable[[str], str] | None) -> None:
        self._log, self._clean, self._rest = log, clean, b""
        self._reader, self.fd = os.pipe() if clean else (-1, log.fileno())
        if clean:
            os.set_blocking(self._reader, False)

    @property
    def size(self) -> int:
        """How much was written so far."""
        return os.fstat(self._log.fileno()).st_size

    def take(self) -> None:
        """Take what has come; a pipe that is full would stop who writes."""
        if self._reader < 0 or self._clean is None:
            return
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reader, 1 << 16):
                *whole, self._rest = (self._rest + data).split(b"\n")
                text = b"".join(line + b"\n" for line in whole).decode("utf-8", "surrogateescape")
                self._log.write(self._clean(text).encode("utf-8", "surrogateescape"))
        self._log.flush()

    def close(self) -> None:
        """Take the rest; whoever the command left behind writes to nobody."""
        self.take()
        if self._reader >= 0 and self._clean:
            rest = self._rest.decode("utf-8", "surrogateescape")
            self._log.write(self._clean(rest).encode("utf-8", "surrogateescape"))
            for fd in (self._reader, self.fd):
                os.close(fd)


def tail(log: str, start: int = 0) -> str:
    """Return the end of *log* as text, and nothing from before the byte *start*."""
    try:
        with open(log, "rb") as handle:
            handle.seek(max(start, os.fstat(handle.fileno()).st_size - TAIL_BYTES))
            return handle.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _kill(group: int) -> None:
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _end(group: int) -> None:
    import signal

    limit = time.monotonic() + _LAST_WORDS
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < limit:
            if os.waitid(os.P_PID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.02)
    _kill(group)
