"""From what a boot achieved to the environment of the workload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from workspace_agent.app.recipes import recipe_for
from workspace_agent.config.schema import EnvSection, HomeSection, PathSection, Profile
from workspace_agent.model.outcome import Report, Row, Status


@pytest.fixture
def here(tmp_path: Path, facts: Callable) -> object:
    return facts(tmp_path)


@pytest.fixture
def volume(tmp_path: Path) -> str:
    return f"{tmp_path}/volume"


def test_a_whole_boot_leads_everything_to_the_volume(here: object, volume: str) -> None:
    recipe, left_out = recipe_for(Profile(), here, Report())

    assert () == left_out
    assert {
        "set": {"WORKSPACE_VOLUME": volume, "WORKSPACE_AGENT_RUNTIME": here.runtime},
        "default": {},
        "prepend": {
            "PATH": [f"{volume}/bin"],
            "PYTHONPATH": [f"{volume}/pip-packages/cp311-x86_64"],
        },
        "python": [f"{volume}/pip-packages/cp311-x86_64"],
        "home": f"{volume}/home",
        "image_home": here.image_home,
        "allow": ["HF_*", "NCCL_*", "CUDA_*", "RUNPOD_*"],
        "secret": ["*TOKEN*", "*KEY*", "*SECRET*", "*PASSWORD*"],
    } == recipe


@pytest.mark.parametrize("status", [Status.BLOCKED, Status.FAILED])
def test_without_a_usable_volume_nothing_leads_there(
    status: Status, here: object, volume: str
) -> None:
    profile = replace(Profile(), env=EnvSection(set={"HF_HOME": "{volume}/hf"}))
    recipe, _ = recipe_for(profile, here, Report((Row("volume.ready", status),)))

    assert ({}, "") == (recipe["prepend"], recipe["home"])
    assert volume not in str({**recipe, "image_home": ""})
    assert ["HF_*", "NCCL_*", "CUDA_*", "RUNPOD_*"] == recipe["allow"]


@pytest.mark.parametrize(
    ("row", "moved"),
    [
        (Row("home.seed", Status.OK), True),
        (Row("home.seed", Status.CHANGED), True),
        (Row("home.seed", Status.WOULD_CHANGE), True),
        (Row("home.seed", Status.FAILED), False),
        (Row("home.seed", Status.BLOCKED), False),
        (Row("home.seed", Status.SKIPPED, "needs volume.ready"), False),
        (Row("home.use", Status.FAILED), True),
    ],
)
def test_home_moves_only_when_the_home_is_whole(
    row: Row, moved: bool, here: object, volume: str
) -> None:
    recipe, _ = recipe_for(Profile(), here, Report((row,)))

    assert (f"{volume}/home" if moved else "") == recipe["home"]
    assert [f"{volume}/bin"] == recipe["prepend"]["PATH"]


@pytest.mark.parametrize(
    ("mode", "moved"),
    [("auto", True), ("redirect", True), ("bind", False), ("links", False), ("copy", False),
     ("off", False)],
)  # fmt: skip
def test_home_moves_in_the_modes_that_say_so(mode: str, moved: bool, here: object) -> None:
    profile = replace(Profile(), home=replace(HomeSection(), mode=mode))

    assert moved is bool(recipe_for(profile, here, Report())[0]["home"])


def test_packages_that_shadow_the_library_stay_out_of_pythonpath_with_a_problem(
    here: object, volume: str, plant: Callable
) -> None:
    plant(Path(volume) / "bad", {"typing.py": ""})
    profile = replace(Profile(), path=replace(PathSection(), python=("{volume}/bad", "/clean")))
    recipe, left_out = recipe_for(profile, here, Report())

    assert ["/clean"] == recipe["prepend"]["PYTHONPATH"]
    assert ["python.shadows-stdlib"] == [problem.slug for problem in left_out]


@pytest.mark.parametrize(
    "path", [PathSection(pythonpath=False), PathSection(python=())], ids=["off", "none"]
)
def test_pythonpath_is_not_there_where_nothing_stands_in_it(
    path: PathSection, here: object
) -> None:
    recipe, _ = recipe_for(replace(Profile(), path=path), here, Report())

    assert "PYTHONPATH" not in recipe["prepend"]


def test_placeholders_are_filled_in_the_variables(here: object, volume: str) -> None:
    env = EnvSection(set={"HF_HOME": "{volume}/hf"}, default={"A": "{home}/{profile}/{abi}"})
    recipe, _ = recipe_for(replace(Profile(), env=env), here, Report())

    assert f"{volume}/hf" == recipe["set"]["HF_HOME"]
    assert {"A": f"{volume}/home/persistent-workspace/cp311-x86_64"} == recipe["default"]


def test_the_runtime_folder_is_named_only_where_it_is_not_the_usual_one(
    tmp_path: Path, facts: Callable
) -> None:
    runtimes = ("/run/workspace-agent", "", "/tmp/mine")
    found = [
        recipe_for(Profile(), facts(tmp_path, runtime=runtime), Report())[0]["set"]
        for runtime in runtimes
    ]

    assert [None, None, "/tmp/mine"] == [one.get("WORKSPACE_AGENT_RUNTIME") for one in found]


def test_a_user_without_a_passwd_entry_gets_a_name(tmp_path: Path, facts: Callable) -> None:
    recipe, _ = recipe_for(Profile(), facts(tmp_path, uid=4711, user=""), Report())

    assert {"USER": "user-4711", "LOGNAME": "user-4711"} == recipe["default"]
