"""Environments in a container: whole and in use, or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.replay.mark import Mark
from workspace_agent.replay.place import Place, find

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def made(root: Path, *keys: str) -> Place:
    place = Place(f"{root}/place")
    for key in keys:
        place.clear(key)
        place.commit(Mark(key, {"a": "1"}, ("said",)))
    return place


def test_an_environment_counts_from_its_mark_on(root: Path) -> None:
    place = made(root, KEY)
    assert Mark(KEY, {"a": "1"}, ("said",)) == place.mark(KEY)
    place.clear(KEY)
    assert place.mark(KEY) is None
    assert [] == os.listdir(place.at(KEY))


@pytest.mark.parametrize(
    "text",
    ["", "3", "[]", "null", "{", '{"key": "x"}', "\udcff",
     json.dumps({"key": OTHER, "dists": {}, "said": [], "removed": []}),
     json.dumps({"key": KEY, "dists": {}, "said": 3, "removed": []}),
     json.dumps({"key": KEY, "dists": {}, "said": [], "removed": [], "what": 1})],
)  # fmt: skip
def test_a_mark_that_is_none_is_none(root: Path, text: str) -> None:
    place = made(root, KEY)
    path = Path(place.at(KEY)) / ".workspace-agent.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert place.mark(KEY) is None


def test_programs_see_one_environment_or_the_other_wherever_a_boot_died(
    root: Path, killed: Callable
) -> None:
    place = made(root, KEY, OTHER)
    at = 0
    while True:
        at += 1
        place.use(KEY)
        fate = killed(at, lambda: place.use(OTHER))
        assert place.used() in (KEY, OTHER)
        assert os.path.isdir(place.env)
        if not fate.struck:
            break
    assert (at > 2, OTHER) == (True, place.used())


@pytest.mark.parametrize("text", ["", "[]", "3", "{"])
def test_a_baseline_that_nobody_can_read_is_made_anew(root: Path, text: str) -> None:
    place = made(root, KEY)
    (root / "place/baseline.json").write_text(text)
    assert place.baseline() is None
    place.keep_baseline({"a": "1"})
    assert {"a": "1"} == place.baseline()


@pytest.mark.parametrize("planted", [None, "a file", Path("/nowhere")])
def test_a_place_that_is_not_ours_is_not_taken(
    tmp_path: Path, planted: object, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /var/tmp anybody may have made the name first."""
    plant(tmp_path, {"taken": planted})
    monkeypatch.setattr("workspace_agent.replay.place.layout.ENVIRONMENTS", f"{tmp_path}/taken")
    found = find({}, 0, True, "/run/x").top
    assert (found == f"{tmp_path}/taken") is (planted is None and os.getuid() == 0)
    assert "/elsewhere" == find({"WORKSPACE_AGENT_ENVS": "/elsewhere"}, 0, True, "/run/x").top
    assert "/run/x/python" == find({}, 0, False, "/run/x").top
