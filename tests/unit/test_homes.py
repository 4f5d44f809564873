"""Where a home's upgrade stands in a boot: beside the workload, before the stamp."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from workspace_agent import consult
from workspace_agent.app import engine, homes
from workspace_agent.app.boot import workspace_steps
from workspace_agent.app.engine import Opening
from workspace_agent.app.perform import Performance
from workspace_agent.config.schema import HomeSection, Profile
from workspace_agent.host import asking
from workspace_agent.model.outcome import Report
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.steps.upgrade import HomeUpgrade

TROUBLE = Problem("volume.not-responding", "it hangs")


@pytest.fixture
def opening(facts: Callable, tmp_path: Path, plant: Callable) -> Callable[..., Opening]:
    """Return `opening(trouble, **keys)`: a boot with these keys of [home], and a home made."""
    plant(tmp_path / "volume/home", {".packet-init": ""})

    def make(trouble: Problem | None = None, **keys: str) -> Opening:
        return Opening(Profile(home=HomeSection(**keys)), facts(tmp_path), trouble)

    return make


@pytest.mark.parametrize(
    ("settled", "trouble", "order"),
    [
        (True, None, ["go", "settle", "stamp"]),
        (False, None, ["go", "settle"]),
        (True, TROUBLE, ["go"]),
    ],
)
def test_no_boot_takes_the_fast_path_before_the_base_is_there(
    opening: Callable,
    monkeypatch: pytest.MonkeyPatch,
    settled: bool,
    trouble: Problem | None,
    order: list[str],
) -> None:
    heard: list[str] = []
    here = opening(trouble)
    monkeypatch.setattr(engine, "open_boot", lambda *_, **__: here)
    done = SimpleNamespace(all=Report, recipe={}, packages=None, restored=0)
    monkeypatch.setattr(engine, "Performance", lambda *_, **__: done)
    monkeypatch.setattr(engine, "_answer", lambda *_: {})
    monkeypatch.setattr(engine, "_beside", lambda *_: None)
    monkeypatch.setattr(engine.records, "write", lambda *_: None)
    monkeypatch.setattr(engine.records, "keep", lambda *_: None)
    monkeypatch.setattr(engine.plans, "stamp", lambda *_: heard.append("stamp"))
    monkeypatch.setattr(os, "nice", lambda _: None)
    monkeypatch.setattr(homes, "settle", lambda *_: heard.append("settle") or settled)
    boot = SimpleNamespace(
        environ={"WORKSPACE_AGENT_QUIET": "1"}, mounts={}, root="", runtime="",
        container=True, began=0.0, say=lambda _: None,
    )  # fmt: skip
    engine.work(boot, None, lambda kind, *_: heard.append(kind))

    assert order == [one for one in heard if one != consult.ALIVE]


@pytest.mark.parametrize(
    ("keys", "error", "wanted"),
    [
        ({}, OSError(28, "no space"), False),
        ({}, AgentError(TROUBLE), True),
        ({"mode": "copy"}, OSError(), True),
        ({"mode": "links"}, OSError(), True),
        ({"mode": "off"}, OSError(), True),
    ],
)
def test_what_cannot_be_settled_later_either_holds_no_stamp_up(
    opening: Callable,
    monkeypatch: pytest.MonkeyPatch,
    keys: dict[str, str],
    error: Exception,
    wanted: bool,
) -> None:
    def refused(*_: object, **__: object) -> bool:
        raise error

    monkeypatch.setattr(HomeUpgrade, "settle", refused)

    assert wanted is homes.settle(opening(**keys))


@pytest.mark.parametrize("mode", ["redirect", "copy", "links"])
def test_what_a_killed_boot_left_is_removed_in_every_mode(
    opening: Callable, tmp_path: Path, plant: Callable, mode: str
) -> None:
    plant(tmp_path / "image", {".bashrc": "x"})
    left = plant(tmp_path / "volume/.workspace-agent", {"stage-dead/tree/x": "x"})
    homes.settle(opening(mode=mode))

    assert {"lease.1"} == set(os.listdir(left)) - {"defaults"}


def test_a_volume_that_fails_beside_the_workload_is_left_to_a_later_boot(
    opening: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: object) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("workspace_agent.steps.home.HomeSeed.is_made", lost)

    assert not homes.settle(opening())


def test_off_means_no_report(opening: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = []
    monkeypatch.setattr(HomeUpgrade, "settle", lambda _, *, report: wishes.append(report))
    for upgrade in ("off", "report", "unmodified"):
        homes.settle(opening(upgrade=upgrade))

    assert [False, True, True] == wishes


def test_an_image_that_a_mount_has_hidden_is_read_through_what_was_open_before(
    opening: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(HomeUpgrade, "settle", lambda step, **_: read.append(step.seed.source))
    homes.settle(opening(mode="bind"), 7)

    assert ["/proc/self/fd/7"] == read


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({}, ["volume.ready", "home.seed"]),
        ({"upgrade": "unmodified"}, ["volume.ready", "home.seed", "home.upgrade"]),
        ({"upgrade": "unmodified", "mode": "off"}, ["volume.ready"]),
    ],
)
def test_the_step_is_in_the_list_where_it_is_wanted(
    opening: Callable, keys: dict[str, str], names: list[str]
) -> None:
    here = opening(**keys)

    assert names == [step.name for step in workspace_steps(here.profile, here.facts)]


def test_a_long_look_at_the_images_defaults_is_heard_of(
    opening: Callable, tmp_path: Path, plant: Callable
) -> None:
    """PID 1 takes a boot that says nothing for hung."""
    plant(tmp_path / "image", {".bashrc": "x"})
    plant(tmp_path / "volume/.workspace-agent", {})
    here, heard = opening(upgrade="unmodified"), []
    only = ("volume.ready", "home.upgrade")
    Performance(here, tell=heard.append, keep=lambda name: name in only).all()

    assert "looking at the image's defaults" in heard
    assert "apply home.upgrade" not in heard


def test_no_verb_waits_for_a_hung_volume() -> None:
    never = threading.Event()

    assert "an answer" == asking.in_time(lambda: "an answer", 60)
    assert asking.in_time(lambda: str(never.wait()), 0.01) is None
    never.set()
