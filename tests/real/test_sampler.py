"""The sampler with real processes: what is open for writing, and what may not be looked at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents import PYTHON, wait_until

from workspace_agent.host import open_files
from workspace_agent.watch.writers import INFERRED, OBSERVED, Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Opens the file as it is told, and holds it until stdin ends.
HOLDS = """
import os, sys
fd = os.open(sys.argv[1], getattr(os, sys.argv[2]) | os.O_CREAT, 0o644)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that holds a file open."""
    started = []

    def start(path: Path, how: str = "O_WRONLY", **options: object) -> subprocess.Popen[str]:
        one = subprocess.Popen(
            [*PYTHON, HOLDS, str(path), how],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
        started.append(one)
        assert one.stdout.readline() == "open\n"
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate()


@pytest.fixture
def sampler(tmp_path: Path) -> Sampler:
    return Sampler(lambda path: path.startswith(f"{tmp_path}/"), keep=("HF_HOME",))


@pytest.mark.parametrize("how", ["O_WRONLY", "O_RDWR"])
def test_a_process_that_holds_a_file_open_is_observed(holder, sampler, tmp_path, how) -> None:
    one = holder(tmp_path / "file", how, env={"HF_HOME": "/workspace/hf", "TOKEN": "secret"})
    sampler.sample()
    writer = sampler.who(str(tmp_path / "file"), "other", 0, time.time_ns())

    assert (OBSERVED, one.pid) == (writer.confidence, writer.pid)
    assert writer.name.startswith("python")
    assert "/workspace/hf" == sampler.environ_of(one.pid, "HF_HOME")
    assert {str(tmp_path / "file")} == sampler.open_for_writing()

    one.communicate()

    assert set() == sampler.open_for_writing()
    assert writer == sampler.who(str(tmp_path / "file"), "other", 0, time.time_ns())


def test_without_psutil_it_is_observed_too(holder, sampler, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    one = holder(tmp_path / "file", env={"HF_HOME": "/workspace/hf"})
    sampler.sample()

    assert one.pid == sampler.who(str(tmp_path / "file"), "other", 0, 1).pid
    assert sampler.environ_of(one.pid, "HF_HOME") is None


def test_readers_fifos_deleted_files_and_other_places_are_not(holder, sampler, tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    holder(tmp_path / "read", "O_RDONLY")
    holder(tmp_path / "fifo", "O_RDWR")
    holder(tmp_path / "gone")
    (tmp_path / "gone").unlink()
    holder(tmp_path / "replaced")
    (tmp_path / "new").touch()
    (tmp_path / "new").rename(tmp_path / "replaced")
    sampler.sample()

    assert {} == sampler._seen
    assert set() == sampler.open_for_writing()


def test_where_links_have_all_rights_the_flags_are_asked(
    holder, sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder(tmp_path / "read", "O_RDONLY")
    holder(tmp_path / "write", "O_RDWR")
    lstat = os.lstat

    def as_gvisor(path: str) -> os.stat_result:
        info = lstat(path)
        return os.stat_result((0o120777, *info[1:])) if "/fd/" in str(path) else info

    monkeypatch.setattr(open_files.os, "lstat", as_gvisor)

    assert {str(tmp_path / "write")} == sampler.open_for_writing()


def test_a_path_that_is_not_wanted_is_not_touched(holder, tmp_path, monkeypatch) -> None:
    one = holder(tmp_path / "hung")
    stats = []
    monkeypatch.setattr(open_files.os, "lstat", lambda path: stats.append(path))

    assert [] == list(open_files.writing([one.pid], lambda path: False))
    assert [] == stats


def test_our_own_files_are_not_observed(sampler, tmp_path: Path) -> None:
    with (tmp_path / "own").open("w"):
        assert set() == sampler.open_for_writing()


def test_processes_that_come_and_go_crash_nobody(sampler) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()

    assert [] == list(open_files.writing([ended.pid, 2**22 + 1], lambda path: True))
    assert ([], (0, None)) == (open_files.argv(2**22 + 1), open_files.details(2**22 + 1))


def test_what_another_user_has_open_is_denied_and_crashes_nobody(holder, tmp_path) -> None:
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")
    one = holder(tmp_path / "file")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(open_files.__file__).parents[2])!r})\n"
        "from workspace_agent.watch.writers import Sampler\n"
        "from workspace_agent.host import open_files\n"
        "s = Sampler(lambda path: True, keep=('HOME',)); s.sample(); s.saw('/x', PID)\n"
        "print(PID in open_files.processes(), [p for p, pid in open_files.writing([PID], bool)],"
        " s.environ_of(PID, 'HOME'), s.who('/x', 'other', 0, 1).confidence)"
    ).replace("PID", str(one.pid))
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*argv, sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd="/"
    )
    if "Permission denied" in done.stderr and not done.stdout:
        pytest.skip("another user cannot start this interpreter")

    assert ("True [] None observed\n", "") == (done.stdout, done.stderr)


def test_an_installer_that_lives_is_a_guess(sampler, tmp_path: Path, monkeypatch) -> None:
    pip = tmp_path / "pip"
    pip.write_text("import sys; print('on', flush=True); sys.stdin.read()")
    one = subprocess.Popen(
        [sys.executable, str(pip)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert one.stdout.readline() == "on\n"
    # the machine's other processes may be installers too
    monkeypatch.setattr(open_files, "processes", lambda: [one.pid] if one.poll() is None else [])
    born = time.time_ns()
    sampler.sample()
    changed = time.time_ns()
    one.communicate()
    sampler.sample()
    writer = sampler.who("/usr/lib/python3/site-packages/x.py", "pip", born, changed)

    assert (INFERRED, "pip", one.pid) == (writer.confidence, writer.name, writer.pid)


def test_a_writer_is_caught_while_it_writes(sampler, holder, tmp_path: Path) -> None:
    sampler.ring()
    one = holder(tmp_path / "late")

    def caught() -> bool:
        if not sampler.due():
            sampler.sample()
        return sampler.who(str(tmp_path / "late"), "other", 0, 1).pid == one.pid

    wait_until(caught, "the writer")
