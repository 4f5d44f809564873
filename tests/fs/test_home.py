"""The home on the volume: what a marker means, what a merge touches, what a full volume leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from workspace_agent.app.boot import run
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model.outcome import Blocked, Ok, Report, Status, Todo
from workspace_agent.steps.home import SMALL_ENTRIES, HomeSeed, is_small
from workspace_agent.steps.volume import VolumeReady

MARKER = ".packet-init"


def _tell(_: str) -> None: ...


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give the real disk alone: the fake one has no descriptors of folders that can be listed."""
    return tmp_path


@pytest.fixture
def seed(root: Path, plant: Callable) -> HomeSeed:
    """Return the step over an image's home of three files and a volume that is ready."""
    plant(root / "image", {".bashrc": "default\n", ".config/a": "a\n", "docs/b": "b\n"})
    plant(root / "volume/.workspace-agent", {})
    return HomeSeed(
        source=str(root / "image"),
        target=str(root / "volume/home"),
        marker=MARKER,
        state=str(root / "volume/.workspace-agent"),
        prune=(str(root / "volume"),),
        boot_id="b1",
        sync=lambda _: None,
    )


@pytest.fixture
def home(root: Path) -> Path:
    return root / "volume/home"


def record(home: Path) -> dict[str, object]:
    return json.loads((home / MARKER).read_text())


def test_the_marker_says_what_was_done(seed: HomeSeed, home: Path) -> None:
    seed.apply(_tell)
    found = record(home)
    created, image = found.pop("created"), found.pop("image")

    assert (20, 16, int) == (len(created), len(image), type(found.pop("began")))
    assert {
        "format": 1,
        "agent": "26.1",
        "boot_id": "b1",
        "home": seed.source,
        "mode": "fresh",
        "files": 3,
        "bytes": 12,
        "skipped": [],
        "skipped_total": 0,
        "owners": "kept" if os.geteuid() == 0 else "ours",
        "kept": [],
        "kept_total": 0,
        "backup": "",
    } == found


def test_the_marker_is_not_there_before_the_tree_is_whole(
    seed: HomeSeed, home: Path, fated: Callable, killed: Callable
) -> None:
    with fated() as fate:
        seed.apply(_tell)
    seen = []
    for k in range(1, fate.seen + 1):
        _removed(home)
        killed(k, lambda: seed.apply(_tell))
        whole = {".bashrc", ".config", "docs", MARKER}
        seen.append(set(os.listdir(home)) == whole if home.exists() else True)

    assert len(seen) > 10
    assert all(seen)


def test_a_legacy_marker_is_adopted_byte_for_byte(
    root: Path, seed: HomeSeed, home: Path, plant: Callable, tree: Callable
) -> None:
    plant(home, {MARKER: "", "mine": "x"})
    before = tree(home, times=True)
    report = run([seed], Report())
    again = run([seed], Report())

    assert [Status.CHANGED, Status.OK] == [one.rows[0].status for one in (report, again)]
    assert "a marker that is not on record is adopted" == report.rows[0].why
    assert before == tree(home, times=True)
    assert {"seeded"} == _left(root / "volume")


@pytest.mark.parametrize("text", ["junk", "{", '{"format": 99}', "[]", "\0" * 200_000])
def test_a_marker_that_cannot_be_read_is_a_legacy_one(
    text: str, seed: HomeSeed, home: Path, plant: Callable
) -> None:
    plant(home, {MARKER: text})
    report = run([seed], Report())

    assert ["a marker that is not on record is adopted"] == [row.why for row in report.rows]
    assert [MARKER] == os.listdir(home)


@pytest.mark.parametrize("marker", [{f"{MARKER}/": None}, {MARKER: Path("/nowhere")}])
def test_a_marker_that_is_a_folder_or_a_dangling_link_counts(
    marker: dict[str, object], seed: HomeSeed, home: Path, plant: Callable
) -> None:
    plant(home, marker)
    report = run([seed], Report())

    assert "ok" == report.status
    assert [MARKER] == os.listdir(home)


def test_without_its_marker_a_home_of_unknown_origin_gets_the_defaults_it_lacks(
    seed: HomeSeed, home: Path, plant: Callable
) -> None:
    plant(home, {".bashrc": "mine\n", "docs/": None})
    report = run([seed], Report())

    assert [Status.CHANGED] == [row.status for row in report.rows]
    assert ("mine\n", "b\n") == ((home / ".bashrc").read_text(), (home / "docs/b").read_text())
    assert "merge" == record(home)["mode"]


def test_a_removed_marker_brings_fresh_defaults_and_a_backup(
    root: Path, seed: HomeSeed, home: Path, plant: Callable, tree: Callable
) -> None:
    run([seed], Report())
    (home / MARKER).unlink()
    plant(home, {".bashrc": "mine\n", "own/file": "x"})
    (home / "docs/b").unlink()
    report = run([replace(seed, boot_id="b2")], Report())
    (backup,) = os.listdir(root / "volume/.workspace-agent/backup")

    assert [Status.CHANGED] == [row.status for row in report.rows]
    texts = [(home / name).read_text() for name in (".bashrc", "docs/b", "own/file")]
    assert ["default\n", "b\n", "x"] == texts
    assert backup.endswith("-b2")
    assert {".bashrc": (0o644, b"mine\n")} == tree(root / "volume/.workspace-agent/backup" / backup)
    assert "reset" == record(home)["mode"]


def test_killed_at_any_write_of_a_reset_every_byte_of_the_users_keeps_a_name(
    root: Path, seed: HomeSeed, plant: Callable, tree: Callable, killed: Callable
) -> None:
    """Also in a second kill, while the first is being made good."""
    lost, k = [], 0
    while True:
        k += 1
        volume = plant(root / f"v{k}", {
            ".workspace-agent/seeded": "b0\n", "home/.bashrc": "precious\n", "home/docs/b": "too",
        })  # fmt: skip
        step = replace(seed, target=f"{volume}/home", state=f"{volume}/.workspace-agent")
        if killed(k, lambda step=step: step.apply(_tell)).seen < k:
            break
        killed(k, lambda step=step: replace(step, boot_id="b2").apply(_tell))
        found = {what[1] for what in tree(volume).values() if isinstance(what, tuple)}
        lost += [(k, text) for text in (b"precious\n", b"too") if text not in found]

    assert k > 10
    assert [] == lost


def test_a_merge_touches_nothing_that_is_there(
    seed: HomeSeed, home: Path, plant: Callable, tree: Callable
) -> None:
    plant(home, {
        ".bashrc": "mine\n", ".config": Path("/elsewhere"), "docs": "a file", "own/deep": "x",
        "empty/": None,
    })  # fmt: skip
    (home / ".bashrc").chmod(0o600)
    before = tree(home, times=True)
    seed.apply(_tell)
    after = tree(home, times=True)

    assert {MARKER} == set(after) - set(before)
    assert before == {name: after[name] for name in before}


def test_a_merge_never_writes_through_a_link_of_the_users(
    root: Path, seed: HomeSeed, home: Path, plant: Callable
) -> None:
    plant(root / "outside", {})
    plant(home, {".config": root / "outside", "docs": root / "outside"})
    seed.apply(_tell)

    assert [] == os.listdir(root / "outside")


def test_a_merge_adds_folders_with_their_modes_and_times(
    root: Path, seed: HomeSeed, home: Path, plant: Callable
) -> None:
    (root / "image/.config").chmod(0o710)
    os.utime(root / "image/.config", ns=(10**18, 10**18))
    plant(home, {"mine": "x"})
    seed.apply(_tell)
    found = os.lstat(home / ".config")

    assert (0o40710, 10**18) == (found.st_mode, found.st_mtime_ns)


def test_a_merge_works_where_the_volume_knows_no_hard_links(
    seed: HomeSeed, home: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    plant(home, {".bashrc": "mine\n", "docs/": None})
    monkeypatch.setattr(os, "link", refuse)
    report = run([seed], Report())

    assert "ok" == report.status
    assert ("mine\n", "b\n") == ((home / ".bashrc").read_text(), (home / "docs/b").read_text())


def test_an_empty_home_is_filled(seed: HomeSeed, home: Path) -> None:
    home.mkdir()
    seed.apply(_tell)

    assert {".bashrc", ".config", "docs", MARKER} == set(os.listdir(home))


def test_a_home_deeper_in_the_volume_gets_its_folders(seed: HomeSeed, root: Path) -> None:
    deep = replace(seed, target=str(root / "volume/homes/gpu/home"))
    report = run([deep], Report())

    assert "ok" == report.status
    assert "a\n" == (root / "volume/homes/gpu/home/.config/a").read_text()


@pytest.mark.parametrize("what", ["file", "link", "dangling"])
def test_what_stands_in_the_place_of_the_home_is_not_touched(
    what: str, root: Path, seed: HomeSeed, plant: Callable, tree: Callable
) -> None:
    plant(root, {"other/": None})
    there = {"file": "text", "link": root / "other", "dangling": Path("/nowhere")}[what]
    plant(root / "volume", {"home": there})
    before = tree(root)
    report = run([seed], Report())

    assert [Status.BLOCKED] == [row.status for row in report.rows]
    assert ["home.in-the-way"] == [problem.slug for problem in report.problems]
    assert before == tree(root)


def test_a_fifo_in_the_place_of_the_home_is_in_the_way(seed: HomeSeed, home: Path) -> None:
    os.mkfifo(home)

    assert isinstance(seed.check(), Blocked)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "HOME is not set"),
        ("home/me", "not an absolute path"),
        ("/", "HOME is the root folder"),
        ("//", "HOME is the root folder"),
        ("/./", "HOME is the root folder"),
        ("/nowhere/at/all", "/nowhere/at/all is not a folder"),
    ],
)
def test_a_home_that_is_none_is_unusable(source: str, why: str, seed: HomeSeed) -> None:
    report = run([replace(seed, source=source)], Report())

    assert [Status.BLOCKED] == [row.status for row in report.rows]
    assert ["home.unusable"] == [problem.slug for problem in report.problems]
    assert why in report.problems[0].why


def test_a_home_that_is_seeded_does_not_ask_where_it_came_from(seed: HomeSeed, home: Path) -> None:
    seed.apply(_tell)

    assert isinstance(replace(seed, source="").check(), Ok)


def test_a_volume_inside_the_home_is_not_copied_into_itself(
    root: Path, seed: HomeSeed, plant: Callable, tree: Callable
) -> None:
    volume = plant(root / "image/volume", {"data": "big", ".workspace-agent/": None})
    inside = replace(
        seed,
        target=f"{volume}/home",
        state=f"{volume}/.workspace-agent",
        prune=(str(volume),),
    )
    report = run([inside], Report())

    assert "ok" == report.status
    assert {".bashrc", ".config", ".config/a", "docs", "docs/b", MARKER} == set(
        tree(volume / "home")
    )


def test_a_home_that_is_the_home_on_the_volume_only_gets_the_marker(
    seed: HomeSeed, home: Path, plant: Callable, tree: Callable
) -> None:
    plant(home, {"mine": "x", "deep/er": "y"})
    before = tree(home)
    report = run([replace(seed, source=str(home))], Report())
    after = tree(home)

    assert "ok" == report.status
    assert {MARKER} == set(after) - set(before)
    assert before == {name: after[name] for name in before}


def test_a_home_elsewhere_on_the_volume_is_copied_without_the_home_and_the_state(
    root: Path, seed: HomeSeed, plant: Callable, tree: Callable
) -> None:
    plant(root / "volume", {"users.txt": "x", "home/": None})
    above = replace(seed, source=str(root / "volume"), prune=())
    report = run([above], Report())

    assert "ok" == report.status
    assert {"users.txt", MARKER} == set(tree(root / "volume/home"))


def test_a_link_to_the_home_is_resolved(root: Path, seed: HomeSeed, home: Path) -> None:
    (root / "alias").symlink_to(root / "image")
    report = run([replace(seed, source=str(root / "alias"))], Report())

    assert "ok" == report.status
    assert "a\n" == (home / ".config/a").read_text()


def test_what_was_left_out_is_in_the_marker(root: Path, seed: HomeSeed, home: Path) -> None:
    os.mkfifo(root / "image/fifo")
    with open(os.fsencode(root / "image") + b"/\xff", "wb"):
        pass
    run([seed], Report())

    assert ([["fifo", "a special file"]], 1) == (
        record(home)["skipped"],
        record(home)["skipped_total"],
    )


def test_a_large_home_outside_a_container_gives_way_to_the_skeleton(
    root: Path, seed: HomeSeed, home: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(root / "skel", {".profile": "skeleton"})
    monkeypatch.setattr("workspace_agent.steps.home.SMALL_ENTRIES", 2)
    report = run([replace(seed, skeleton=str(root / "skel"))], Report())

    assert "ok" == report.status
    assert {".profile", MARKER} == set(os.listdir(home))


def test_a_small_home_outside_a_container_is_copied(
    root: Path, seed: HomeSeed, home: Path, plant: Callable
) -> None:
    plant(root / "skel", {".profile": "skeleton"})
    run([replace(seed, skeleton=str(root / "skel"))], Report())

    assert {".bashrc", ".config", "docs", MARKER} == set(os.listdir(home))


def test_a_large_home_and_no_skeleton_is_told_and_leaves_nothing(
    root: Path, seed: HomeSeed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workspace_agent.steps.home.SMALL_ENTRIES", 2)
    report = run([replace(seed, skeleton="/no/skeleton")], Report())

    assert ["home.too-big"] == [problem.slug for problem in report.problems]
    assert set() == _left(root / "volume")
    assert not home.exists()


@pytest.mark.parametrize("count", [SMALL_ENTRIES - 2, SMALL_ENTRIES + 2])
def test_small_is_counted_in_entries(count: int, root: Path) -> None:
    for n in range(count):
        os.mkdir(root / str(n))

    assert (count < SMALL_ENTRIES) == is_small(str(root))


def test_small_is_counted_in_bytes(root: Path) -> None:
    with open(root / "sparse", "wb") as handle:
        handle.truncate((64 << 20) + 1)
    (root / "z").write_text("")

    assert not is_small(str(root))


def test_a_home_whose_last_file_is_gone_while_it_is_counted_is_no_fault(
    root: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(root / "h", {"a": "x", "b": "y"})
    real = os.lstat

    def racing(path: str, **more: object) -> os.stat_result:
        if str(path).endswith("/a"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real(path, **more)

    monkeypatch.setattr(os, "lstat", racing)

    assert is_small(str(root / "h"))


CODES = ["ENOSPC", "EDQUOT", "EIO", "ESTALE", "EROFS", "EACCES"]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("merge", [False, True])
def test_refused_at_any_write_no_marker_stands_over_an_incomplete_home(
    code: str, merge: bool, root: Path, seed: HomeSeed, plant: Callable, fated: Callable
) -> None:
    number = getattr(errno, code)
    defaults = {".bashrc", ".config/a", "docs/b"}
    wrong = []
    k = 0
    while True:
        k += 1
        volume = plant(root / f"v{k}", {".workspace-agent/": None})
        if merge:
            plant(volume, {"home/.bashrc": "mine\n", "home/docs/": None})
        step = replace(seed, target=f"{volume}/home", state=f"{volume}/.workspace-agent")
        with fated(at=k, refuse=number) as fate:
            report = run([step], Report())
        if fate.seen < k:
            break
        home = volume / "home"
        if (home / MARKER).exists():
            listed = {name for name, _ in record(home)["skipped"]}
            above = {n: {n, os.path.dirname(n)} for n in defaults}
            missing = {n for n in defaults if not (home / n).exists()}
            wrong += [(k, n) for n in missing if not above[n] & listed]
        elif report.status == "ok":
            wrong.append((k, "neither a marker nor a problem"))
        if merge and (home / ".bashrc").read_text() != "mine\n":
            wrong.append((k, "the user's file"))
        again = run([replace(step, boot_id="b2")], Report())
        if again.status != "ok" or not step.tidy() or _left(volume) - {"seeded", "defaults-new"}:
            wrong.append((k, "not healed", again))

    assert k > 10
    assert [] == wrong


@pytest.mark.parametrize("code", ["ENOSPC", "EIO"])
def test_a_sync_that_fails_leaves_no_marker_and_no_stage(
    code: str, root: Path, seed: HomeSeed, home: Path
) -> None:
    def refuse(_: int) -> None:
        raise OSError(getattr(errno, code), code)

    report = run([replace(seed, sync=refuse)], Report())

    assert [Status.FAILED] == [row.status for row in report.rows]
    assert not home.exists()
    assert set() == _left(root / "volume")


def test_everything_is_synced_before_the_marker_is_seen(
    seed: HomeSeed, home: Path, plant: Callable
) -> None:
    for there in ({}, {"mine": "x"}):
        _removed(home)
        plant(home, there)
        seen: list[bool] = []
        step = replace(seed, sync=lambda _, seen=seen: seen.append((home / MARKER).exists()))
        step.apply(_tell)

        assert [False] * (1 + bool(there)) == seen
        assert (home / MARKER).exists()
        complete = [(home / name).exists() for name in (".bashrc", ".config/a", "docs/b")]
        assert [True] * 3 == complete


def test_a_stage_that_another_pod_removes_is_never_published(seed: HomeSeed, home: Path) -> None:
    def rival(_: int) -> None:
        with SafeRoot.at(seed.state) as state:
            state.remove_tree("stage-b1")

    report = run([replace(seed, sync=rival)], Report())

    assert [Status.FAILED] == [row.status for row in report.rows]
    assert not home.exists()


def test_two_boots_at_once_end_in_one_whole_home(
    root: Path, seed: HomeSeed, home: Path, tree: Callable
) -> None:
    """The second pod does all of its work while the first waits in its sync."""
    reports = []

    def rival(_: int) -> None:
        if not reports:
            reports.append(None)
            os.utime(f"{seed.state}/lease.1", (1, 1))  # the second pod holds the first for dead
            reports.append(run([replace(seed, boot_id="rival")], Report()))

    first = run([replace(seed, sync=rival)], Report())

    assert ["ok", "ok"] == [first.status, reports[1].status]
    assert "rival" == record(home)["boot_id"]
    assert {".bashrc", ".config", ".config/a", "docs", "docs/b", MARKER} == set(tree(home))
    assert {"seeded"} == _left(root / "volume")


def test_a_new_home_is_made_where_no_lease_can_be_had_and_one_that_is_there_is_left(
    root: Path, seed: HomeSeed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("workspace_agent.host.lease.Lease.take", refused)
    made = run([seed], Report())
    (home / MARKER).unlink()
    again = run([seed], Report())

    assert (["ok"], [Status.FAILED]) == ([made.status], [row.status for row in again.rows])
    assert not (home / MARKER).exists()


def test_stages_of_killed_boots_are_removed_beside_the_workload_files_and_folders(
    root: Path, seed: HomeSeed, plant: Callable
) -> None:
    plant(root / "volume/.workspace-agent", {
        "stage-old/deep/file": "x", "stage-old.marker": "y", "boots/one.json": "{}",
    })  # fmt: skip
    seed.apply(_tell)

    assert "stage-old" in _left(root / "volume")
    assert seed.tidy()
    assert {"boots", "seeded"} == _left(root / "volume")


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Give a real volume of 256 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs", str(folder)]
    try:
        subprocess.run(argv, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small tmpfs needs root and CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("merge", [False, True])
def test_a_volume_that_is_really_full_is_told_left_clean_and_used_once_there_is_room(
    merge: bool, tiny: Path, tmp_path: Path, plant: Callable
) -> None:
    plant(tmp_path / "image", {"small": "x", "zbig": b"x" * 300_000})
    plant(tiny, {"home/mine": "y"} if merge else {})
    step = HomeSeed(
        source=str(tmp_path / "image"),
        target=str(tiny / "home"),
        marker=MARKER,
        state=str(tiny / ".workspace-agent"),
        prune=(str(tiny),),
        boot_id="b",
    )
    ready = VolumeReady(str(tiny), "tmpfs", (), (step.state,))
    full = run([ready, step], Report())
    marked, left = (tiny / "home" / MARKER).exists(), _left(tiny)
    (tmp_path / "image/zbig").write_text("small now")
    healed = run([ready, step], Report())

    assert ["volume.full"] == [problem.slug for problem in full.problems]
    assert (False, {"volume.json"}) == (marked, left)
    assert "ok" == healed.status
    assert "small now" == (tiny / "home/zbig").read_text()


@pytest.mark.parametrize(
    ("code", "slug"),
    [
        ("ENOSPC", "volume.full"),
        ("EDQUOT", "volume.full"),
        ("EROFS", "volume.read-only"),
        ("EACCES", "volume.not-writable"),
        ("EPERM", "volume.not-writable"),
        ("ESTALE", "volume.stale"),
        ("EIO", "volume.io-error"),
        ("ENAMETOOLONG", "step.failed"),
    ],
)
def test_the_volumes_refusal_becomes_a_sentence_with_a_remedy(
    code: str, slug: str, seed: HomeSeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(errno, code)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), seed.state)

    monkeypatch.setattr(os, "mkdir", refuse)
    problem = run([seed], Report()).problems[0]

    assert (slug, f"{seed.state}/stage-b1") == (problem.slug, problem.where)
    assert os.strerror(number) in problem.why
    assert problem.fix


def test_a_home_that_cannot_be_looked_at_is_not_written_over(
    seed: HomeSeed, monkeypatch: pytest.MonkeyPatch, fated: Callable
) -> None:
    real = os.lstat

    def refuse(path: object, **more: object) -> os.stat_result:
        if path == seed.target:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, **more)

    monkeypatch.setattr(os, "lstat", refuse)
    with fated() as fate:
        report = run([seed], Report())

    assert ["volume.io-error"] == [problem.slug for problem in report.problems]
    assert fate.seen == 0


@pytest.mark.parametrize("code", ["EACCES", "EIO", "ESTALE"])
@pytest.mark.parametrize("name", [MARKER, "seeded"])
def test_a_marker_that_cannot_be_looked_at_is_neither_adopted_nor_missing(
    code: str, name: str, root: Path, seed: HomeSeed, plant: Callable, tree: Callable, monkeypatch
) -> None:
    plant(root / "volume", {f"home/{MARKER}": "", "home/mine": "x"})
    before = tree(root / "volume", times=True)
    real = os.lstat

    def refuse(path: object, **more: object) -> os.stat_result:
        if str(path).endswith(f"/{name}"):
            raise OSError(getattr(errno, code), "refused", path)
        return real(path, **more)

    monkeypatch.setattr(os, "lstat", refuse)
    report = run([seed], Report())
    monkeypatch.undo()

    assert [Status.FAILED] == [row.status for row in report.rows]
    assert before == tree(root / "volume", times=True)


def test_another_home_on_the_same_volume_is_not_a_reset(
    root: Path, seed: HomeSeed, plant: Callable
) -> None:
    run([seed], Report())
    plant(root / "volume/homes/mine", {".bashrc": "mine\n"})
    other = replace(seed, target=str(root / "volume/homes/mine"), boot_id="b2")
    report = run([other], Report())

    assert "ok" == report.status
    assert "mine\n" == (root / "volume/homes/mine/.bashrc").read_text()
    assert {"seeded", "seeded-homes%2Fmine", "defaults-new"} == _left(root / "volume")


@pytest.mark.parametrize("everything", [False, True])
def test_what_could_not_be_copied_is_told_and_all_of_it_is_no_home(
    everything: bool, root: Path, seed: HomeSeed, home: Path, monkeypatch
) -> None:
    real = os.open

    def refuse(path: object, flags: int, *args: int, **more: object) -> int:
        if path in ({".bashrc", "a", "b"} if everything else {"a"}) and not flags & os.O_WRONLY:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *args, **more)

    os.mkfifo(root / "image/fifo")
    monkeypatch.setattr(os, "open", refuse)
    report = run([seed], Report())

    assert ["home.left-out"] == [problem.slug for problem in report.problems]
    assert everything != (home / MARKER).exists()


def test_a_marker_in_the_images_home_is_no_default(
    root: Path, seed: HomeSeed, home: Path, plant: Callable
) -> None:
    plant(root / "image", {f"{MARKER}/inside": "x"})
    report = run([seed], Report())

    assert "ok" == report.status
    assert "fresh" == record(home)["mode"]


def test_the_plan_says_what_will_be_copied(seed: HomeSeed, home: Path) -> None:
    first = seed.check()
    home.mkdir()
    second = seed.check()

    assert Todo(f"first boot: {seed.source} is copied") == first
    assert Todo("the marker is missing: defaults that are not there are added") == second


def _left(volume: Path) -> set[str]:
    """List the agent's folder without the lease, whose last file stays."""
    names = os.listdir(volume / ".workspace-agent")
    return {name for name in names if not name.startswith("lease.")}


def _removed(home: Path) -> None:
    shutil.rmtree(str(home), ignore_errors=True)
