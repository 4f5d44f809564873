"""A guardian and its worker: whichever dies or hangs, the other puts things in order."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from agents import wait_until

from workspace_agent.host import guarded
from workspace_agent.host.guarded import Guardian

HANG = 3600.0


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def guard(folder: Path, work, is_stuck=lambda _: False) -> int:
    """Fork a guardian of *work*; what it returned, and whether it undid, is in the folder."""
    pid = os.fork()
    if pid == 0:
        try:
            undo = (folder / "undone").touch
            answer = Guardian(undo, is_stuck).run(lambda: work(folder))
            (folder / "answer").write_bytes(answer if answer is not None else b"none")
        finally:
            os._exit(0)
    return pid


def good(folder: Path) -> bytes:
    (folder / "worked").touch()
    return b"done"


def slow(folder: Path) -> bytes:
    """Start somebody, and wait until a file says to go on."""
    argv = [sys.executable, "-c", f"import time; time.sleep({HANG})"]
    child = os.posix_spawn(sys.executable, argv,
                           os.environ)  # fmt: skip
    (folder / "child").write_text(str(child))
    (folder / "worker").write_text(str(os.getpid()))
    try:
        while not (folder / "go").exists():
            time.sleep(0.01)
    except SystemExit:
        (folder / "in-order").touch()
        raise
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return b"went on"


def number(folder: Path, name: str) -> int:
    wait_until(lambda: (folder / name).exists() and (folder / name).read_text(), name)
    return int((folder / name).read_text())


def test_an_answer_is_handed_on_and_nothing_is_undone(tmp_path: Path) -> None:
    os.waitpid(guard(tmp_path, good), 0)

    assert (tmp_path / "answer").read_bytes() == b"done"
    assert not (tmp_path / "undone").exists()


def test_a_worker_that_is_killed_is_undone_and_none_of_its_children_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "_PATIENCE", 0.1)
    pid = guard(tmp_path, slow)
    worker, child = number(tmp_path, "worker"), number(tmp_path, "child")
    os.kill(worker, signal.SIGKILL)
    os.waitpid(pid, 0)

    assert (tmp_path / "answer").read_bytes() == b"none"
    assert (tmp_path / "undone").exists()
    assert not Path(f"/proc/{child}").exists()


def test_whom_a_killed_worker_had_started_has_time_to_end_before_anything_is_undone(
    tmp_path: Path,
) -> None:
    def work(folder: Path) -> bytes:
        argv = ["sh", "-c", f"until [ -e {folder}/go ]; do sleep 0.02; done;"
                f" [ -e {folder}/undone ] || touch {folder}/ended"]  # fmt: skip
        os.posix_spawnp("sh", argv, os.environ)
        (folder / "worker").write_text(str(os.getpid()))
        time.sleep(HANG)
        return b""

    pid = guard(tmp_path, work)
    os.kill(number(tmp_path, "worker"), signal.SIGKILL)
    wait_until(lambda: len(children(pid)) == 1, "the orphan is the guardian's")
    (tmp_path / "go").touch()
    os.waitpid(pid, 0)

    assert (tmp_path / "ended").exists() and (tmp_path / "undone").exists()


def test_a_worker_that_hangs_is_ended(tmp_path: Path) -> None:
    stuck = tmp_path / "stuck"
    pid = guard(tmp_path, slow, lambda _: stuck.exists())
    worker = number(tmp_path, "worker")
    stuck.touch()
    os.waitpid(pid, 0)

    assert (tmp_path / "undone").exists() and not Path(f"/proc/{worker}").exists()


def test_a_guardian_that_is_killed_leaves_the_worker_to_its_end(tmp_path: Path) -> None:
    pid = guard(tmp_path, slow)
    worker = number(tmp_path, "worker")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert Path(f"/proc/{worker}").exists()
    (tmp_path / "go").touch()

    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "it has come to its end")
    assert not (tmp_path / "undone").exists()


@pytest.mark.parametrize("number_", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_ends_the_worker_in_good_order(number_: int, tmp_path: Path) -> None:
    pid = guard(tmp_path, slow)
    number(tmp_path, "worker")
    os.kill(pid, number_)
    os.waitpid(pid, 0)

    assert (tmp_path / "in-order").exists() and (tmp_path / "undone").exists()


def test_a_worker_that_does_not_hear_a_stop_is_killed(tmp_path: Path) -> None:
    def deaf(folder: Path) -> bytes:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        return slow(folder)

    pid = guard(tmp_path, deaf)
    worker = number(tmp_path, "worker")
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)

    assert (tmp_path / "undone").exists() and not (tmp_path / "in-order").exists()
    assert not Path(f"/proc/{worker}").exists()
