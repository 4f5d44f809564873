"""The surfaces of a boot: what they say, who may read them, and what is never in them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from workspace_agent.app import records
from workspace_agent.app.boot import run
from workspace_agent.app.recipes import recipe_for
from workspace_agent.config.schema import Profile, ReportSection
from workspace_agent.model.outcome import Report, Row, Status
from workspace_agent.model.problem import Problem
from workspace_agent.steps.shell import EnvFiles, ShellHooks, hooks

CANARY = "canary-d0c1e5"
UUID = "0b0e5e7e-3b3c-4d3e-8f3a-1c1d1e1f2021"
TROUBLE = Problem("volume.full", "the volume is full", "0 B free", "delete something", "/volume")
SEEDED = Report((Row("home.seed", Status.CHANGED, "seeded", 0.5),), 0.5)
WARM = Report((Row("home.seed", Status.OK, "seeded", 0.001),), 0.001)


@pytest.fixture
def here(root: Path, facts: Callable, plant: Callable) -> object:
    """Return the facts of a boot below *root*."""
    plant(root, {"run/": None, "volume/.workspace-agent/": None, "image/": None})
    environ = {"HF_TOKEN": CANARY, "HF_HOME": "/cache", "PATH": "/bin", "HOME": "/root"}
    return facts(root, environ=environ)


def recipe(here: object) -> dict[str, object]:
    return recipe_for(Profile(), here, Report())[0]


def test_status_json_says_how_the_boot_went(root: Path, here: object) -> None:
    records.write(here, Profile(), replace(SEEDED, notes=(TROUBLE,)), recipe(here))
    found = json.loads((root / "run/status.json").read_text())
    at = found.pop("at")

    assert 20 == len(at)
    assert {
        "schema": 1,
        "status": "degraded",
        "path": "engine",
        "agent": "26.1",
        "boot_id": "b00t",
        "profile": "persistent-workspace",
        "volume": f"{root}/volume",
        "survives": True,
        "volume_uuid": "",
        "home": f"{root}/volume/home",
        "secs": 0.5,
        "steps": [SEEDED.rows[0].to_json()],
        "problems": [TROUBLE.to_json()],
    } == found


@pytest.mark.parametrize(
    ("status", "uuid"), [(Status.OK, UUID), (Status.CHANGED, UUID), (Status.BLOCKED, "")]
)
def test_status_json_names_the_volume_unless_that_is_in_trouble(
    root: Path, here: object, status: Status, uuid: str
) -> None:
    text = f'{{"format": 1, "uuid": "{UUID}"}}\n'
    (root / "volume/.workspace-agent/volume.json").write_text(text)
    records.write(here, Profile(), Report((Row("volume.ready", status),)), recipe(here))

    assert uuid == json.loads((root / "run/status.json").read_text())["volume_uuid"]


def test_the_banner_is_there_when_something_is_wrong_and_gone_when_nothing_is(
    root: Path, here: object
) -> None:
    banner = root / "run/banner"
    records.write(here, Profile(), replace(WARM, notes=(TROUBLE,)), recipe(here))
    first = banner.read_text()
    records.write(here, Profile(), WARM, recipe(here))

    assert "! the volume is full\n  fix: delete something\n" in first
    assert not banner.exists()


def test_a_step_that_was_done_again_is_degraded_no_more(root: Path, here: object) -> None:
    why = Problem("replay.build-failed", "no package", "no such one", "mend it")
    failed = Row("replay", Status.FAILED, "no package", problem=why)
    mended = Row("replay", Status.CHANGED, "environment 1234")
    told = []
    for boot in (Report((*WARM.rows, failed)), Report((*WARM.rows, failed), notes=(TROUBLE,))):
        records.write(here, Profile(), boot, recipe(here))
        for row in (mended, failed):
            booted = json.loads((root / "run/status.json").read_text())
            records.amend(f"{root}/run", Profile(), booted, row)
            found = json.loads((root / "run/status.json").read_text())
            assert row.to_json() == found["steps"][1]
            banner = (root / "run/banner").exists()
            told.append((found["status"], len(found["problems"]), banner))

    assert [
        ("ok", 0, False),
        ("degraded", 1, True),
        ("degraded", 1, True),
        ("degraded", 2, True),
    ] == told


def test_no_banner_where_the_profile_wants_none(root: Path, here: object) -> None:
    quiet = replace(Profile(), report=replace(ReportSection(), banner=False))
    records.write(here, quiet, replace(WARM, notes=(TROUBLE,)), recipe(here))

    assert not (root / "run/banner").exists()


def test_a_boot_without_a_runtime_folder_writes_nothing(
    root: Path, here: object, fated: Callable
) -> None:
    with fated() as fate:
        records.write(replace(here, runtime=""), Profile(), WARM, recipe(here))

    assert fate.seen == 0


def test_a_runtime_folder_that_refuses_does_not_end_the_boot(here: object, fated: Callable) -> None:
    for k in (1, 2, 3):
        with fated(at=k, refuse=28):
            records.write(here, Profile(), replace(WARM, notes=(TROUBLE,)), recipe(here))


def test_a_boot_that_changed_something_is_kept_on_the_volume(root: Path, here: object) -> None:
    records.keep(here, Profile(), SEEDED)
    folder = root / "volume/.workspace-agent/boots"
    (name,) = os.listdir(folder)

    assert name.endswith("Z-b00t.json")
    assert (0o700, 0o600) == (
        stat.S_IMODE(os.stat(folder).st_mode),
        stat.S_IMODE(os.stat(folder / name).st_mode),
    )
    assert {"secs", "steps", "problems"} == set(json.loads((folder / name).read_text()))


@pytest.mark.parametrize(
    "report",
    [
        WARM,
        Report((Row("env.files", Status.CHANGED),)),
        Report((Row("home.seed", Status.BLOCKED, problem=TROUBLE),)),
    ],
)
def test_a_boot_that_changed_nothing_there_writes_nothing_there(
    report: Report, here: object, fated: Callable
) -> None:
    with fated() as fate:
        records.keep(here, Profile(), report)

    assert fate.seen == 0


def test_only_as_many_are_kept_as_the_profile_says(
    root: Path, here: object, plant: Callable
) -> None:
    old = {f"2020010{n}T000000Z-x.json": "{}" for n in range(1, 6)}
    folder = plant(root / "volume/.workspace-agent/boots", old)
    three = replace(Profile(), report=replace(ReportSection(), history=3))
    records.keep(here, three, SEEDED)

    left = sorted(os.listdir(folder))
    assert ["20200104T000000Z-x.json", "20200105T000000Z-x.json"] == left[:2]
    assert 3 == len(left)


def test_no_history_is_kept_where_the_profile_wants_none(here: object, fated: Callable) -> None:
    none = replace(Profile(), report=replace(ReportSection(), history=0))
    with fated() as fate:
        records.keep(here, none, SEEDED)

    assert fate.seen == 0


def test_a_history_that_cannot_be_written_does_not_end_the_boot(
    here: object, fated: Callable
) -> None:
    for k in range(1, 6):
        with fated(at=k, refuse=28):
            records.keep(here, Profile(), SEEDED)


def test_no_secret_is_in_any_file_but_those_that_only_the_owner_reads(
    root: Path, here: object, plant: Callable
) -> None:
    etc = plant(root / "etc", {
        "profile.d/": None, "bash.bashrc": "", "environment": "", "zsh/": None, "sudoers.d/": None,
        "fish/conf.d/": None, "ssh/sshd_config.d/": None,
    })  # fmt: skip
    made = recipe(here)
    steps = [
        EnvFiles(here.runtime, made, here.environ),
        ShellHooks(hooks(made, here.environ, here.runtime, etc=str(etc))),
    ]
    report = run(steps, Report(notes=(TROUBLE,)))
    records.write(here, Profile(), report, made)
    records.keep(here, Profile(), replace(report, rows=(*report.rows, *SEEDED.rows)))
    holders = {}
    for folder, _, names in os.walk(str(root)):
        for path in (f"{folder}/{name}" for name in names):
            with open(path, "rb") as handle:
                if CANARY.encode() in handle.read():
                    holders[os.path.relpath(path, str(root))] = stat.S_IMODE(os.stat(path).st_mode)

    assert [Status.CHANGED] * 2 == [row.status for row in report.rows]
    names = ("environ", "secrets.fish", "secrets.sh")
    assert {f"run/{name}": 0o600 for name in names} == holders
