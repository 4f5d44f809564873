"""A newer image over a home that is there: what is taken over, what stays, and what it costs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from workspace_agent.app.boot import run
from workspace_agent.model.outcome import Ok, Report, Skip, Status, Todo
from workspace_agent.model.problem import AgentError
from workspace_agent.steps.home import HomeSeed
from workspace_agent.steps.places import places
from workspace_agent.steps.threeway import Verdict
from workspace_agent.steps.upgrade import HomeUpgrade

MARKER = ".packet-init"
OLD = {".bashrc": "old\n", "conf/a": "a\n", "conf/b": "b\n", "mine": "x\n", "deleted": "d\n"}
LONG_AGO = 1_600_000_000


def _tell(_: str) -> None: ...


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no lease of a boot that a test has killed be taken for a live one."""
    monkeypatch.setattr("workspace_agent.host.alive.is_gone", lambda _: True)


@pytest.fixture
def step(tmp_path: Path, plant: Callable) -> HomeUpgrade:
    """Return the step over a home made from an image that is now a newer one.

    The newer one has another .bashrc, another conf/a, another `deleted` and a new file; the user
    has changed conf/a and mine, and deleted what its name says.
    """
    plant(tmp_path / "image", OLD)
    for path in (tmp_path / "image").rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    plant(tmp_path / "volume/.workspace-agent", {})
    step = made(tmp_path)
    plant(tmp_path / "image", {".bashrc": "new\n", "conf/a": "image\n", "deleted": "image\n"})
    plant(tmp_path / "image", {"more/new": "new\n"})
    plant(tmp_path / "volume/home", {"conf/a": "mine\n", "mine": "mine\n"})
    (tmp_path / "volume/home/deleted").unlink()
    return step


def made(at: Path, meanwhile: Callable[[Path, Path], object] = lambda *_: None) -> HomeUpgrade:
    """Make the home on the volume of *at*, and its manifest; *meanwhile* is in between."""
    seed = HomeSeed(
        source=f"{at}/image",
        target=f"{at}/volume/home",
        marker=MARKER,
        state=f"{at}/volume/.workspace-agent",
        prune=(f"{at}/volume",),
        boot_id="b1",
        sync=lambda _: None,
    )
    seed.apply(_tell)
    seeded = time.time_ns()
    (at / "now").touch()
    while os.stat(at / "now").st_ctime_ns < seeded:  # a disk's clock ticks, slower than ours
        (at / "now").touch()
    meanwhile(at / "image", at / "volume/home")
    assert HomeUpgrade(seed).settle()
    return HomeUpgrade(replace(seed, boot_id="b2"))


def home(step: HomeUpgrade) -> dict[str, str]:
    return texts(Path(step.seed.target))


def texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER
    }


def state(step: HomeUpgrade) -> Path:
    return Path(step.seed.state)


UPGRADED = {
    ".bashrc": "new\n",
    "conf/a": "mine\n",
    "conf/b": "b\n",
    "mine": "mine\n",
    "more/new": "new\n",
}


def test_what_nobody_changed_is_replaced_and_what_is_new_is_added(step: HomeUpgrade) -> None:
    report = run([step], Report())

    assert [Status.CHANGED] == [row.status for row in report.rows]
    assert UPGRADED == home(step)


def test_what_is_replaced_is_in_a_backup_and_conflicts_are_beside(step: HomeUpgrade) -> None:
    step.apply(_tell)
    (backup,) = (state(step) / "backup").iterdir()

    assert {".bashrc": "old\n"} == texts(backup)
    assert {"conf/a": "image\n"} == texts(state(step) / "defaults-new")


def test_a_user_who_emptied_a_file_has_changed_it(step: HomeUpgrade) -> None:
    Path(step.seed.target, ".bashrc").write_text("")
    step.apply(_tell)

    assert "" == home(step)[".bashrc"]


def test_afterwards_there_is_nothing_to_do_and_nothing_is_written(
    step: HomeUpgrade, tree: Callable
) -> None:
    run([step], Report())
    assert step.settle()
    before = tree(Path(step.seed.volume), times=True)
    again = run([step], Report())

    assert [Status.OK] == [row.status for row in again.rows]
    assert step.settle()
    assert before == tree(Path(step.seed.volume), times=True)


def test_the_next_image_is_compared_with_this_one(step: HomeUpgrade) -> None:
    step.apply(_tell)
    assert step.settle()
    Path(step.seed.source, ".bashrc").write_text("newest\n")
    Path(step.seed.source, "conf/a").unlink()
    step.apply(_tell)

    assert {**UPGRADED, ".bashrc": "newest\n"} == home(step)


def test_check_writes_nothing(step: HomeUpgrade, tree: Callable) -> None:
    before = tree(Path(step.seed.volume), times=True)

    assert isinstance(step.check(), Todo)
    assert before == tree(Path(step.seed.volume), times=True)


def test_killed_at_any_write_the_next_boot_ends_as_if_never_killed(
    step: HomeUpgrade, fated: Callable, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "volume", tmp_path / "kept", symlinks=True)
    with fated() as fate:
        step.apply(_tell)
    wanted, seen = home(step), fate.seen
    for k in range(1, seen + 1):
        shutil.rmtree(tmp_path / "volume")
        shutil.copytree(tmp_path / "kept", tmp_path / "volume", symlinks=True)
        with fated(at=k):
            step.apply(_tell)
        found = [*(state(step) / "backup").rglob(".bashrc"), Path(step.seed.target, ".bashrc")]
        assert "old\n" in {path.read_text() for path in found if path.exists()}, k
        after = run([replace(step, seed=replace(step.seed, boot_id="b3"))], Report())
        assert not after.problems, (k, after.problems)
        assert (k, wanted) == (k, home(step))
        assert step.seed.tidy()
        assert [] == [one for one in os.listdir(state(step)) if one.startswith("stage-")]
    assert seen > 20


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_refused_write_is_a_problem_and_loses_nothing(
    step: HomeUpgrade, fated: Callable, code: int
) -> None:
    with fated() as fate:
        step.apply(_tell)
    for k in range(1, fate.seen + 1, 3):
        with fated(at=k, refuse=code):
            run([step], Report())

        assert {"mine\n", "b\n"} <= set(home(step).values())


def test_another_pod_that_takes_over_ends_it(
    step: HomeUpgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workspace_agent.host.lease.Lease.held", lambda _: False)
    report = run([step], Report())

    assert ["home.not-laid"] == [problem.slug for problem in report.problems]
    assert "old\n" == home(step)[".bashrc"]


def test_a_home_that_another_pod_is_at_is_no_home_that_is_done(
    step: HomeUpgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workspace_agent.host.lease.Lease.take", lambda *_: False)
    with places(step.seed) as at, pytest.raises(AgentError) as caught:
        step.lay(at, [".bashrc"])

    assert ("home.not-laid", "old\n") == (caught.value.problem.slug, home(step)[".bashrc"])


def test_without_a_base_nothing_is_done(step: HomeUpgrade) -> None:
    for path in (state(step) / "defaults").iterdir():
        path.write_bytes(path.read_bytes()[:-4])

    assert isinstance(step.check(), Skip)
    with pytest.raises(AgentError):
        step.merge()


def test_a_planted_record_leads_nowhere(step: HomeUpgrade) -> None:
    for base in ("../../etc", "x" * 16, 7, None, ""):
        (state(step) / "seeded").write_text(json.dumps({"format": 1, "base": base}))

        assert isinstance(step.check(), Skip)
    (state(step) / "seeded").write_text("[" * 4000)

    assert isinstance(step.check(), Skip)


def test_a_planted_name_for_a_base_is_none(step: HomeUpgrade) -> None:
    (path,) = (state(step) / "defaults").iterdir()
    path.rename(path.parent / "\x1b[2J.jsonl.gz")
    (state(step) / "seeded").write_text(json.dumps({"format": 1, "base": "\x1b[2J"}))

    assert isinstance(step.check(), Skip)


def test_a_marker_in_the_image_is_no_default(step: HomeUpgrade) -> None:
    Path(step.seed.source, MARKER).write_text("of the older script\n")
    before = Path(step.seed.target, MARKER).read_text()

    assert MARKER not in step.merge(dry_run=True)
    step.apply(_tell)
    assert before == Path(step.seed.target, MARKER).read_text()
    assert not (state(step) / "defaults-new" / MARKER).exists()


def test_only_what_is_asked_for_is_merged_and_the_base_stays(step: HomeUpgrade) -> None:
    done = step.merge(only=["more"])

    assert {"more": Verdict.NEW, "more/new": Verdict.NEW} == done
    assert ("old\n", "new\n") == (home(step)[".bashrc"], home(step)["more/new"])
    assert isinstance(step.check(), Todo)


def test_a_dry_run_writes_nothing(step: HomeUpgrade, tree: Callable) -> None:
    before = tree(Path(step.seed.volume), times=True)

    assert 4 == len(step.merge(dry_run=True))
    assert before == tree(Path(step.seed.volume), times=True)


def test_a_link_in_the_home_is_never_followed(step: HomeUpgrade, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Path(step.seed.target, "more").symlink_to(outside)
    Path(step.seed.target, ".bashrc").unlink()
    Path(step.seed.target, ".bashrc").symlink_to(outside / "planted")
    step.apply(_tell)

    assert [] == os.listdir(outside)


def test_a_planted_state_is_never_followed(step: HomeUpgrade, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("backup", "defaults-new"):
        (state(step) / name).symlink_to(outside)
    run([step], Report())

    assert [] == os.listdir(outside)


def test_a_report_is_noted_once_for_each_image(step: HomeUpgrade, tree: Callable) -> None:
    before = set(os.listdir(state(step) / "defaults"))
    assert step.settle()
    (note,) = set(os.listdir(state(step) / "defaults")) - before
    found = json.loads((state(step) / "defaults" / note).read_text())
    noted = tree(Path(step.seed.volume), times=True)

    assert {"changed": 1, "conflict": 1, "deleted": 1, "new": 2, "same": 2, "yours": 1} == (
        found["counts"]
    )
    assert step.settle()
    assert noted == tree(Path(step.seed.volume), times=True)


def test_a_report_changes_no_home(step: HomeUpgrade, tree: Callable) -> None:
    before = tree(Path(step.seed.target), times=True)
    step.settle()

    assert before == tree(Path(step.seed.target), times=True)


def test_without_a_report_only_the_manifest_is_made(step: HomeUpgrade, tree: Callable) -> None:
    before = tree(Path(step.seed.volume), times=True)

    assert step.settle(report=False)
    assert before == tree(Path(step.seed.volume), times=True)


def written_into_the_images_home(image: Path, home: Path) -> None:
    """Do what a process with another HOME does, and what the user does."""
    (image / ".cache").mkdir()
    (image / ".cache/new").write_text("n\n")
    (image / ".bash_history").write_text("ls\n")
    (home / ".bash_history").write_text("pwd\n")
    (home / "mine").write_text("mine\n")
    with open(image / ".bashrc", "a") as file:
        file.write("# installed\n")


def test_what_is_written_into_the_images_home_before_the_manifest_costs_no_base(
    tmp_path: Path, plant: Callable
) -> None:
    plant(tmp_path / "image", OLD)
    plant(tmp_path / "volume/.workspace-agent", {})
    step = made(tmp_path, written_into_the_images_home)
    shutil.rmtree(tmp_path / "image")
    plant(tmp_path / "image", {**OLD, ".bashrc": "newer\n", "mine": "newer\n"})

    assert {".bashrc": Verdict.CHANGED, "mine": Verdict.CONFLICT} == step.merge()
    assert ("newer\n", "mine\n") == (home(step)[".bashrc"], home(step)["mine"])


def test_a_home_that_has_no_longer_what_it_was_given_gets_no_wrong_base(
    tmp_path: Path, plant: Callable
) -> None:
    def both(image: Path, home: Path) -> None:
        (image / ".bashrc").write_text("changed\n")
        (home / ".bashrc").write_text("changed\n")

    plant(tmp_path / "image", OLD)
    plant(tmp_path / "volume/.workspace-agent", {})
    step = made(tmp_path, both)

    assert [] == list((state(step) / "defaults").glob("*.gz"))


def test_before_there_is_a_manifest_what_killed_boots_left_is_removed(
    tmp_path: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A boot that is killed in between has no manifest: the next one comes here again."""
    plant(tmp_path / "image", OLD)
    plant(tmp_path / "volume/.workspace-agent", {"stage-dead/tree/x": "x"})
    with monkeypatch.context() as patch, pytest.raises(AssertionError):
        patch.setattr("workspace_agent.steps.stage.tidy", lambda *_: False)  # another pod is at it
        made(tmp_path)
    left = set(os.listdir(tmp_path / "volume/.workspace-agent"))
    step = made(tmp_path)

    assert {"stage-dead"} == left - {"lease.1", "seeded"}
    assert {"lease.2", "seeded", "defaults"} == set(os.listdir(state(step)))


def test_a_manifest_that_is_not_sound_is_made_anew(tmp_path: Path, plant: Callable) -> None:
    plant(tmp_path / "image", OLD)
    plant(tmp_path / "volume/.workspace-agent", {})
    step = made(tmp_path)
    (path,) = (state(step) / "defaults").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])

    assert step.settle()
    assert len(whole) == path.stat().st_size


def test_an_image_that_changes_while_it_is_listed_leaves_no_manifest(
    tmp_path: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "image", OLD)
    plant(tmp_path / "volume/.workspace-agent", {})
    monkeypatch.setattr("workspace_agent.steps.manifest._fill", lambda *_: "another")
    with pytest.raises(AssertionError):
        made(tmp_path)

    assert [] == os.listdir(tmp_path / "volume/.workspace-agent/defaults")


def test_an_adopted_home_gets_a_report_and_no_more(step: HomeUpgrade) -> None:
    (state(step) / "seeded").write_text("b1\n")  # of an earlier version

    assert step.settle()
    assert isinstance(step.check(), Skip)
    (note,) = (state(step) / "defaults").glob("*.json")
    assert {"same": 2, "unknown": 6} == json.loads(note.read_text())["counts"]


def test_an_image_out_of_sight_is_skipped(step: HomeUpgrade) -> None:
    hidden = replace(step, seed=replace(step.seed, source=step.seed.target))

    assert isinstance(hidden.check(), Skip)
    with pytest.raises(AgentError):
        hidden.settle()


def test_a_home_of_this_image_is_ok_before_its_manifest_is_there(
    tmp_path: Path, plant: Callable
) -> None:
    plant(tmp_path / "image", OLD)
    plant(tmp_path / "volume/.workspace-agent", {})
    step = made(tmp_path)
    for path in (state(step) / "defaults").iterdir():
        path.unlink()

    assert isinstance(step.check(), Ok)


def test_a_boot_that_puts_links_into_the_images_home_knows_it_again(
    tmp_path: Path, plant: Callable
) -> None:
    from workspace_agent.steps.identity import LinkHome

    plant(tmp_path / "image", {**OLD, ".gitconfig": "g\n"})
    plant(tmp_path / "volume/.workspace-agent", {})
    link = LinkHome(f"{tmp_path}/volume/home", f"{tmp_path}/image", (".gitconfig", "conf/"))
    seed = replace(made(tmp_path).seed, moved=link.moved)
    for path in ("home", ".workspace-agent/seeded"):
        Path(seed.volume, path).rename(tmp_path / path.replace("/", "-"))
    seed.apply(_tell)
    link.apply(_tell)

    assert isinstance(HomeUpgrade(seed).check(), Ok)
    assert HomeUpgrade(seed).settle()
