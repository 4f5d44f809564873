"""Safe mode: two deaths, one careful boot, and then everything again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import count as numbers
from pathlib import Path

import pytest

from workspace_agent.app import attempts
from workspace_agent.app.boot import script_steps, workspace_steps
from workspace_agent.app.engine import Opening, open_boot
from workspace_agent.app.perform import Performance
from workspace_agent.config.schema import Profile
from workspace_agent.host.alive import Sign

NAMES = numbers()


@pytest.fixture
def where(tmp_path: Path) -> str:
    return str(tmp_path / "attempts")


def log(where: str, *steps: str) -> attempts.Log:
    """Begin a boot in which *steps* are applied."""
    begun = attempts.Log(lambda: where, f"boot{next(NAMES)}")
    tell = begun.before(lambda _: None)
    for step in steps:
        tell(f"apply {step}")
    return begun


def gone() -> str:
    """Return the sign of a process of this pod that has ended."""
    sign = Sign()
    sign.end()
    return sign.text


def death(where: str, text: str = "") -> None:
    """Leave the attempt of a boot that is gone."""
    text = text or gone()
    os.makedirs(where, exist_ok=True)
    Path(where, f"boot{next(NAMES)}").write_text(text)


def kept(where: str) -> int:
    return len(os.listdir(where)) if os.path.isdir(where) else 0


def test_two_deaths_are_safe_mode_and_one_is_not(where: str) -> None:
    modes = [attempts.safe_mode(where)]
    for _ in range(2):
        death(where)
        modes.append(attempts.safe_mode(where))

    assert [False, False, True] == modes


def test_boots_that_live_are_no_deaths_however_many(where: str) -> None:
    living = [log(where, "scripts") for _ in range(5)]
    for name in os.listdir(where):
        os.utime(f"{where}/{name}", (0, 0))  # a script that runs for hours and says nothing

    assert (5, False) == (kept(where), attempts.safe_mode(where))
    assert len(living) == 5


def test_a_boot_whose_process_has_ended_is_dead_at_once(where: str) -> None:
    for _ in range(2):
        log(where, "scripts")  # and nobody holds on to it

    assert (2, True) == (kept(where), attempts.safe_mode(where))


def test_a_boot_of_another_host_is_dead_when_it_has_long_been_silent(where: str) -> None:
    for text in ("elsewhere 1 5\n", "- - 1234\n"):  # of an older agent; of one without sockets
        death(where, text)
    fresh = attempts.safe_mode(where)
    for name in os.listdir(where):
        os.utime(f"{where}/{name}", (0, 0))

    assert (False, True) == (fresh, attempts.safe_mode(where))


def test_a_boot_that_comes_through_forgets_the_deaths_and_leaves_the_living(where: str) -> None:
    death(where)
    living = log(where, "scripts")
    log(where, "home.seed").done()
    left = kept(where)
    living.done()

    assert (1, False) == (left, os.path.exists(where))


def test_the_careful_boot_forgets_them_too_though_it_runs_nothing_risky(where: str) -> None:
    for _ in range(2):
        death(where)
    log(where, "volume.ready").done()

    assert not os.path.exists(where)


def test_a_boot_that_was_stopped_is_no_death(where: str) -> None:
    log(where, "scripts").dropped()

    assert 0 == kept(where)


def test_a_boot_in_which_nothing_risky_ran_writes_nothing(where: str) -> None:
    log(where, "volume.ready", "env.files", "shell.hooks")

    assert not os.path.exists(where)


def test_a_boot_counts_once_however_many_risky_steps_it_has(where: str) -> None:
    log(where, "home.seed", "scripts")

    assert 1 == kept(where)


def test_the_attempt_is_durable_before_the_step_works(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    log(where, "scripts")

    assert 2 == len(synced)


@pytest.mark.parametrize("text", [" ", "x", "a b", "a b c d", "\0"])
def test_what_is_no_attempt_of_ours_is_no_death(text: str, where: str) -> None:
    for _ in range(3):
        death(where, text)
    for name in os.listdir(where):
        os.utime(f"{where}/{name}", (0, 0))

    assert not attempts.safe_mode(where)


def test_a_volume_that_takes_no_attempt_does_not_end_the_boot(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    log(where, "scripts").done()

    assert not attempts.safe_mode(where)


def test_a_planted_link_in_the_place_of_the_attempts_is_not_followed(
    where: str, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", where)
    log(where, "scripts").done()

    assert [] == os.listdir(tmp_path / "elsewhere")


def test_a_planted_link_in_the_place_of_the_state_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/attempts").mkdir(parents=True)
    (tmp_path / "volume").mkdir()
    (tmp_path / "elsewhere/attempts/b").write_text(gone())
    os.symlink(tmp_path / "elsewhere", tmp_path / "volume/.workspace-agent")
    log(f"{tmp_path}/volume/.workspace-agent/attempts", "scripts").done()

    assert ["b"] == os.listdir(tmp_path / "elsewhere/attempts")


def test_without_a_folder_nothing_is_counted() -> None:
    log("", "scripts").done()

    assert not os.path.exists("/attempts")


def test_attempts_are_kept_on_the_volume_and_until_that_is_made_in_the_runtime_folder(
    tmp_path: Path, facts: Callable
) -> None:
    here = facts(tmp_path)
    before = attempts.folder(here)
    (tmp_path / "volume/.workspace-agent").mkdir(parents=True)

    assert (f"{tmp_path}/run/attempts", f"{tmp_path}/volume/.workspace-agent/attempts") == (
        before,
        attempts.folder(here),
    )


def test_a_safe_boot_has_no_scripts_and_no_home(tmp_path: Path, facts: Callable) -> None:
    careful = attempts.safe(Profile())
    here = facts(tmp_path)
    steps = (*workspace_steps(careful, here), *script_steps(careful, here, {}))

    assert ["volume.ready"] == [step.name for step in steps]


def test_a_safe_boot_does_not_read_the_volumes_profile(tmp_path: Path, plant: Callable) -> None:
    dead = gone()
    plant(tmp_path / "volume/.workspace-agent", {
        "attempts/a": dead, "attempts/b": dead, "profile.toml": "[env]\nA = '1'\n",
    })  # fmt: skip
    plant(tmp_path / "run", {})
    opening = opened(tmp_path)

    assert ["boot.safe-mode"] == [note.slug for note in opening.notes]
    assert {} == opening.profile.env.set
    assert ("off", False) == (opening.profile.home.mode, opening.profile.scripts.enabled)


def test_after_the_safe_boot_everything_is_tried_again(tmp_path: Path, plant: Callable) -> None:
    dead = gone()
    folder = "volume/.workspace-agent/attempts"
    plant(tmp_path, {f"{folder}/a": dead, f"{folder}/b": dead, "run/": None, "home/.profile": ""})
    first = Performance(opened(tmp_path)).all()
    second = Performance(opened(tmp_path)).all()

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

    same = {name: getattr(Profile(), name) for name in ("home", "replay", "scripts")}

    assert Profile() == replace(careful, **same)
