"""What a boot knows before its first step."""

from __future__ import annotations

import os

import pytest

from workspace_agent.app import facts as facts_module
from workspace_agent.app.facts import gather
from workspace_agent.config.schema import Profile
from workspace_agent.steps.volume import Choice

MOUNTS = {"/": ("overlay", "overlay", False), "/workspace": ("nfs4", "server:/", False)}


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> object:
    text = f"me:x:{os.geteuid()}:0::/entry/home:/bin/sh\n"
    monkeypatch.setattr(facts_module.passwd, "read", lambda *_: text)

    def act(environ: dict[str, str], *, container: bool = True, **more: object) -> object:
        env = {"PATH": "/nowhere", **environ}
        usual = {"root": "/opt/workspace-agent", "runtime": "/run/workspace-agent"}
        return gather(Profile(), env, MOUNTS, container=container, **usual, **more)

    return act


@pytest.mark.parametrize(
    ("container", "wish", "system"),
    [
        (True, "", True),
        (True, "0", False),
        (True, "1", True),
        (False, "", False),
        (False, "0", False),
        (False, "1", True),
        (False, "yes", False),
    ],
)
def test_etc_is_ours_in_a_container_or_where_somebody_says_so(
    container: bool, wish: str, system: bool, gathered: object
) -> None:
    environ = {"WORKSPACE_AGENT_SYSTEM": wish} if wish else {}

    assert system is gathered(environ, container=container).system


@pytest.mark.parametrize(
    ("environ", "home"), [({"HOME": "/root"}, "/root"), ({}, "/entry/home"), ({"HOME": ""}, "")]
)
def test_home_is_the_variable_and_without_it_the_entry(
    environ: dict[str, str], home: str, gathered: object
) -> None:
    assert home == gathered(environ).image_home


def test_the_volume_is_the_mount_and_a_given_one_goes_first(gathered: object) -> None:
    assert Choice("/workspace", True, "nfs4") == gathered({}).volume
    assert Choice("/x", True, "y") == gathered({}, volume=Choice("/x", True, "y")).volume
    assert "/workspace/team" == gathered({"WORKSPACE_VOLUME": "/workspace/team"}).volume.path


def test_each_boot_has_an_id_of_its_own(gathered: object) -> None:
    ids = {gathered({}).boot_id for _ in range(20)}

    assert 20 == len(ids)
    assert {12} == {len(one) for one in ids}


def test_placeholders_are_filled_also_that_of_the_home(gathered: object) -> None:
    found = gathered({})
    text = found.fill(Profile(), "{volume}|{home}|{profile}|{abi}|{{volume}}")

    expected = f"/workspace|/workspace/home|persistent-workspace|{found.python.abi}|{{volume}}"
    assert expected == text
