"""Which folder is the volume, and whether it is fit to keep anything."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.app.boot import run
from workspace_agent.host.room import Room, room
from workspace_agent.model.outcome import Blocked, Ok, Report, Status, Todo
from workspace_agent.model.problem import Problem
from workspace_agent.steps.volume import Choice, VolumeReady, choose, identity

ROOM = "workspace_agent.steps.volume.room"

MOUNTS = {
    "/": ("overlay", "overlay", False),
    "/proc": ("proc", "proc", False),
    "/workspace": ("nfs4", "server:/a", False),
    "/mnt/b": ("ext4", "/dev/b", False),
    "/mnt/a": ("xfs", "/dev/a", True),
    "/mnt/a/deep": ("xfs", "/dev/c", False),
}
NO_VOLUME = {"/": ("overlay", "overlay", False)}


@pytest.mark.parametrize(
    ("candidates", "explicit", "container", "expected"),
    [
        (("/workspace",), "", True, Choice("/workspace", True, "nfs4")),
        (("/data", "/workspace"), "", True, Choice("/workspace", True, "nfs4")),
        (("/mnt/*",), "", True, Choice("/mnt/a", True, "xfs")),
        (("/nowhere/*", "/workspace"), "", False, Choice("/workspace", True, "nfs4")),
        (("/workspace",), "/mnt/b", True, Choice("/mnt/b", True, "ext4")),
        (("/workspace",), "/mnt/b/team/", True, Choice("/mnt/b/team", True, "ext4")),
        (("/workspace",), "/plain", True, Choice("/plain", False, "plain folder")),
        (("/workspace",), "/plain", False, Choice("/plain", True, "plain folder")),
        (("/workspace",), "here", False, Choice("/cwd/here", True, "plain folder")),
        (("/workspace",), "./a/../here", False, Choice("/cwd/here", True, "plain folder")),
    ],
)
def test_the_volume_is_what_was_asked_for_or_the_first_real_mount(
    candidates: tuple[str, ...], explicit: str, container: bool, expected: Choice
) -> None:
    assert expected == choose(candidates, explicit, MOUNTS, container, "/cwd")


@pytest.mark.parametrize(
    ("candidates", "container", "expected"),
    [
        (("/workspace",), True, Choice("/workspace", False, "plain folder")),
        (("/mnt/*", "/data"), True, Choice("/data", False, "plain folder")),
        (("/mnt/*",), True, Choice("/workspace", False, "plain folder")),
        (("/workspace",), False, Choice("/cwd/workspace-volume", True, "plain folder")),
    ],
)
def test_without_a_mount_a_plain_folder_serves(
    candidates: tuple[str, ...], container: bool, expected: Choice
) -> None:
    assert expected == choose(candidates, "", NO_VOLUME, container, "/cwd")


def test_a_volume_that_ends_with_the_container_is_told() -> None:
    ends, survives = Choice("/workspace", False, "x"), Choice("/workspace", True, "x")

    assert survives.note is None
    assert ends.note is not None
    assert ("volume.absent", "/workspace") == (ends.note.slug, ends.note.where)


@pytest.fixture
def ready(root: Path) -> Callable[..., VolumeReady]:
    def made(**fields: object) -> VolumeReady:
        volume = str(root / "volume")
        usual = {
            "path": volume,
            "kind": "ext4",
            "folders": (f"{volume}/bin",),
            "private": (f"{volume}/.workspace-agent",),
        }
        return VolumeReady(**{**usual, **fields})

    return made


def test_the_state_folder_is_private_and_the_others_are_not(root: Path, ready: Callable) -> None:
    before = os.umask(0o022)
    try:
        run([ready()], Report())
    finally:
        os.umask(before)

    modes = [
        stat.S_IMODE(os.lstat(root / "volume" / n).st_mode) for n in ("bin", ".workspace-agent")
    ]
    assert [0o755, 0o700] == modes


def test_the_plan_names_every_folder(root: Path, ready: Callable) -> None:
    volume = str(root / "volume")

    assert (
        Todo("3 folders to make", (volume, f"{volume}/.workspace-agent", f"{volume}/bin"))
        == ready().check()
    )


def test_a_ready_volume_says_its_kind_and_room(
    ready: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([ready()], Report())
    monkeypatch.setattr(ROOM, lambda _: Room(3 << 30, 10, False))
    found = ready().check()

    assert isinstance(found, Ok)
    assert found.why.endswith("/volume, ext4, 3.0 GiB free")


def test_a_volume_has_a_name_of_its_own_and_keeps_it(root: Path, ready: Callable) -> None:
    run([ready()], Report())
    found = json.loads((root / "volume/.workspace-agent/volume.json").read_text())
    (root / "volume/bin").rmdir()
    run([ready()], Report())

    assert ["format", "uuid", "created", "lineage"] == list(found)
    assert (1, [], 20, "Z") == (
        found["format"], found["lineage"], len(found["created"]), found["created"][-1],
    )  # fmt: skip
    assert found["uuid"] == identity(f"{root}/volume")


def test_a_volume_of_an_older_agent_gets_a_name(root: Path, ready: Callable) -> None:
    run([ready()], Report())
    path = root / "volume/.workspace-agent/volume.json"
    first = identity(f"{root}/volume")
    path.unlink()
    found = ready().check()
    run([ready()], Report())

    assert Todo("the volume has no identity yet", (str(path),)) == found
    assert identity(f"{root}/volume") not in ("", first)


@pytest.mark.parametrize(
    "text", ["", "{", '{"format": 2, "uuid": "x"}', '{"format": 1, "uuid": "no uuid"}', "x" * 99999]
)
def test_a_name_that_we_cannot_read_is_left_alone(root: Path, ready: Callable, text: str) -> None:
    (root / "volume/.workspace-agent").mkdir(parents=True)
    (root / "volume/.workspace-agent/volume.json").write_text(text)
    report = run([ready()], Report())

    assert "ok" == report.status
    assert text == (root / "volume/.workspace-agent/volume.json").read_text()
    assert "" == identity(f"{root}/volume")


def test_a_name_that_is_a_link_is_neither_replaced_nor_followed(
    root: Path, ready: Callable
) -> None:
    (root / "volume/.workspace-agent").mkdir(parents=True)
    (root / "volume/.workspace-agent/volume.json").symlink_to(root / "elsewhere")
    report = run([ready()], Report())

    assert ("ok", "") == (report.status, identity(f"{root}/volume"))
    assert not (root / "elsewhere").exists()


def test_two_pods_at_once_agree_on_the_name(
    root: Path, ready: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is faster by a moment: between our look and our link."""
    link, state = os.link, root / "volume/.workspace-agent"
    uuids = []

    def late(*names: str, **more: object) -> None:
        monkeypatch.setattr(os, "link", link)
        monkeypatch.setattr(os, "_supports_dir_fd", None, raising=False)  # the fake remembers
        mine = state / names[0]
        kept = mine.read_bytes()
        run([ready()], Report())  # which is the same process here, and sweeps our file away
        uuids.append(identity(f"{root}/volume"))
        assert not mine.exists()
        mine.write_bytes(kept)
        link(*names, **more)

    monkeypatch.setattr(os, "link", late)
    report = run([ready()], Report())

    assert "ok" == report.status
    assert [identity(f"{root}/volume")] == uuids
    assert ["volume.json"] == os.listdir(state)


def test_a_claim_that_another_pod_swept_away_is_no_failure(
    root: Path, ready: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(*names: str, **more: object) -> None:
        monkeypatch.setattr(os, "link", link)
        monkeypatch.setattr(os, "_supports_dir_fd", None, raising=False)  # the fake remembers
        run([ready()], Report())
        link(*names, **more)

    monkeypatch.setattr(os, "link", late)
    report = run([ready()], Report())

    assert "ok" == report.status
    assert identity(f"{root}/volume")


def test_a_folder_is_not_made_through_a_planted_link(root: Path, ready: Callable) -> None:
    volume = root / "volume"
    (root / "etc").mkdir()
    volume.mkdir()
    (volume / "lib").symlink_to(root / "etc")
    report = run([ready(folders=(f"{volume}/bin", f"{volume}/lib/python"))], Report())

    assert [("volume.link-in-the-way", f"{volume}/lib")] == [
        (problem.slug, problem.where) for problem in report.problems
    ]
    assert [] == os.listdir(root / "etc")
    assert {".workspace-agent", "bin", "lib"} == set(os.listdir(volume))


@pytest.mark.parametrize("name", ["bin", ".workspace-agent"])
def test_a_link_that_leads_nowhere_is_no_folder_to_make(
    root: Path, ready: Callable, name: str
) -> None:
    volume = root / "volume"
    volume.mkdir()
    (volume / name).symlink_to(root / "elsewhere")
    report = run([ready()], Report())

    assert [str(volume / name)] == [problem.where for problem in report.problems]
    assert not (root / "elsewhere").exists()


def test_a_folder_through_a_link_that_is_there_serves(root: Path, ready: Callable) -> None:
    """A user's own arrangement: nothing has to be made, so nothing is."""
    (root / "volume/tools").mkdir(parents=True)
    (root / "volume/bin").symlink_to("tools")

    assert "ok" == run([ready()], Report()).status


def test_a_folder_that_is_not_on_the_volume_is_made_as_well(root: Path, ready: Callable) -> None:
    run([ready(folders=(f"{root}/scratch/bin",))], Report())

    assert (root / "scratch/bin").is_dir()


def test_a_volume_that_is_a_file_is_blocked_and_untouched(root: Path, ready: Callable) -> None:
    (root / "volume").write_text("precious")
    report = run([ready()], Report())

    assert [Status.BLOCKED] == [row.status for row in report.rows]
    assert ["volume.not-a-folder"] == [problem.slug for problem in report.problems]
    assert "precious" == (root / "volume").read_text()


def test_what_pid_1_knows_of_the_volume_ends_the_matter(
    ready: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that hung once must not be touched again, not even by a stat."""
    known = Problem("volume.not-responding", "the volume does not answer")
    touched = []
    for name in ("stat", "lstat", "access", "open", "mkdir", "scandir"):
        monkeypatch.setattr(os, name, lambda *_, name=name, **__: touched.append(name))
    monkeypatch.setattr(ROOM, lambda _: touched.append("room"))
    found = ready(trouble=known).check()
    monkeypatch.undo()

    assert Blocked(known) == found
    assert [] == touched


@pytest.mark.parametrize(
    ("left", "slug"),
    [
        (Room(0, 10, False), "volume.full"),
        (Room(1000, 0, False), "volume.full"),
        (Room(1000, 10, False), None),
        (Room(2000, -1, False), None),
    ],
)
def test_a_volume_without_room_is_full(
    left: Room, slug: str | None, ready: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([ready()], Report())
    monkeypatch.setattr(ROOM, lambda _: left)
    report = run([ready()], Report())

    assert ([slug] if slug else []) == [problem.slug for problem in report.problems]


@pytest.mark.parametrize(
    ("read_only", "slug"), [(True, "volume.read-only"), (False, "volume.not-writable")]
)
def test_a_volume_that_refuses_writes_says_which_way(
    read_only: bool, slug: str, ready: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([ready()], Report())
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(ROOM, lambda _: Room(1 << 30, 10, read_only))
    report = run([ready()], Report())

    assert [slug] == [problem.slug for problem in report.problems]


def test_a_state_folder_of_somebody_else_is_not_writable(
    root: Path, ready: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run([ready()], Report())
    state = str(root / "volume/.workspace-agent")
    monkeypatch.setattr(os, "access", lambda path, _: path != state)
    report = run([ready()], Report())

    assert [("volume.not-writable", state)] == [(p.slug, p.where) for p in report.problems]


@pytest.mark.parametrize(("code", "slug"), [("ESTALE", "volume.stale"), ("EIO", "volume.io-error")])
def test_a_volume_that_cannot_be_looked_at_is_blocked(
    code: str, slug: str, ready: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(errno, code)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "stat", refuse)
    found = ready().check()
    monkeypatch.undo()

    assert isinstance(found, Blocked)
    assert slug == found.problem.slug


def test_a_mount_that_is_really_read_only_is_found_out(tmp_path: Path) -> None:
    argv = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(argv, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a tmpfs needs root and CAP_SYS_ADMIN")
    try:
        report = run([VolumeReady(str(tmp_path), "tmpfs", (), (f"{tmp_path}/s",))], Report())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)

    assert ["volume.read-only"] == [problem.slug for problem in report.problems]


def test_room_of_this_disk_adds_up(tmp_path: Path) -> None:
    found = room(str(tmp_path))

    assert found.free > 0
    assert found.inodes > 0 or found.inodes == -1
    assert not found.read_only
