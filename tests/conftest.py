"""What many tests start from: one root on two disks, and trees as values."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from workspace_agent.app.facts import Facts
from workspace_agent.host.interpreter import Interpreter
from workspace_agent.host.room import Room
from workspace_agent.steps.volume import Choice

sys.path.insert(0, str(Path(__file__).parent / "tools"))  # test modules import `wheels`

PLENTY = Room(free=1 << 40, inodes=1 << 20, read_only=False)

# What a tree is compared by: path below its root -> what stands there.
Tree = dict[str, object]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what tests have counted (`record_property`), summed up: a sweep says how far it came."""
    sums: dict[str, int] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            sums[name] = sums.get(name, 0) + value
    for name, total in sums.items():
        terminalreporter.write_line(f"{name}: {total}")


@pytest.fixture(params=["fake", "real"])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder on the fake disk, then on the real one: the same body runs on both.

    The fake has no statvfs; there the volume always has room.
    """
    if request.param == "real":
        return Path(request.getfixturevalue("tmp_path"))
    request.getfixturevalue("fs")
    monkeypatch.setattr("workspace_agent.steps.volume.room", lambda _: PLENTY)
    monkeypatch.setattr(os, "open", _as_linux(os.open))
    monkeypatch.setattr(os, "makedirs", _one_by_one)
    monkeypatch.setattr("workspace_agent.host.safe_root._call", [None])  # no kernel behind it
    folder = Path("/twin")
    folder.mkdir()
    return folder


def _as_linux(fake: Callable[..., int]) -> Callable[..., int]:
    """Return `os.open` without two habits of the fake.

    It gives a file that is there the mode of the call, and refuses a link at the name of an
    exclusive creation as ELOOP, which is EEXIST.
    """

    def opened(path: str, flags: int, mode: int = 0o777, **more: int) -> int:
        if flags & os.O_EXCL:
            flags &= ~os.O_NOFOLLOW
        with suppress(OSError):
            mode = stat.S_IMODE(os.stat(path, dir_fd=more.get("dir_fd")).st_mode)
        return fake(path, flags, mode, **more)

    return opened


def _one_by_one(path: str, mode: int = 0o777, exist_ok: bool = False) -> None:
    """Make folders as `os.makedirs` does: the fake's makes all of them in one step."""
    above = os.path.dirname(path)
    if above and not os.path.exists(above):
        _one_by_one(above, exist_ok=True)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not exist_ok or not os.path.isdir(path):
            raise


@pytest.fixture
def plant() -> Callable[[Path, Mapping[str, object]], Path]:
    """Return `plant(folder, {name: text, "name/": None, "name": Path(target)})`."""
    return _plant


@pytest.fixture
def tree() -> Callable[..., Tree]:
    """Return `tree(folder)`: what stands in it, without times; `times=True` adds those."""
    return _tree


def _plant(folder: Path, content: Mapping[str, object]) -> Path:
    """Make *content* in *folder*: text and bytes are files, paths are links, None is a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, what in content.items():
        path = folder / name
        (path if what is None else path.parent).mkdir(parents=True, exist_ok=True)
        if isinstance(what, bytes):
            path.write_bytes(what)
        elif isinstance(what, str):
            path.write_text(what)
        elif what is not None:
            path.symlink_to(str(what))
    return folder


def _tree(folder: Path, *, times: bool = False) -> Tree:
    found: Tree = {}
    for here, names, leaves in os.walk(str(folder)):
        for name in [*names, *leaves]:
            path = f"{here}/{name}"
            what = _object(path)
            found[os.path.relpath(path, str(folder))] = (
                (what, os.lstat(path).st_mtime_ns, os.lstat(path).st_ino) if times else what
            )
    return found


def _object(path: str) -> object:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return f"-> {os.readlink(path)}"
    if stat.S_ISREG(mode):
        with open(path, "rb") as handle:
            return stat.S_IMODE(mode), handle.read()
    return stat.filemode(mode)


@pytest.fixture
def facts() -> Callable[..., Facts]:
    """Return `facts(at, **fields)`: a pod below the folder *at*, with nothing of this machine."""
    return _facts


def _facts(at: Path, **fields: object) -> Facts:
    usual = {
        "environ": {"PATH": "/usr/bin:/bin", "HOME": f"{at}/image"},
        "root": f"{at}/install",
        "runtime": f"{at}/run",
        "container": True,
        "system": False,
        "uid": 0,
        "user": "root",
        "image_home": f"{at}/image",
        "volume": Choice(f"{at}/volume", True, "ext4"),
        "python": Interpreter("/usr/bin/python3", "", "cp311-x86_64"),
        "boot_id": "b00t",
    }
    return Facts(**{**usual, **fields})
