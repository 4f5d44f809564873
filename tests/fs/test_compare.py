"""A home beside the image and its base: whose change each is, and what verify finds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.steps import compare as comparing
from workspace_agent.steps.compare import compare, verify
from workspace_agent.steps.entry import Entry
from workspace_agent.steps.manifest import Manifest, defaults, fingerprint, write

MARK = 1_600_000_000_000_000_000


class World:
    """An image, a home made from it, and its base; then whatever a test does to them."""

    def __init__(self, at: Path, plant: Callable, content: dict[str, object]) -> None:
        self.image, self.home = at / "image", at / "home"
        for folder in (self.image, self.home):
            plant(folder, content)
            for path in folder.rglob("*"):
                os.utime(path, ns=(MARK, MARK), follow_symlinks=False)
        (at / "state").mkdir()
        self.state = SafeRoot.at(f"{at}/state")
        with SafeRoot.at(str(self.image)) as image:
            mark = fingerprint(image)
            assert write(self.state, mark, defaults(image))
        self.base = Manifest.of(self.state, mark)

    def verdicts(self, *, known: bool = True) -> dict[str, str]:
        """Return whatever is not the same."""
        with SafeRoot.at(str(self.image)) as image, SafeRoot.at(str(self.home)) as home:
            found = list(compare(self.base if known else None, image, home))
        assert len(found) == len(dict(found))
        return {path: verdict.value for path, verdict in found if verdict.value != "same"}

    def became(self) -> dict[str, str]:
        with SafeRoot.at(str(self.home)) as home:
            return {path: word for path, word in verify(self.base, home) if word != "as given"}


@pytest.fixture
def world(tmp_path: Path, plant: Callable) -> Callable[..., World]:
    def make(**more: object) -> World:
        usual = {".bashrc": "default\n", "docs/a": "a\n", "link": Path("there")}
        return World(tmp_path, plant, usual | more)

    return make


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_a_home_as_it_was_made_is_the_same(world: Callable) -> None:
    assert {} == world().verdicts()


def test_each_change_has_its_author(world: Callable) -> None:
    here = world(both="1", image="1", mine="1", alike="1", gone="1", removed="1", left="1")
    for name in ("both", "image", "alike"):
        write_text(here.image / name, "new image")
    for name in ("both", "mine"):
        write_text(here.home / name, "my own")
    write_text(here.home / "alike", "new image")
    (here.image / "gone").unlink()
    (here.home / "removed").unlink()
    write_text(here.image / "added", "new")
    write_text(here.image / "clash", "image")
    write_text(here.home / "clash", "mine")
    write_text(here.home / "only mine", "mine")

    assert {
        "both": "conflict",
        "image": "changed",
        "mine": "yours",
        "gone": "gone",
        "removed": "deleted",
        "added": "new",
        "clash": "conflict",
    } == here.verdicts()


def test_another_time_alone_is_no_change(world: Callable) -> None:
    here = world()
    os.utime(here.image / ".bashrc")
    os.utime(here.home / "docs/a")

    assert {} == here.verdicts()


def test_content_is_read_only_where_size_or_time_differ(
    world: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world(longer="1", same="1")
    write_text(here.home / "longer", "more than it was")
    os.utime(here.home / "same")
    read = []
    plain = comparing._content
    monkeypatch.setattr(
        comparing, "_content", lambda near, path: (read.append(path), plain(near, path))[1]
    )

    assert ({"longer": "yours"}, ["same"]) == (here.verdicts(), read)


def test_a_change_of_the_same_size_is_seen(world: Callable) -> None:
    here = world()
    write_text(here.home / ".bashrc", "DEFAULT\n")

    assert {".bashrc": "yours"} == here.verdicts()


@pytest.mark.parametrize("mine", ["a file", "a link", "a fifo", "nothing"])
def test_what_the_user_made_of_a_folder_shuts_it_to_new_defaults(
    world: Callable, mine: str, tmp_path: Path
) -> None:
    here = world()
    (here.home / "docs").rename(tmp_path / "elsewhere")
    if mine == "a file":
        (here.home / "docs").touch()
    elif mine == "a link":
        (here.home / "docs").symlink_to(tmp_path / "elsewhere")
    elif mine == "a fifo":
        os.mkfifo(here.home / "docs")
    write_text(here.image / "docs/new", "new")
    write_text(here.image / "docs/sub/new", "new")
    found = here.verdicts()

    assert ("deleted" if mine == "nothing" else "yours") == found.pop("docs")
    assert dict.fromkeys(("docs/a", "docs/new", "docs/sub", "docs/sub/new"), "deleted") == found


def test_a_link_and_what_it_leads_to_are_two_things(world: Callable) -> None:
    here = world(target="x")
    (here.home / "target").unlink()
    (here.home / "target").symlink_to(here.image / "target")
    (here.image / "link").unlink()
    (here.image / "link").symlink_to("elsewhere")

    assert {"target": "yours", "link": "changed"} == here.verdicts()


def test_without_a_base_nobody_knows_whose_change_it_is(world: Callable) -> None:
    here = world(mine="1", removed="1")
    write_text(here.home / "mine", "x")
    (here.home / "removed").unlink()
    os.utime(here.home / ".bashrc")

    assert {"mine": "unknown", "removed": "unknown"} == here.verdicts(known=False)


def test_a_file_that_cannot_be_read_is_like_nothing_else(
    world: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world()
    for time, folder in enumerate((here.home, here.image)):
        os.utime(folder / ".bashrc", (time, time))

    def refused(*_: object) -> str:
        raise PermissionError

    monkeypatch.setattr("workspace_agent.steps.entry.digest", refused)

    assert {".bashrc": "conflict"} == here.verdicts()


def test_a_name_that_no_disk_takes_is_not_there(world: Callable) -> None:
    here = world()
    here.base = [Entry("x" * 300, "file", 0, 0, 0), *here.base]

    assert {"x" * 300: "gone"} == here.became()


def test_verify_tells_a_bad_disk_from_a_user(world: Callable) -> None:
    here = world(changed="1", rotten="one", gone="1", touched="1", cut="123")
    write_text(here.home / "changed", "2")
    write_text(here.home / "rotten", "0ne")
    write_text(here.home / "cut", "1")
    os.utime(here.home / "rotten", ns=(MARK, MARK))
    (here.home / "gone").unlink()
    (here.home / "link").unlink()
    os.utime(here.home / "touched")

    assert {
        "changed": "changed",
        "rotten": "damaged",
        "cut": "changed",
        "gone": "gone",
        "link": "gone",
    } == here.became()


def test_verify_says_damaged_where_the_disk_cannot_read(
    world: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world()

    def broken(*_: object) -> str:
        raise OSError(5, "input/output error")

    monkeypatch.setattr("workspace_agent.steps.entry.digest", broken)

    assert {".bashrc": "damaged", "docs/a": "damaged"} == here.became()
