"""A TERM waits while the workload is frozen, and reaches it when that is not to be."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.real.agents import REPOSITORY, wait_until
from workspace_agent.model import layout
from workspace_agent.supervise import freezer

# An init whose freezer and workload are scripts, and which notes what they hear.
INIT = """
import os, sys
sys.path.insert(0, {root!r})
from workspace_agent.host.chalf import signal as _signal
from workspace_agent.supervise import init, spawn
from workspace_agent.supervise.freezer import Freezer
folder, at_term, grace = sys.argv[1], sys.argv[2] == "auto", float(sys.argv[3])
mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, init.EVERY)
started = spawn.spawn([sys.executable, "-I", "-c", open(f"{{folder}}/workload").read(), folder],
                      os.environ, mask)
argv = [sys.executable, "-I", "-c", open(f"{{folder}}/freezer").read(), folder, str(started.pid)]
freezer = Freezer(argv, os.environ, mask, folder, at_term=at_term)
sys.exit(init.attend(started.pid, init.Duty(grace, started.tty), freezer=freezer))
"""

WORKLOAD = """
import os, signal, sys, time
def term(*_):
    open(f"{sys.argv[1]}/term", "w").close()
    sys.exit(7)
signal.signal(signal.SIGTERM, term)
open(f"{sys.argv[1]}/ready", "w").close()
while not os.path.exists(f"{sys.argv[1]}/end"):
    time.sleep(0.01)
sys.exit(5)
"""

HEAD = """
import os, signal, sys, time
folder, root, *words = sys.argv[1:]
with open(f"{folder}/asked", "a") as out:
    out.write(" ".join(words) + "\\n")
"""

FREEZES = f"""{HEAD}
with open(f"{{folder}}/frozen", "w") as out:
    out.write(root)
os.kill(int(root), signal.SIGKILL)
"""
REFUSES = f"{HEAD}sys.exit(1)\n"
SLOW = f"{HEAD}time.sleep(3600)\n"
DEAF = f"{HEAD}signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); time.sleep(3600)\n"


class Init:
    """An init in a process of its own."""

    def __init__(self, folder: Path, freezer: str, mode: str = "auto", grace: float = 60) -> None:
        self.folder = folder
        (folder / "workload").write_text(WORKLOAD)
        (folder / "freezer").write_text(freezer)
        script = INIT.format(root=str(REPOSITORY))
        argv = [sys.executable, "-I", "-c", script, str(folder), mode, str(grace)]
        self.process = subprocess.Popen(argv)
        wait_until(lambda: self.has("ready"), "the workload runs")

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines() if self.has("asked") else []

    def term(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> int:
        return self.process.wait(90)


def test_what_is_frozen_never_hears_the_term(tmp_path: Path) -> None:
    one = Init(tmp_path, FREEZES)

    assert one.term() == 143  # a Job has to run again: it goes on elsewhere
    assert one.asked == ["--grace 48.0"] and not one.has("term")


def test_what_is_not_frozen_ends_by_the_term(tmp_path: Path) -> None:
    one = Init(tmp_path, REFUSES)

    assert one.term() == 7
    assert one.asked == ["--grace 48.0"] and one.has("term")


@pytest.mark.parametrize("freezer", [SLOW, DEAF])
def test_one_that_takes_too_long_is_ended_and_the_workload_has_time_left(
    freezer: str, tmp_path: Path
) -> None:
    one = Init(tmp_path, freezer, grace=4)

    assert one.term() == 7
    assert one.has("term")


def test_a_second_term_does_not_reach_what_is_being_frozen(tmp_path: Path) -> None:
    one = Init(tmp_path, f"{HEAD}\nwhile not os.path.exists(f'{{folder}}/go'): time.sleep(0.01)\n"
               "open(f'{folder}/frozen', 'w').write(root)\n"
               "os.kill(int(root), signal.SIGKILL)\n")  # fmt: skip
    one.process.send_signal(signal.SIGTERM)
    wait_until(lambda: one.asked, "it is being frozen")
    one.process.send_signal(signal.SIGTERM)
    one.process.send_signal(signal.SIGUSR1)  # whatever else is for the workload goes to it
    (tmp_path / "go").touch()

    assert one.end() in (143, 128 + signal.SIGUSR1)
    assert not one.has("term")


def test_without_a_wish_for_it_the_term_goes_straight_to_the_workload(tmp_path: Path) -> None:
    one = Init(tmp_path, FREEZES, "manual")

    assert one.term() == 7
    assert one.asked == []


def test_what_somebody_else_froze_is_not_told_as_killed(tmp_path: Path) -> None:
    one = Init(tmp_path, REFUSES, "manual")
    root = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children").read_text().split()[0]
    (tmp_path / "frozen").write_text(root)
    os.kill(int(root), signal.SIGKILL)

    assert one.end() == 143


@pytest.mark.parametrize("word", ["", "0", "12345", "x"])
def test_a_word_about_another_process_is_none(word: str, tmp_path: Path) -> None:
    one = Init(tmp_path, REFUSES, "manual")
    (tmp_path / "frozen").write_text(word)
    root = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children").read_text().split()[0]
    os.kill(int(root), signal.SIGKILL)

    assert one.end() == 137


@pytest.mark.parametrize(
    ("mark", "asked"),
    [("checkpointed", ["--ended 5"]), ("restored.json", ["--ended 5"]), ("", [])],
)
def test_a_workload_that_ends_by_itself_is_told_where_it_has_checkpoints(
    mark: str, asked: list[str], tmp_path: Path
) -> None:
    one = Init(tmp_path, REFUSES)
    if mark:
        (tmp_path / mark).touch()
    (tmp_path / "end").touch()

    assert one.end() == 5
    assert one.asked == asked


def test_there_is_no_successor_where_nobody_lives(tmp_path: Path) -> None:
    one = Init(tmp_path, REFUSES, "manual")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "successor").write_text(str(gone.pid))
    (tmp_path / "end").touch()

    assert one.end() == 5


@pytest.mark.parametrize("frozen", [True, False])
def test_the_end_waits_for_whoever_froze_the_workload_by_hand(
    frozen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(tmp_path / layout.FREEZE_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    (tmp_path / layout.FROZEN).write_text("500\n" if frozen else "")
    looks: list[object] = []

    def look(*_: object) -> None:
        looks.append(fcntl.flock(fd, fcntl.LOCK_UN))  # it has ended

    monkeypatch.setattr(freezer, "_signal", SimpleNamespace(sigtimedwait=look, SIGCHLD=17))
    freezer.Freezer([], {}, set(), str(tmp_path), at_term=False).finish(30)
    os.close(fd)

    assert len(looks) == frozen
