"""Which folders get a doorbell."""

from __future__ import annotations

from pathlib import Path

import pytest

from workspace_agent.watch import roots

SIZES = {"/root": 100, "/root/work": 10, "/opt": 2001, "/opt/app": 2000, "/data": 1, "/rootless": 5}
MOUNTS = ("/", "/proc", "/workspace", "/home/u/volume", "/etc/hosts")


def chosen(*candidates: str, away: tuple[str, ...] = (), most: int = 6) -> list[str]:
    return roots.choose(candidates, lambda path: path not in away, lambda p: SIZES.get(p, 0), most)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        (["/root", "/data"], ["/root", "/data"]),
        (["/root/work", "/root"], ["/root"]),  # none inside another, whichever comes first
        (["/root", "/rootless"], ["/root", "/rootless"]),
        (["/root", "/root/", "/root/./"], ["/root"]),
        (["/gone", "/data"], ["/data"]),
        (["/opt", "/opt/app"], ["/opt/app"]),  # too many folders
    ],
)
def test_the_choice(candidates: list[str], expected: list[str]) -> None:
    assert expected == chosen(*candidates)


def test_the_first_six_are_chosen() -> None:
    assert ["/root", "/data"] == chosen("/root", "/data", "/rootless", most=2)


def test_what_is_not_on_the_layer_is_no_root_and_hides_none() -> None:
    assert ["/root/work"] == chosen("/root", "/root/work", away=("/root",))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/root", True),
        ("/workspaces", True),
        ("/workspace", False),
        ("/workspace/a", False),
        ("/home/u", False),  # a mount is inside
        ("/home/u/volumes", True),
        ("/etc", False),
        ("/", False),
    ],
)
def test_a_root_neither_is_on_a_mount_nor_has_one_inside(path: str, expected: bool) -> None:
    assert expected is roots.is_on_layer(path, MOUNTS)


def test_folders_are_counted_with_their_root_and_links_are_not(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()

    assert (3, 0) == (roots.folders(str(tmp_path)), roots.folders(str(tmp_path / "gone")))


def test_counting_stops_soon_after_the_limit(tmp_path: Path) -> None:
    for n in range(50):
        (tmp_path / str(n)).mkdir()

    assert 11 == roots.folders(str(tmp_path), 10)
