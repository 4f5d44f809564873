"""The doorbell with the kernel's own inotify, and with each of its failures."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents import REPOSITORY, wait_until
from watchdog.observers import inotify_c

from workspace_agent.watch import doorbell as module
from workspace_agent.watch.doorbell import Doorbell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

dying = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Bell(Doorbell):
    """A doorbell that keeps what it rang."""

    def __init__(self, *roots: Path, **more: int) -> None:
        self.rang: list[str] = []
        super().__init__([str(root) for root in roots], self.rang.append, **more)

    def until(self, *folders: Path | str) -> None:
        wanted = {str(folder) for folder in folders}
        wait_until(lambda: wanted <= set(self.rang), f"{wanted} in {self.rang[:9]}")

    def inner(self, root: Path) -> inotify_c.Inotify:
        """What watchdog has of *root*: the part that reads from the kernel."""
        return self._observer._emitter_for_watch[self._watches[str(root)]]._inotify._inotify

    def check_all(self) -> None:
        """Count the folders of each root twice."""
        for _ in range(2 * len(self._watches)):
            self.check()


@pytest.fixture
def bell() -> Iterator[Callable[..., Bell]]:
    made = []

    def start(*roots: Path, **more: int) -> Bell:
        made.append(Bell(*roots, **more))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    """Three roots, with five folders in each."""
    for name in ("one", "two", "three"):
        (tmp_path / name / "a" / "b" / "c" / "d").mkdir(parents=True)
    return [tmp_path / name for name in ("one", "two", "three")]


def fails(code: int) -> int:
    ctypes.set_errno(code)
    return -1


@pytest.fixture
def watches(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A purse of watches: `left` may be changed."""
    purse, add = {"left": 10**6}, inotify_c.inotify_add_watch

    def limited(fd: int, path: bytes, mask: int) -> int:
        if purse["left"] <= 0:
            return fails(errno.ENOSPC)
        purse["left"] -= 1
        return add(fd, path, mask)

    monkeypatch.setattr(inotify_c, "inotify_add_watch", limited)
    return purse


def test_what_changes_rings_its_folder(bell, roots: list[Path]) -> None:
    one = bell(*roots)
    (roots[0] / "a" / "new").write_text("x")
    (roots[1] / "file").write_text("x")
    one.until(roots[0] / "a", roots[1])
    one.take()
    (roots[0] / "a" / "new").rename(roots[0] / "a" / "b" / "moved")
    (roots[1] / "file").unlink()
    one.until(roots[0] / "a" / "b")

    assert ("on", "") == (one.state, one.why)
    wait_until(
        lambda: {str(roots[0] / "a"), str(roots[0] / "a" / "b"), str(roots[1])} == one._dirty,
        "all three folders",
    )


def test_a_folder_rings_once_until_it_is_taken(bell, roots: list[Path]) -> None:
    one = bell(roots[0])
    for n in range(100):
        (roots[0] / str(n)).touch()
    (roots[0] / "a" / "last").touch()
    one.until(roots[0] / "a")

    assert [str(roots[0]), str(roots[0] / "a")] == one.rang
    assert {str(roots[0]), str(roots[0] / "a")} == one.take()
    assert set() == one.take()


def test_a_look_does_not_ring(bell, roots: list[Path]) -> None:
    (roots[0] / "a" / "file").touch()
    one = bell(roots[0])
    for _ in os.walk(roots[0]):
        (roots[0] / "a" / "file").read_bytes()
    (roots[0] / "end").touch()
    one.until(roots[0])

    assert {str(roots[0])} == one.take()


@pytest.mark.parametrize("how", ["made", "moved here", "renamed"])
def test_a_new_folder_rings_from_then_on(bell, roots, tmp_path: Path, how: str) -> None:
    new = roots[0] / "new"
    source = {"moved here": tmp_path / "elsewhere", "renamed": roots[0] / "old"}.get(how, new)
    if how != "made":
        (source / "deep").mkdir(parents=True)
    one = bell(roots[0])
    if how == "made":
        (new / "deep").mkdir(parents=True)
    else:
        source.rename(new)
    path = os.fsencode(new / "deep")
    wait_until(lambda: path in one.inner(roots[0])._wd_for_path, "a watch of it")
    one.take()
    (new / "deep" / "file").touch()

    one.until(new / "deep")


def test_more_folders_than_a_list_is_for_are_everywhere(bell, roots, monkeypatch) -> None:
    monkeypatch.setattr(module, "_MOST_DIRTY", 3)
    one = bell(*roots)
    for at in (roots[0], roots[1], roots[2], roots[0] / "a", roots[1] / "a"):
        (at / "file").touch()
    one.until("")

    assert {""} == one.take()


def test_without_instances_it_is_off_and_says_why(bell, roots, monkeypatch) -> None:
    monkeypatch.setattr(inotify_c, "inotify_init", lambda: fails(errno.EMFILE))
    one = bell(*roots)
    one.check()

    assert "off" == one.state
    assert f"{roots[0]}: this machine's inotify instances are used up" in one.why


def test_with_few_watches_fewer_roots_ring_and_nothing_is_left_open(bell, roots, watches) -> None:
    watches["left"] = 7
    before = module._instances()
    one = bell(*roots)
    (roots[0] / "a" / "file").touch()
    one.until(roots[0] / "a")

    assert ("fewer", 1) == (one.state, len(module._instances() - before))
    assert f"{roots[1]}: this machine's inotify watches are used up" in one.why


def test_a_root_too_many_is_said(bell, roots) -> None:
    one = bell(*roots, most=2)

    assert ("fewer", f"{roots[2]}: one root too many") == (one.state, one.why)


def test_a_root_that_is_not_there_is_said(bell, roots, tmp_path: Path) -> None:
    one = bell(tmp_path / "gone", roots[0])

    assert ("fewer", f"{tmp_path / 'gone'}: it is gone") == (one.state, one.why)


def test_without_watchdog_it_is_off(bell, roots, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "watchdog.observers.inotify", None)
    one = bell(*roots)
    one.check()

    assert ("off", "inotify: watchdog is not installed") == (one.state, one.why)


def test_a_bare_interpreter_can_have_it() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from workspace_agent.watch.doorbell import Doorbell\n"
        "bell = Doorbell(['/tmp'], print); bell.start(); bell.check(); bell.close()\n"
        "print(bell.state, bell.why)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)

    assert ("off inotify: watchdog is not installed\n", "") == (done.stdout, done.stderr)


def test_a_watch_that_is_silently_short_is_made_anew(bell, roots, watches) -> None:
    one = bell(roots[0])
    watches["left"] = 0
    new = roots[0] / "new"
    new.mkdir()
    one.until(roots[0])
    one.check()
    first = one.take()
    watches["left"] = 100
    one.check()  # short a second time
    assert ("on", False, {""}) == (one.state, "" in first, one.take())

    (new / "file").touch()

    one.until(new)


def test_a_watch_that_stays_short_is_let_go(bell, roots, watches) -> None:
    one = bell(*roots[:2])
    watches["left"] = 0
    (roots[0] / "new").mkdir()
    one.until(roots[0])
    one.check_all()

    assert "fewer" == one.state
    assert f"{roots[0]}: this machine's inotify watches are used up" == one.why


def test_a_root_that_grew_too_much_is_let_go(bell, roots, monkeypatch) -> None:
    one = bell(*roots[:2])
    monkeypatch.setattr(module, "_TOO_MANY", 5)
    (roots[1] / "new").mkdir()
    one.check_all()

    assert ("fewer", f"{roots[1]}: too many folders to watch") == (one.state, one.why)


@dying
def test_a_dead_thread_is_started_again(bell, roots) -> None:
    one = bell(*roots)
    kill_reader(one, roots[0])
    one.take()
    one.check()
    assert ("on", {""}) == (one.state, one.take())

    (roots[0] / "a" / "file").touch()

    one.until(roots[0] / "a")


@dying
def test_a_thread_that_dies_every_time_is_let_go(bell, roots) -> None:
    one = bell(roots[0])
    for _ in range(4):
        kill_reader(one, roots[0])
        one.check()

    assert ("off", f"{roots[0]}: its thread ended") == (one.state, one.why)


def kill_reader(one: Bell, root: Path) -> None:
    """Let watchdog's thread die as it does: of a watch that it does not know."""
    thread = one._observer._emitter_for_watch[one._watches[str(root)]]._inotify
    one.inner(root)._path_for_wd.clear()
    (root / "killer").write_text("x")
    wait_until(lambda: not thread.is_alive(), "the thread's end")


def test_when_the_dispatcher_ends_it_is_off(bell, roots) -> None:
    one = bell(roots[0])
    one._observer.stop()
    one._observer.join()
    one.check()

    assert ("off", "inotify: watchdog's thread ended") == (one.state, one.why)


def test_a_root_that_is_deleted_is_let_go(bell, roots) -> None:
    one = bell(*roots[:2])
    thread = one._observer._emitter_for_watch[one._watches[str(roots[0])]]
    for folder in ("a/b/c/d", "a/b/c", "a/b", "a", ""):
        (roots[0] / folder).rmdir()
    wait_until(lambda: not thread.is_alive(), "the thread's end")
    one.check()

    assert ("fewer", f"{roots[0]}: it is gone") == (one.state, one.why)


def test_after_an_overflow_everywhere_rings(bell, roots) -> None:
    one = bell(roots[0])
    with one.inner(roots[0])._lock:  # the reader stands still
        for n in range(50_000):
            os.close(os.open(roots[0] / "a" / str(n % 5000), os.O_CREAT | os.O_WRONLY))
            if n % 5000 == 4999:
                os.unlink(roots[0] / "a" / "0")

    one.until("")
    assert "" in one.take()


def test_a_storm_of_files_costs_one_event_a_folder(bell, roots) -> None:
    one = bell(roots[0])
    seen = []
    one._observer.event_queue.put = lambda event, **_: seen.append(
        event
    )  # what watchdog would keep
    with one.inner(roots[0])._lock:
        for n in range(4000):
            os.close(os.open(roots[0] / str(n), os.O_CREAT | os.O_WRONLY))
            os.rename(roots[0] / str(n), roots[0] / "a" / str(n))
    done = roots[0] / "a" / "b" / "done"
    done.touch()
    wait_until(lambda: any(e[0].src_path == str(done) for e in seen), "the last event")

    assert len(seen) < 100
    assert {} == one.inner(roots[0])._moved_from_events


def test_a_rename_loop_of_folders_is_a_storm_that_ends(bell, roots, monkeypatch) -> None:
    monkeypatch.setattr(module, "_STORM", 50)
    one = bell(*roots[:2])
    before = one.inner(roots[0])
    here, there = roots[0] / "a", roots[0] / "z"
    for _ in range(500):
        here.rename(there)
        there.rename(here)
    one.until("")
    assert {} == before._moved_from_events
    one.check()
    one.take()
    (here / "b" / "file").touch()
    one.until(here / "b")

    assert "on" == one.state
    assert before is not one.inner(roots[0])


def test_storms_without_an_end_turn_it_off(bell, roots, monkeypatch) -> None:
    monkeypatch.setattr(module, "_STORM", 5)
    one = bell(roots[0])
    while one.state != "off":
        one.rang.clear()
        for _ in range(50):
            (roots[0] / "x").mkdir()
            (roots[0] / "x").rmdir()
        wait_until(lambda: one._storm > 5, "a storm")
        one.check()

    assert f"{roots[0]}: its folders change too fast" == one.why


def test_close_leaves_nothing(bell, roots) -> None:
    before, threads = module._instances(), set(threading.enumerate())
    one = bell(*roots)
    one.close()
    one.close()

    assert before == module._instances()
    wait_until(lambda: set(threading.enumerate()) <= threads, "the end of all threads")
