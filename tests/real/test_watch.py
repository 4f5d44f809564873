"""The eye on folders, with real children: when they are started, and for how long one waits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agents import is_over, wait_until

from workspace_agent.supervise import watch
from workspace_agent.supervise.watch import PAUSE, Watch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def eye(folder: Path) -> Iterator[Callable[..., Watch]]:
    """Make a watch on *folder*; its child, if it still is there, ends with the test."""
    made = []

    def make(work: watch.Work) -> Watch:
        made.append(Watch([str(folder), "/nowhere"], work))
        return made[-1]

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    yield make
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for one in made:
        if one.pid:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)


def install(folder: Path) -> None:
    (folder / "new").mkdir()
    os.utime(folder, ns=(5, 5))


def test_nobody_looks_before_it_is_time(
    folder: Path, eye: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path: (looks.append(path), real(path))[1])
    one = eye(lambda told, last: 0)
    begun = time.monotonic()
    looks.clear()
    for tenths in range(int(PAUSE * 10)):
        one.on_time(begun - 1 + tenths / 10)
    one.on_time(begun + PAUSE)
    one.on_time(begun + PAUSE + 0.1)

    assert [str(folder), "/nowhere"] == looks
    assert PAUSE - 0.1 == pytest.approx(one.wait(begun + PAUSE + 0.1))


def test_a_change_is_worked_on_once_it_is_quiet(folder: Path, eye: Callable[..., Watch]) -> None:
    one = eye(lambda told, last: (told(), 1 if last else 7)[1])
    install(folder)
    begun, started = time.monotonic(), []
    for n in range(1, 4):
        one.on_time(begun + n * (PAUSE + 1))
        started.append(one.pid > 0)
    status = os.waitpid(one.pid, 0)[1]
    one.on_exit(status)

    assert ([False, True, True], 0) == (started, one.pid)
    assert 7 == os.waitstatus_to_exitcode(status)


def test_at_a_term_the_childs_word_is_waited_for(folder: Path, eye: Callable[..., Watch]) -> None:
    one = eye(lambda told, last: 7 if told() and last else 1)
    install(folder)
    one.on_term(5.0)

    assert 7 == os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1])
    one.pid = 0


def test_a_word_that_comes_too_late_is_known_to_be(
    folder: Path, eye: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SEEN", 0.0)
    gate = folder.parent / f"{folder.name}-gate"
    os.mkfifo(gate)
    one = eye(lambda told, last: gate.read_text() == "go" and (7 if told() else 8))
    install(folder)
    one.on_term(5.0)
    gate.write_text("go")

    assert 8 == os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1])
    one.pid = 0


def test_what_is_left_at_the_end_is_waited_for(folder: Path, eye: Callable[..., Watch]) -> None:
    done = folder.parent / f"{folder.name}-done"
    one = eye(lambda told, last: len(done.write_text("x")))
    install(folder)
    one.finish(30.0)

    assert (True, 0) == (done.exists(), one.pid)


def test_without_a_change_the_end_starts_nothing(folder: Path, eye: Callable[..., Watch]) -> None:
    one = eye(lambda told, last: 1)
    one.on_term(30.0)
    one.finish(30.0)

    assert 0 == one.pid


@pytest.mark.parametrize("grace", [0.0, 0.05])
def test_a_child_that_hangs_has_no_more_time_than_the_workload(
    grace: float, folder: Path, eye: Callable[..., Watch]
) -> None:
    one = eye(lambda told, last: (told(), time.sleep(1000))[0])
    install(folder)
    one.on_term(grace)
    one.finish(grace)

    assert one.pid > 0
    assert not is_over(one.pid)


def test_at_the_end_a_child_that_hangs_makes_room_for_the_last(
    folder: Path, eye: Callable[..., Watch]
) -> None:
    one = eye(lambda told, last: 0 if last and told() else time.sleep(1000) or 1)
    install(folder)
    begun = time.monotonic()
    for n in (1, 2):
        one.on_time(begun + n * (PAUSE + 1))
    hanging = one.pid
    (folder / "more").mkdir()
    one.finish(30.0)

    assert (0, True) == (one.pid, hanging > 0)
    wait_until(lambda: is_over(hanging), "the first child has ended")
    os.waitpid(hanging, 0)
