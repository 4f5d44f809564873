"""Mode `links`, and the passwd entry, where the laws of steps do not look."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.app.boot import run
from workspace_agent.model.outcome import Ok, Report, Skip, Status
from workspace_agent.steps.identity import LinkHome, PasswdHome

PASSWD = "root:x:0:0:root:/root:/bin/bash\ncoder:x:1000:1000::/home/coder:/bin/sh"


def _tell(_: str) -> None: ...


@pytest.fixture
def links(root: Path) -> Callable[..., LinkHome]:
    def made(*entries: str) -> LinkHome:
        return LinkHome(str(root / "home"), str(root / "image"), entries)

    return made


def test_what_the_image_has_is_moved_aside_and_never_lost(
    root: Path, links: Callable, plant: Callable, tree: Callable
) -> None:
    plant(root, {"image/.gitconfig": "the image's", "home/.gitconfig": "the volume's"})
    links(".gitconfig").apply(_tell)

    assert {
        ".gitconfig": f"-> {root}/home/.gitconfig",
        ".gitconfig.image": (0o644, b"the image's"),
    } == tree(root / "image")
    assert "the volume's" == (root / "home/.gitconfig").read_text()


def test_a_file_put_over_a_link_later_is_not_lost_either(
    root: Path, links: Callable, plant: Callable
) -> None:
    plant(root, {"image/.gitconfig": "first", "home/": None})
    links(".gitconfig").apply(_tell)
    for text in ("second", "third"):
        (root / "image/.gitconfig").unlink()
        (root / "image/.gitconfig").write_text(text)
        links(".gitconfig").apply(_tell)

    names = (".gitconfig.image", ".gitconfig.image-2", ".gitconfig.image-3")
    assert ["first", "second", "third"] == [(root / "image" / n).read_text() for n in names]


def test_a_folder_put_over_a_link_later_is_linked_again(
    root: Path, links: Callable, plant: Callable
) -> None:
    plant(root, {"image/.config/a": "first", "home/": None})
    links(".config/").apply(_tell)
    (root / "image/.config").unlink()
    plant(root, {"image/.config/b": "second"})
    report = run([links(".config/")], Report())

    assert [Status.CHANGED] == [row.status for row in report.rows]
    assert "second" == (root / "image/.config.image-2/b").read_text()


def test_a_linked_folder_exists_so_that_programs_can_write_into_it(
    root: Path, links: Callable, plant: Callable
) -> None:
    plant(root, {"image/": None, "home/": None})
    links(".local/share/", ".bash_history").apply(_tell)
    (root / "image/.local/share/x").write_text("kept")

    assert "kept" == (root / "home/.local/share/x").read_text()
    assert not (root / "home/.bash_history").exists()


def test_a_link_to_somewhere_else_is_replaced(root: Path, links: Callable, plant: Callable) -> None:
    plant(root, {"image/.config": Path("/old/volume/.config"), "home/": None})
    links(".config/").apply(_tell)

    assert isinstance(links(".config/").check(), Ok)
    assert not os.path.lexists(root / "image/.config.image")


def test_a_home_that_is_on_the_volume_already_is_not_linked_to_itself(
    root: Path, plant: Callable, tree: Callable
) -> None:
    plant(root, {"home/.config/a": "precious", "alias": root / "home"})
    before = tree(root)
    entries = (".config/", ".bash_history")
    steps = [LinkHome(str(root / "home"), str(root / name), entries) for name in ("home", "alias")]
    report = run([steps[0]], Report())
    again = run([steps[1]], Report())

    assert [Status.OK, Status.OK] == [r.rows[0].status for r in (report, again)]
    assert before == tree(root)


def test_a_folder_between_that_leads_to_the_volume_is_enough(
    root: Path, links: Callable, plant: Callable, tree: Callable
) -> None:
    plant(root, {"home/.local/share/a": "precious", "image/.local": root / "home/.local"})
    before = tree(root)

    assert isinstance(links(".local/share/").check(), Ok)
    assert before == tree(root)


def test_links_are_skipped_where_the_images_home_cannot_be_written(
    root: Path, links: Callable, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(root, {"image/": None, "home/": None})
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert isinstance(links(".config/").check(), Skip)


def test_only_the_home_field_of_the_user_changes(root: Path, plant: Callable) -> None:
    plant(root, {"passwd": PASSWD})
    PasswdHome("coder", "/volume/home", str(root / "passwd")).apply(_tell)

    assert (root / "passwd").read_text() == PASSWD.replace("/home/coder", "/volume/home")


def test_a_passwd_file_that_cannot_be_renamed_over_is_written_in_place(
    root: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(root, {"passwd": PASSWD})
    inode = (root / "passwd").stat().st_ino

    def busy(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    step = PasswdHome("coder", "/v/home", str(root / "passwd"))
    report = run([step], Report())

    assert [Status.CHANGED] == [row.status for row in report.rows]
    assert (inode, PASSWD.replace("/home/coder", "/v/home")) == (
        (root / "passwd").stat().st_ino,
        (root / "passwd").read_text(),
    )
    assert ["passwd"] == os.listdir(root)


def test_a_home_with_a_colon_has_no_form_there_and_fails_with_a_remedy(
    root: Path, plant: Callable
) -> None:
    plant(root, {"passwd": PASSWD})
    report = run([PasswdHome("coder", "/vol:ume/home", str(root / "passwd"))], Report())

    assert ["home.not-redirected"] == [problem.slug for problem in report.problems]
    assert PASSWD == (root / "passwd").read_text()


def test_a_passwd_file_that_is_not_ours_is_skipped(
    root: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(root, {"passwd": PASSWD})
    monkeypatch.setattr(os, "access", lambda *_: False)
    step = PasswdHome("coder", "/v/home", str(root / "passwd"))

    assert Skip(f"{root}/passwd cannot be written: only HOME leads to /v/home") == step.check()
