"""The stage: private, whole or gone, and taken up only where that is sure."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workspace_agent.host import files
from workspace_agent.host.lease import Lease
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.steps.stage import Stage, key_of, tidy


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SafeRoot]:
    (tmp_path / "state").mkdir()
    with SafeRoot.at(str(tmp_path / "state")) as root:
        yield root


def left_behind(state: SafeRoot, boot_id: str, key: str) -> str:
    """Make a stage, and die."""
    stage = Stage(state, boot_id, key)
    stage.__enter__()
    stage.tree.commit("half", "copied")
    os.close(stage.tree.fd)
    stage._unlock()  # as the kernel does with the locks of the dead
    return stage.name


def test_a_stage_leaves_nothing(state: SafeRoot) -> None:
    with Stage(state, "mine", "key") as stage:
        stage.tree.commit("file", "x")
        inside = state.names()

    assert (["stage-mine"], []) == (inside, state.names())


@pytest.mark.parametrize(
    ("theirs", "ours", "resumed"),
    [("key", "key", True), ("other", "key", False), ("", "", False), ("key", "", False)],
)
def test_what_a_killed_boot_left_is_taken_up_when_it_is_of_the_same(
    state: SafeRoot, theirs: str, ours: str, resumed: bool
) -> None:
    left_behind(state, "dead", theirs)
    with Stage(state, "mine", ours) as stage:
        found = stage.tree.names()

    assert (resumed, ["half"] if resumed else []) == (stage.resumed, found)
    assert ([] if resumed else ["stage-dead"]) == state.names()


@pytest.mark.parametrize(("key", "resumed"), [("key", True), ("", False)])
def test_what_a_boot_left_that_was_told_to_end_is_taken_up(
    state: SafeRoot, key: str, resumed: bool
) -> None:
    with pytest.raises(SystemExit), Stage(state, "ended", key) as stage:
        stage.tree.commit("half", "copied")
        raise SystemExit(143)
    with Stage(state, "mine", key) as stage:
        assert (resumed, ["half"] * resumed) == (stage.resumed, stage.tree.names())
    assert [] == state.names()


def test_it_is_taken_up_by_one_alone_and_never_from_one_who_lives(state: SafeRoot) -> None:
    """One who was only held up still has the folders open, and would go on in our tree."""
    left_behind(state, "dead", "key")
    with Stage(state, "one", "key") as one, Stage(state, "two", "key") as two:
        assert (True, False) == (one.resumed, two.resumed)
        assert ["stage-one", "stage-two"] == sorted(state.names())


def test_where_there_are_no_locks_nothing_can_be_taken_up(
    state: SafeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    left_behind(state, "dead", "key")
    with Stage(state, "mine", "key") as stage:
        assert not stage.resumed


def test_a_planted_stage_leads_nowhere(state: SafeRoot, tmp_path: Path, plant: Callable) -> None:
    outside = plant(tmp_path / "outside", {"precious": "x"})
    os.symlink(outside, f"{state.path}/stage-evil")
    with Stage(state, "mine", "key") as stage:
        stage.tree.commit("file", "x")
    tidy(state, "mine")

    assert (["lease.1"], ["precious"]) == (state.names(), os.listdir(outside))


def test_what_is_put_into_the_tree_leaves_no_draft(state: SafeRoot) -> None:
    with Stage(state, "mine") as stage:
        stage.put("marker", "text")

        assert (["marker"], b"text") == (stage.tree.names(), stage.tree.read("marker"))
        assert ["tree"] == os.listdir(f"{state.path}/{stage.name}")


def test_what_the_dead_left_is_removed_and_nothing_else(
    state: SafeRoot, tmp_path: Path, plant: Callable
) -> None:
    plant(tmp_path / "state", {"stage-a/tree/deep/x": "1", "stage-b": "2", "boots/x": "3"})
    plant(
        tmp_path / "state", {"seeded.7-dead.new": "", "seeded.8-alive.new": "", "lease.x.probe": ""}
    )
    os.utime(tmp_path / "state/seeded.7-dead.new", (1, 1))

    assert tidy(state, "mine")
    assert {"boots", "seeded.8-alive.new", "lease.1"} == set(state.names())


def test_what_a_killed_waiter_left_is_removed(
    state: SafeRoot, tmp_path: Path, plant: Callable
) -> None:
    plant(tmp_path / "state", {"lease.dead.probe": "", "lease.7.8-dead.new": ""})

    assert tidy(state, "mine")
    assert ["lease.1"] == state.names()


def test_where_nothing_is_left_nothing_is_written(
    state: SafeRoot, tmp_path: Path, plant: Callable, tree: Callable
) -> None:
    plant(tmp_path / "state", {"boots/x": "3", "seeded": "", "seeded.8-alive.new": ""})
    before = tree(tmp_path, times=True)

    assert tidy(state, "mine")
    assert before == tree(tmp_path, times=True)


def test_nothing_of_another_pod_is_removed_while_it_has_the_lease(state: SafeRoot) -> None:
    rival = Lease(state, "rival")
    assert rival.take(lambda: False, lambda _: None)
    with Stage(state, "rival", "key") as stage:
        assert not tidy(state, "mine")
        assert ["tree"] == [n for n in os.listdir(f"{state.path}/{stage.name}") if n != "key"]
    rival.release()


def test_a_boot_that_goes_on_while_its_old_stage_is_removed_has_another_one(
    state: SafeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held up for so long that it lost the lease, it makes a stage of the same name again."""
    left_behind(state, "slow", "key")
    remove, found = SafeRoot.remove_tree, []

    def removed(root: SafeRoot, below: str) -> None:
        if not found:
            found.append("")  # the stage looks for one of its name, too
            with Stage(state, "slow", "key") as stage:
                found.append(stage.resumed)
                stage.tree.commit("new", "x")
                remove(root, below)
                found.append(stage.tree.names())
        remove(root, below)

    monkeypatch.setattr(SafeRoot, "remove_tree", removed)

    assert tidy(state, "mine")
    assert ["", False, ["new"]] == found
    assert ["lease.1"] == state.names()


OVERLAY = (
    "25 1 0:31 / / rw,relatime - overlay overlay rw,lowerdir={},upperdir={},workdir=/w\n"
    "26 25 0:5 / /proc rw - proc proc rw\n"
)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Give what the kernel tells, to be changed."""
    said = {
        "/proc/sys/kernel/random/boot_id": b"b00t\n",
        "/proc/self/mountinfo": OVERLAY.format("/l/1:/l/2", "/u/1").encode(),
    }
    monkeypatch.setattr(files, "read", lambda path, *_: said.get(path))
    return said


def test_a_key_names_the_image_by_its_layers_and_not_by_the_containers_own(known: dict) -> None:
    one = key_of("/usr", "")
    known["/proc/self/mountinfo"] = OVERLAY.format("/l/1:/l/2", "/u/2").encode()
    same = key_of("/usr", "")
    known["/proc/self/mountinfo"] = OVERLAY.format("/l/1:/l/3", "/u/2").encode()

    assert one
    assert (True, False) == (one == same, one == key_of("/usr", ""))


@pytest.mark.parametrize("change", ["source", "exclude", "boot", "image"])
def test_a_key_differs_with_all_that_matters(known: dict, change: str) -> None:
    one = key_of("/usr", "image@1", ("a",))
    if change == "boot":
        known["/proc/sys/kernel/random/boot_id"] = b"other\n"
    other = key_of(
        "/etc" if change == "source" else "/usr",
        "image@2" if change == "image" else "image@1",
        () if change == "exclude" else ("a",),
    )

    assert one != other


@pytest.mark.parametrize("silent", ["/proc/sys/kernel/random/boot_id", "/proc/self/mountinfo"])
def test_where_the_image_or_the_kernel_is_not_known_there_is_no_key(
    known: dict, silent: str
) -> None:
    known[silent] = b""

    assert "" == key_of("/usr", "")


def test_a_root_without_layers_has_no_key(known: dict) -> None:
    known["/proc/self/mountinfo"] = b"25 1 8:1 / / rw - ext4 /dev/vda rw\n"

    assert "" == key_of("/usr", "")
    assert "" != key_of("/usr", "told")


def test_after_an_error_a_stage_that_cannot_be_removed_is_not_taken_up(
    state: SafeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the error lost nobody knows."""
    monkeypatch.setattr(SafeRoot, "remove_tree", lambda *_: None)
    with pytest.raises(OSError, match="lost"), Stage(state, "failed", "key") as stage:
        stage.tree.commit("half", "copied")
        raise OSError("lost")
    with Stage(state, "mine", "key") as stage:
        assert (False, []) == (stage.resumed, stage.tree.names())
