"""Agents run for real, through `entrypoint.sh`, as ordinary processes.

Nothing of this machine is changed: volume, home and runtime folder are the test's own. Tests wait
for conditions, never for a time; whatever they started is ended with them.
"""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPOSITORY = Path(__file__).parents[2]
ENTRYPOINT = str(REPOSITORY / "entrypoint.sh")

# Long enough for a loaded machine; reached only when something hangs.
DEADLINE = 30.0

# A PID namespace of its own, with a /proc that shows it; ends with whoever made it.
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

# What the tests' own workloads are written in.
PYTHON = (sys.executable, "-I", "-S", "-c")

# Blocks all signals, says who it is, and says each signal that reaches it or its child, which
# shares its group. A TERM ends both, with 0.
RECORDER = """
import os, signal
every = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, every)
child = os.fork()
name = "workload" if child else "child"
os.write(1, f"{name} ready {os.getpid()}\\n".encode())
number = 0
while number != signal.SIGTERM:
    number = int(signal.sigwait(every))
    os.write(1, f"{name} {number}\\n".encode())
if child:
    os.waitpid(child, 0)
"""


def wait_until(holds: Callable[[], object], what: str) -> object:
    """Poll *holds* and return its first true answer."""
    until = time.monotonic() + DEADLINE
    while not (answer := holds()):
        if time.monotonic() > until:
            pytest.fail(f"after {DEADLINE:.0f} s still not true: {what}")
        time.sleep(0.01)
    return answer


def state(pid: int) -> str:
    """Return the state letter of process *pid*; empty when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.rpartition(")")[2].split()[0]


def is_over(pid: int) -> bool:
    """Say whether *pid* has ended; whether its parent has noticed is not our business."""
    return state(pid) in ("", "Z", "X")


def children(pid: int) -> list[int]:
    """Return the children of *pid*."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@dataclass
class Place:
    """Where one agent lives: *mark* is in the environment of everything that the test starts."""

    folder: Path
    mark: str = field(default_factory=lambda: f"WORKSPACE_TEST={uuid.uuid4().hex}")

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def runtime(self) -> Path:
        return self.folder / "runtime"

    def environ(self, **more: str) -> dict[str, str]:
        """Return the container's environment, with *more*."""
        name, _, value = self.mark.partition("=")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "WORKSPACE_VOLUME": str(self.volume),
            "WORKSPACE_AGENT_RUNTIME": str(self.runtime),
            "WORKSPACE_AGENT_SYSTEM": "0",
            "WORKSPACE_AGENT_PRIVATE": "0",
            name: value,
            **more,
        }

    def script(self, text: str, name: str = "setup.sh") -> None:
        """Put a setup script onto the volume."""
        self.volume.mkdir(exist_ok=True)
        (self.volume / name).write_text(text)

    def started(self) -> list[int]:
        """Return what runs with our mark."""
        return [int(one.name) for one in Path("/proc").glob("[0-9]*") if self._is_ours(one)]

    def _is_ours(self, process: Path) -> bool:
        try:
            return self.mark.encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:
            return False


class Running:
    """A started agent; what it and its workload say is kept in files, so that nobody blocks."""

    def __init__(self, place: Place, argv: list[str | bytes], **options: object) -> None:
        count = len(list(place.folder.glob("out.*")))
        self._out, self._err = place.folder / f"out.{count}", place.folder / f"err.{count}"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            given = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
            self.process = subprocess.Popen(argv, stdout=out, stderr=err, **given)
        self.pid = self.process.pid

    @property
    def raw(self) -> bytes:
        return self._out.read_bytes()

    @property
    def out(self) -> str:
        return self.raw.decode(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to the agent."""
        os.kill(self.pid, number)

    def until(self, text: str) -> Running:
        """Wait until *text* was said on stdout."""
        wait_until(lambda: text in self.out or self._is_late(), f"{text!r} on stdout")
        assert text in self.out, f"ended with {self.process.returncode}: {self.out}\n{self.err}"
        return self

    def word(self, before: str) -> str:
        """Wait for a line that begins with *before*; returns what follows."""
        self.until(f"{before} ")
        wait_until(lambda: "\n" in self.out.partition(f"{before} ")[2], f"{before!r} whole")
        return self.out.partition(f"{before} ")[2].partition("\n")[0]

    def wait(self) -> int:
        """Return the exit code; 128 + N when signal N ended the agent itself."""
        try:
            code = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still runs after {DEADLINE:.0f} s\n{self.out}\n{self.err}")
        return code if code >= 0 else 128 - code

    def _is_late(self) -> bool:
        return self.process.poll() is not None


class Terminal:
    """An agent, or a shell that starts one, on a terminal of its own, as a person would have it."""

    def __init__(self, place: Place, argv: list[str], env: Mapping[str, str]) -> None:
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave, env=env
        )
        os.close(slave)
        self.pid = self.process.pid
        self._seen = b""
        self._from = 0  # what `until` has not looked at yet

    @property
    def text(self) -> str:
        """All that was shown so far."""
        self._read(0.0)
        return self._seen.decode(errors="replace").replace("\r\n", "\n")

    @property
    def foreground(self) -> int:
        """The process group that the keyboard talks to."""
        return os.tcgetpgrp(self.master)

    def type(self, keys: str) -> Terminal:
        """Press *keys*."""
        os.write(self.master, keys.encode())
        return self

    def until(self, text: str) -> Terminal:
        """Wait until *text* is shown, after what was waited for before."""
        wanted = text.encode()
        limit = time.monotonic() + DEADLINE
        more = True
        while wanted not in self._seen[self._from :]:
            if time.monotonic() > limit or not more:
                pytest.fail(f"{text!r} was not shown; this was:\n{self.text}")
            more = self._read(0.05)
        self._from += self._seen[self._from :].index(wanted) + len(wanted)
        return self

    def wait(self) -> int:
        """Return the exit code; 128 + N when a signal ended it."""
        limit = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            self._read(0.05)  # or its last words keep it from ending
            if time.monotonic() > limit:
                pytest.fail(f"still runs after {DEADLINE:.0f} s\n{self.text}")
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    def _read(self, patience: float) -> bool:
        """Take what is there; says whether there can be more."""
        while select.select([self.master], [], [], patience)[0]:
            try:
                more = os.read(self.master, 1 << 16)
            except OSError as error:
                if error.errno == errno.EIO:
                    return False  # nobody has the terminal open any more
                raise
            self._seen += more
            patience = 0.0
        return True
