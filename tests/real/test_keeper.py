"""What PID 1 does for the watcher, and what the watcher may do to PID 1: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.real.agents import REPOSITORY, is_over, wait_until
from workspace_agent.supervise import init, keeper, spawn
from workspace_agent.supervise.keeper import Keeper

# Notes every line that it is told, the end of its input, and that it was there.
WATCHER = """
import os, sys, time
note = open(sys.argv[1], "a", buffering=1)
note.write("started\\n")
mode = sys.argv[2]
if mode == "dies":
    sys.exit(3)
if mode == "ends":
    sys.exit(0)
for line in sys.stdin:
    note.write(line)
note.write("end\\n")
if mode == "hangs":
    while True:
        time.sleep(60)
"""


class Watched:
    """A keeper whose watcher notes in `log` what it hears."""

    def __init__(self, tmp_path: Path, mode: str = "") -> None:
        script = tmp_path / "watcher.py"
        script.write_text(WATCHER)
        self.path = tmp_path / "log"
        argv = [sys.executable, "-I", str(script), str(self.path), mode]
        self.keeper = Keeper(argv, dict(os.environ), set(), 5.0)

    @property
    def log(self) -> list[str]:
        return self.path.read_text().split("\n")[:-1] if self.path.exists() else []

    def start(self) -> None:
        self.keeper.on_time(time.monotonic() + keeper.FIRST)
        wait_until(lambda: "started" in self.log, "it has started")


@pytest.fixture(autouse=True)
def blocked() -> object:
    """Signals are taken one by one, as in PID 1."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_it_is_started_after_the_workload_and_not_at_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    now = time.monotonic()

    watched.keeper.on_time(now)

    assert 0 == watched.keeper.pid
    assert 0 < (watched.keeper.wait(now) or 0) <= keeper.FIRST
    watched.start()
    assert watched.keeper.wait(now) is None
    watched.keeper.finish(1)


def test_it_hears_of_the_pods_end_once_and_then_of_the_workloads(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.start()

    watched.keeper.on_term(9.5)
    watched.keeper.on_term(9.5)
    watched.keeper.finish(9.5)

    assert ["started", "stop 9", "end"] == watched.log
    assert 0 == watched.keeper.pid


def test_a_workload_that_ends_by_itself_leaves_it_its_budget(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.start()

    watched.keeper.finish(99)

    assert ["started", "end"] == watched.log


def test_a_workload_that_was_over_at_once_still_has_one(tmp_path: Path) -> None:
    watched = Watched(tmp_path)

    watched.keeper.finish(99)

    assert ["started", "end"] == watched.log


def test_one_that_hangs_is_killed_when_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(tmp_path, "hangs")
    watched.start()
    pid = watched.keeper.pid
    monkeypatch.setattr(keeper, "_MORE", 0.0)

    watched.keeper.on_term(0.2)
    watched.keeper.finish(0.2)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(("mode", "again"), [("dies", True), ("ends", False)])
def test_one_that_dies_is_started_again_and_one_that_ends_is_not(
    tmp_path: Path, mode: str, again: bool
) -> None:
    watched = Watched(tmp_path, mode)
    watched.start()
    _, status = os.waitpid(watched.keeper.pid, 0)

    watched.keeper.on_exit(status)

    assert again == (watched.keeper.wait(time.monotonic()) is not None)


def test_one_that_dies_again_and_again_is_let_go(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    pauses = []
    for _ in range(6):
        watched.keeper.on_exit(256)
        pauses.append(watched.keeper.wait(time.monotonic()))
        watched.keeper._due = None

    assert [2, 10, 60, 300, None, None] == [one and round(one) for one in pauses]


def test_a_term_while_it_works_on_leaves_it_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked the pod to end kills it after the grace, whatever the budget is."""
    watched = Watched(tmp_path, "hangs")
    watched.start()
    pid = watched.keeper.pid
    monkeypatch.setattr(keeper, "_MORE", 0.0)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    watched.keeper.finish(0.2)
    ignored = signal.sigtimedwait({signal.SIGTERM}, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    assert ignored is None
    assert is_over(pid)


def test_one_that_not_even_a_kill_ends_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for a hung disk dies when the disk answers."""
    watched = Watched(tmp_path, "hangs")
    watched.start()
    pid, kill = watched.keeper.pid, os.kill
    monkeypatch.setattr(keeper, "_MORE", 0.0)
    monkeypatch.setattr(keeper, "_DEATH", 0.2)
    monkeypatch.setattr(os, "kill", lambda *_: None)

    watched.keeper.on_term(0.2)
    watched.keeper.finish(0.2)

    assert 0 == watched.keeper.pid
    assert not is_over(pid)
    kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_term_when_it_has_just_died_is_no_sigpipe_for_the_workload(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "dies")
    watched.start()
    os.waitid(os.P_PID, watched.keeper.pid, os.WEXITED | os.WNOWAIT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})

    watched.keeper.on_term(5.0)

    assert signal.SIGPIPE not in signal.sigpending()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    watched.keeper.finish(5.0)


def test_one_that_cannot_be_started_is_no_trouble(tmp_path: Path) -> None:
    here = Keeper(["/nowhere/python"], {}, set(), 1.0)

    here.on_time(time.monotonic() + keeper.FIRST)
    here.on_term(1)
    here.finish(1)

    assert 0 == here.pid


def test_the_workload_sees_nothing_of_it(tmp_path: Path) -> None:
    """No descriptor of the pipe, no signal of the group's."""
    watched = Watched(tmp_path)
    watched.start()
    out = tmp_path / "fds"
    pipe = f"pipe:[{os.fstat(watched.keeper._pipe).st_ino}]"
    script = f"ls -l /proc/self/fd > {out}; kill -TERM 0"
    started = spawn.spawn(["/bin/sh", "-c", script], dict(os.environ), set())

    code = init.attend(started.pid, init.Duty(5.0), beside=[watched.keeper])

    assert 143 == code
    assert "/proc" in out.read_text()
    assert pipe not in out.read_text()
    assert ["started", "end"] == watched.log, "it was not hit by the signal"


def test_one_that_was_frozen_is_still_the_one(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.start()
    pid = watched.keeper.pid
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: ") T " in Path(f"/proc/{pid}/stat").read_text(), "it is stopped")

    init._reap(0, init.Duty(5.0), [watched.keeper])

    assert pid == watched.keeper.pid
    os.kill(pid, signal.SIGCONT)
    watched.keeper.finish(1)
    assert ["started", "end"] == watched.log


@pytest.mark.parametrize("is_open", [True, False])
def test_a_first_look_takes_no_line_that_is_for_the_watcher(tmp_path: Path, is_open: bool) -> None:
    (tmp_path / "rescue.run").touch()  # what was put back may be gone: no look says so
    script = (
        f"import os, sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from workspace_agent.watcher import nothing_changed\n"
        f"print(nothing_changed({str(tmp_path)!r}), os.read(0, 99).decode(), end='')"
    )
    reader, writer = os.pipe()
    os.write(writer, b"stop 5")
    if not is_open:
        os.close(writer)
    done = subprocess.run([sys.executable, "-I", "-c", script], stdin=reader, capture_output=True)

    assert "False stop 5" == done.stdout.decode()
