"""Laying the image's defaults over a home that is there: every row of the table, either way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.steps.merge import Laid, Merge, NotOursError, place

# What the image has, what the user has -> without and with a record of an earlier home: what is
# in the home then, what in the backup, what beside.
DEFAULT, MINE = "default text\n", "mine\n"
LONGER = DEFAULT + "more"
TABLE = {
    "absent": (None, (DEFAULT, None, None), (DEFAULT, None, None)),
    "same": (DEFAULT, (DEFAULT, None, None), (DEFAULT, None, None)),
    "torn": (DEFAULT[:5], (DEFAULT, DEFAULT[:5], None), (DEFAULT, DEFAULT[:5], None)),
    "empty": ("", (DEFAULT, "", None), (DEFAULT, "", None)),
    "other": (MINE, (MINE, None, DEFAULT), (DEFAULT, MINE, None)),
    "longer": (LONGER, (LONGER, None, DEFAULT), (DEFAULT, LONGER, None)),
    "link": (Path("to"), (Path("to"), None, DEFAULT), (DEFAULT, Path("to"), None)),
}  # fmt: skip


@pytest.fixture
def lay(tmp_path: Path, plant: Callable) -> Callable[..., Laid]:
    """Return `lay(defaults, home, reset)`: do it in the folders defaults, home and state."""

    def act(defaults: dict, home: dict, reset: bool = False, **more: object) -> Laid:
        for name, content in (("defaults", defaults), ("home", home), ("state", {})):
            plant(tmp_path / name, content)
        with (
            SafeRoot.at(str(tmp_path / "state")) as state,
            SafeRoot.at(str(tmp_path / "defaults")) as source,
            SafeRoot.at(str(tmp_path / "home")) as target,
        ):
            return Merge(state, "backup/day", "defaults-new", reset, **more).lay(source, target)

    return act


def found(path: Path) -> object:
    """Return the text of a file, where a link leads, or None."""
    if path.is_symlink():
        return path.readlink()
    return path.read_text() if path.is_file() else None


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("case", TABLE)
@pytest.mark.parametrize("path", ["file", "a/b/file"])
def test_the_table(tmp_path: Path, lay: Callable, case: str, path: str, reset: bool) -> None:
    mine, *expected = TABLE[case]
    lay({path: DEFAULT}, {} if mine is None else {path: mine}, reset)
    places = (f"home/{path}", f"state/backup/day/{path}", f"state/defaults-new/{path}")

    assert expected[reset] == tuple(found(tmp_path / place) for place in places)


@pytest.mark.parametrize("reset", [False, True])
def test_what_is_no_default_is_never_touched(
    tmp_path: Path, lay: Callable, tree: Callable, reset: bool, plant: Callable
) -> None:
    own = {"own/file": "x", "own/link": Path("/nowhere"), "top": "y", "a/mine": "z"}
    before = tree(plant(tmp_path / "home", own), times=True)
    lay({"c/file": DEFAULT, "b": DEFAULT}, {}, reset)
    after = tree(tmp_path / "home", times=True)

    assert before == {name: after[name] for name in before}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("default", "mine", "apart"),
    [
        ({"x": DEFAULT}, {"x/": None}, []),
        ({"x/in": DEFAULT}, {"x": MINE}, ["x"]),
        ({"x/in": DEFAULT}, {"x": Path("/tmp")}, ["x"]),
        ({"d/e/f/in": DEFAULT}, {"d/e/f": Path("/tmp")}, ["d/e/f"]),
    ],
)
def test_a_folder_against_none_is_the_users(
    tmp_path: Path, lay: Callable, tree: Callable, plant: Callable, reset: bool,
    default: dict, mine: dict, apart: list,
) -> None:  # fmt: skip
    before = tree(plant(tmp_path / "home", mine))
    laid = lay(default, {}, reset)

    assert before == tree(tmp_path / "home")
    assert (1, apart) == (laid.kept_total, laid.apart)


@pytest.mark.parametrize("reset", [False, True])
def test_a_fifo_in_the_place_of_a_default_is_not_opened(
    tmp_path: Path, lay: Callable, reset: bool
) -> None:
    (tmp_path / "home").mkdir()
    os.mkfifo(tmp_path / "home/.bashrc")
    laid = lay({".bashrc": DEFAULT}, {}, reset)

    assert (tmp_path / "home/.bashrc").is_fifo()
    assert [".bashrc"] == laid.apart


def test_a_backup_is_the_same_file_and_no_second_copy(tmp_path: Path, lay: Callable) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/file").write_text(MINE)
    inode = (tmp_path / "home/file").stat().st_ino
    laid = lay({"file": DEFAULT}, {}, reset=True)

    assert inode == (tmp_path / "state/backup/day/file").stat().st_ino
    assert 1 == laid.replaced


@pytest.mark.parametrize("mine", [MINE, Path("to")])
def test_without_hard_links_the_backup_is_a_copy_and_durable(
    tmp_path: Path, lay: Callable, monkeypatch: pytest.MonkeyPatch, mine: object
) -> None:
    synced = []

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "fsync", synced.append)
    lay({"file": DEFAULT}, {"file": mine}, reset=True)
    places = (tmp_path / "home/file", tmp_path / "state/backup/day/file")

    assert (DEFAULT, mine) == tuple(map(found, places))
    assert isinstance(mine, Path) or len(synced) == 2


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_without_hard_links_a_file_that_comes_meanwhile_stays_as_well(
    tmp_path: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        (tmp_path / "home/came").write_text(MINE)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    if kernel == "old":
        monkeypatch.setattr("workspace_agent.host.renameat2._call", lambda *_: errno.ENOSYS)
    else:
        monkeypatch.setattr(os, "rename", pytest.fail)  # after a look it may be too late
    plant(tmp_path / "defaults", {"came": DEFAULT, "free": DEFAULT})
    plant(tmp_path / "home", {})
    with (
        SafeRoot.at(str(tmp_path / "defaults")) as defaults,
        SafeRoot.at(str(tmp_path / "home")) as home,
    ):
        for name in ("came", "free"):
            place(defaults, name, home)

    assert (MINE, DEFAULT) == tuple(found(tmp_path / "home" / name) for name in ("came", "free"))


def test_who_is_no_longer_the_holder_replaces_nothing(tmp_path: Path, lay: Callable) -> None:
    with pytest.raises(NotOursError):
        lay({"file": DEFAULT}, {"file": MINE}, reset=True, held=lambda: False)

    assert MINE == found(tmp_path / "home/file")
    assert not (tmp_path / "state/backup").exists()


def test_an_older_default_beside_gives_way_to_the_newer(tmp_path: Path, lay: Callable) -> None:
    lay({"file": "older"}, {"file": MINE})
    lay({"file": "newer"}, {})

    assert "newer" == found(tmp_path / "state/defaults-new/file")


def test_a_folder_beside_where_a_file_would_go_harms_nothing(
    tmp_path: Path, lay: Callable, plant: Callable
) -> None:
    plant(tmp_path / "state", {"defaults-new/x/in": "old", "defaults-new/y": "old"})
    laid = lay({"x": DEFAULT, "y/in": DEFAULT}, {"x": MINE, "y/in": MINE})

    assert 2 == laid.kept_total
    assert [MINE] * 2 == [found(tmp_path / "home" / name) for name in ("x", "y/in")]


def test_only_the_first_are_named_and_all_are_counted(lay: Callable) -> None:
    names = [f"f{n}" for n in range(300)]
    laid = lay(dict.fromkeys(names, DEFAULT), dict.fromkeys(names, MINE))

    assert (200, 300) == (len(laid.kept), laid.kept_total)


def test_a_home_that_is_deeper_than_we_go_is_kept_from_there_on(lay: Callable) -> None:
    deep = "/".join("d" * 200)
    laid = lay({f"{deep}/f": DEFAULT}, {f"{deep}/f": MINE})

    assert 1 == len(laid.apart)


def test_what_this_user_may_not_touch_in_a_home_is_kept(
    tmp_path: Path, lay: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: object, *args: int, **more: object) -> int:
        if path == "theirs":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    laid = lay({"theirs": DEFAULT, "zlast": DEFAULT}, {"theirs": DEFAULT[::-1]})

    assert (["theirs"], DEFAULT) == (laid.apart, found(tmp_path / "home/zlast"))
