"""Versions on a volume: whole or none, signed or refused, old ones gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from workspace_agent.checkpoint import artifact
from workspace_agent.checkpoint.artifact import Shelf, decoded, name, sealed, shelf
from workspace_agent.model.problem import AgentError

WORKLOAD = "0123456789abcdef"


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "made": 1.0, "generation": 0, "root": 1000, "numbers": [1000], "processes": 1,
        "threads": 1, "asleep": [], "stdio": {}, "tcp": "close", "unprivileged": True,
        "contract": [], "facts": {}, "identity": {}, "carried": {}, "files": {}, "bytes": 10,
        "secs": {}, "trial": "passed", **more,
    }  # fmt: skip


def put(on: Shelf, label: str = "", size: int = 10, when: float = 0.0) -> str:
    version = name(when)
    with on.stage(version) as stage, stage.folder(artifact.IMAGES, 0o700):
        on.publish(version, stage, manifest(label=label, bytes=size))
    return version


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path


def top(volume: Path) -> Path:
    return volume / f".workspace-agent/checkpoints/{WORKLOAD}"


def test_a_published_version_is_the_current_one(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        first, second = put(here, when=1), put(here, "b", when=2)

        assert [first, second] == here.names()
        assert second == here.current()
        assert here.read(second).manifest["label"] == "b"
    assert artifact.workloads(str(volume)) == [WORKLOAD]


def test_names_sort_by_their_time_also_within_a_second() -> None:
    times = [1e9 + n / 100 for n in range(300)]

    found = [name(one) for one in times]
    assert sorted(found) == found


def test_what_is_not_published_leaves_nothing(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        first = put(here)
        with pytest.raises(OSError), here.stage(name()) as stage:
            stage.commit("half", "x")
            raise OSError
        assert here.names() == [first] and here.current() == first
    assert not [one for one in os.listdir(top(volume)) if one.startswith("tmp-")]


def test_everything_is_for_the_owner_only(volume: Path) -> None:
    os.umask(0o022)
    with shelf(str(volume), WORKLOAD, b"secret", make=True) as here:
        put(here)
        here.note(what="dump", state="done")
    for path in (volume / ".workspace-agent/checkpoints").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o702])
def test_a_folder_that_others_reach_is_refused(mode: int, volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        put(here)
    top(volume).chmod(mode)
    with (
        pytest.raises(AgentError, match="others can reach") as caught,
        shelf(str(volume), WORKLOAD),
    ):
        pass
    assert caught.value.problem.slug == "checkpoint.not-private"


def test_only_what_the_secret_has_signed_is_read(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, b"one", make=True) as here:
        version = put(here)
        assert here.read(version).name == version
    with shelf(str(volume), WORKLOAD, b"other") as here, pytest.raises(AgentError) as caught:
        here.read(version)
    assert caught.value.problem.slug == "checkpoint.unsigned"
    with shelf(str(volume), WORKLOAD) as here:
        unsigned = put(here, when=5)
        assert here.read(version) and here.read(unsigned)
    with shelf(str(volume), WORKLOAD, b"one") as here, pytest.raises(AgentError):
        here.read(unsigned)


def test_an_edited_manifest_is_not_signed_any_more(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, b"one", make=True) as here:
        version = put(here)
        path = top(volume) / f"versions/{version}/MANIFEST.json"
        edited = {**json.loads(path.read_text()), "root": 1001}
        path.write_text(json.dumps(edited))
        with pytest.raises(AgentError) as caught:
            here.read(version)
        assert caught.value.problem.slug == "checkpoint.broken"
        del edited["sum"]
        path.write_bytes(sealed(edited))
        with pytest.raises(AgentError) as caught:
            here.read(version)
    assert caught.value.problem.slug == "checkpoint.unsigned"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", sealed({"schema": 1}).decode(), "\0" * 100,
     sealed({"schema": 1, "id": WORKLOAD, "version": "..", **manifest()}).decode(),
     sealed({"schema": 2, "id": WORKLOAD, "version": name(1), **manifest()}).decode(),
     sealed({"schema": 1, "id": "../../etc", "version": name(1), **manifest()}).decode(),
     sealed({"schema": 1, "id": WORKLOAD, "version": name(1), **manifest(numbers=["a"])}).decode(),
     sealed({"schema": 1, "id": WORKLOAD, "version": name(1),
             **manifest(files={"a": 1})}).decode()],
)  # fmt: skip
def test_what_is_no_manifest_is_none(text: str, volume: Path) -> None:
    assert decoded(text.encode()) is None
    with shelf(str(volume), WORKLOAD, make=True) as here:
        version = put(here)
        (top(volume) / f"versions/{version}/MANIFEST.json").write_text(text)
        with pytest.raises(AgentError) as caught:
            here.read(version)
    assert caught.value.problem.slug == "checkpoint.broken"


def test_a_version_under_another_ones_name_is_refused(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        first, second = put(here, when=1), put(here, when=2)
        versions = top(volume) / "versions"
        (versions / first).rename(versions / "aside")
        (versions / second).rename(versions / first)
        with pytest.raises(AgentError, match="cannot be used"):
            here.read(first)


@pytest.mark.parametrize("text", ["../../../etc", "", "x", "a/b", "20260101T000000Z-ABCDEF"])
def test_a_hostile_current_leads_nowhere(text: str, volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        put(here)
        (top(volume) / "current").write_text(text)
        with pytest.raises(AgentError) as caught:
            here.read(here.current())
        assert caught.value.problem.where.endswith("/current")
        (top(volume) / "current").unlink()
        (top(volume) / "current").symlink_to("/etc/passwd")
        assert here.current() == ""


def test_a_planted_link_in_the_place_of_a_version_is_not_followed(
    volume: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with shelf(str(volume), WORKLOAD, make=True) as here:
        version = put(here)
        (top(volume) / f"versions/{version}").rename(elsewhere / version)
        (top(volume) / f"versions/{version}").symlink_to(elsewhere / version)
        with pytest.raises(AgentError):
            here.read(version)
        here.remove(version)
    assert (elsewhere / version / "MANIFEST.json").exists()


def test_the_current_version_and_the_newest_stay(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        names = [put(here, when=n) for n in range(5)]
        here.choose(names[0])

        assert here.prune(2, dry_run=True) == names[1:4]
        assert here.names() == names
        assert here.prune(2) == names[1:4]
        assert here.names() == [names[0], names[4]]


def test_a_version_that_somebody_restores_stays(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        names = [put(here, when=n) for n in range(4)]

        assert here.prune(1, busy={names[1]}) == [names[0], names[2]]


def test_more_bytes_than_there_may_be_cost_the_oldest(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        names = [put(here, size=100, when=n) for n in range(4)]

        assert here.prune(10, 250) == names[:2]
        assert here.prune(10, 1) == names[2:3]


def test_a_stage_that_a_dead_pod_left_is_swept(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        for one, age in (("old", 10_000), ("new", 0)):
            path = top(volume) / f"tmp-{one}"
            (path / "criu").mkdir(parents=True)
            (path / "criu/pages-1.img").touch()
            then = path.stat().st_mtime - age
            for each in (path / "criu/pages-1.img", path / "criu", path):
                os.utime(each, (then, then))

        assert here.prune(2) == ["tmp-old"]


def test_the_ledger_passes_over_what_is_torn(volume: Path) -> None:
    with shelf(str(volume), WORKLOAD, make=True) as here:
        here.note(what="restore", state="claimed")
        with (top(volume) / "attempts.jsonl").open("a") as out:
            out.write('{"what": "rest\n\0\0\n[1]\n')
        here.note(what="restore", state="done")

        assert [one["state"] for one in here.ledger()] == ["claimed", "done"]
