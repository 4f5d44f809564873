"""Safe mode: two deaths in a row, one careful boot, and then everything again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from workspace_agent.app import attempts
from workspace_agent.app.boot import script_steps, workspace_steps
from workspace_agent.app.engine import Opening, open_boot, perform
from workspace_agent.config.schema import Profile


@pytest.fixture
def where(tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.fixture
def count(tmp_path: Path) -> Path:
    return tmp_path / "attempts"


def boot(where: str, *steps: str, dies: bool = False, idle: bool = False) -> None:
    log = attempts.Log(lambda: "" if idle else where)
    tell = log.before(lambda _: None)
    for step in steps:
        tell(f"apply {step}")
    if not dies:
        log.done()


def test_two_deaths_are_safe_mode_and_one_is_not(where: str) -> None:
    modes = [attempts.safe_mode(where)]
    for _ in range(2):
        boot(where, "scripts", dies=True)
        modes.append(attempts.safe_mode(where))

    assert [False, False, True] == modes


def test_a_boot_that_comes_through_forgets_the_deaths(where: str, count: Path) -> None:
    boot(where, "scripts", dies=True)
    boot(where, "scripts")

    assert not attempts.safe_mode(where)
    assert not count.exists()


def test_the_careful_boot_forgets_them_too_though_it_runs_nothing_risky(
    where: str, count: Path
) -> None:
    for _ in range(2):
        boot(where, "home.seed", dies=True)
    boot(where, "volume.ready")

    assert not count.exists()


def test_a_boot_in_which_nothing_risky_ran_writes_nothing(
    where: str, count: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    monkeypatch.setattr("workspace_agent.host.files.commit", lambda *a, **_: written.append(a))
    boot(where, "volume.ready", "env.files", "shell.hooks", dies=True)

    assert ([], False) == (written, count.exists())


def test_a_boot_counts_once_however_many_risky_steps_it_has(where: str, count: Path) -> None:
    boot(where, "home.seed", "scripts", dies=True)

    assert "1\n" == count.read_text()


def test_the_count_is_durable_before_the_step_works(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    boot(where, "scripts", dies=True)

    assert 2 == len(synced)


@pytest.mark.parametrize("idle", [True, False])
def test_a_dry_run_counts_nothing_and_forgets_nothing(idle: bool, where: str, count: Path) -> None:
    count.write_text("1\n")
    boot(where, "scripts", idle=idle)

    assert idle is count.exists()


@pytest.mark.parametrize("text", ["", "x", "-3", "2x", "99999999999999999999", "\0"])
def test_a_count_that_cannot_be_read_is_no_count(text: str, where: str, count: Path) -> None:
    count.write_text(text)

    assert not attempts.safe_mode(where)


def test_a_volume_that_takes_no_count_does_not_end_the_boot(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workspace_agent.host.files.commit", refuse)
    boot(where, "scripts", dies=True)

    assert not attempts.safe_mode(where)


def test_without_a_folder_nothing_is_counted() -> None:
    boot("", "scripts", dies=True)

    assert not os.path.exists("/attempts")


def test_attempts_are_counted_on_the_volume_and_until_that_is_made_in_the_runtime_folder(
    tmp_path: Path, facts: Callable
) -> None:
    here = facts(tmp_path)
    before = attempts.folder(here)
    (tmp_path / "volume/.workspace-agent").mkdir(parents=True)

    assert (f"{tmp_path}/run", f"{tmp_path}/volume/.workspace-agent") == (
        before,
        attempts.folder(here),
    )


def test_a_safe_boot_has_no_scripts_and_no_home(tmp_path: Path, facts: Callable) -> None:
    careful = attempts.safe(Profile())
    here = facts(tmp_path)
    steps = (*workspace_steps(careful, here), *script_steps(careful, here, {}))

    assert ["volume.ready"] == [step.name for step in steps]


def test_a_safe_boot_does_not_read_the_volumes_profile(tmp_path: Path, plant: Callable) -> None:
    plant(tmp_path / "volume/.workspace-agent", {
        "attempts": "2\n", "profile.toml": "[env]\nA = '1'\n",
    })  # fmt: skip
    plant(tmp_path / "run", {})
    opening = opened(tmp_path)

    assert ["boot.safe-mode"] == [note.slug for note in opening.notes]
    assert {} == opening.profile.env.set
    assert ("off", False) == (opening.profile.home.mode, opening.profile.scripts.enabled)


def test_after_the_safe_boot_everything_is_tried_again(tmp_path: Path, plant: Callable) -> None:
    plant(tmp_path, {"volume/.workspace-agent/attempts": "2\n", "run/": None, "home/.profile": ""})
    first, _ = perform(opened(tmp_path))
    second, _ = perform(opened(tmp_path))

    assert ["boot.safe-mode"] == [problem.slug for problem in first.problems]
    assert "home.seed" not in [row.name for row in first.rows]
    assert () == second.problems
    assert "home.seed" in [row.name for row in second.rows]


def opened(at: Path) -> Opening:
    environ = {
        "HOME": f"{at}/home",
        "PATH": "/nowhere",
        "WORKSPACE_VOLUME": f"{at}/volume",
        "WORKSPACE_AGENT_SYSTEM": "0",
    }
    return open_boot(environ, {}, root=f"{at}/install", runtime=f"{at}/run", container=False)


def test_the_profile_is_otherwise_the_same() -> None:
    careful = attempts.safe(Profile())

    assert Profile() == replace(careful, home=Profile().home, scripts=Profile().scripts)
