"""Links that another tenant planted on the volume lead root nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.app import records
from workspace_agent.app.boot import run
from workspace_agent.config.schema import Profile
from workspace_agent.host import files
from workspace_agent.model.outcome import Report, Row, Status
from workspace_agent.steps.identity import LinkHome
from workspace_agent.steps.shell import ShellHooks, Wanted
from workspace_agent.steps.volume import VolumeReady

CHANGED = Report((Row("home.seed", Status.CHANGED),))


def test_a_state_folder_that_is_a_link_is_refused_and_not_followed(root: Path) -> None:
    volume, elsewhere = root / "volume", root / "elsewhere"
    volume.mkdir()
    elsewhere.mkdir()
    os.symlink(elsewhere, volume / ".workspace-agent")
    state = f"{volume}/.workspace-agent"
    step = VolumeReady(str(volume), "ext4", (f"{volume}/bin",), (state,))
    report = run([step], Report())

    assert ["volume.state-in-the-way"] == [problem.slug for problem in report.problems]
    assert ([], [".workspace-agent"]) == (os.listdir(elsewhere), os.listdir(volume))


def test_a_history_that_is_a_link_is_neither_written_nor_pruned(
    root: Path, facts: Callable
) -> None:
    state, elsewhere = root / "volume/.workspace-agent", root / "elsewhere"
    state.mkdir(parents=True)
    elsewhere.mkdir()
    names = {f"2026010{n}T000000Z-x.json" for n in range(9)}
    for name in names:
        (elsewhere / name).write_text("mine")
    os.symlink(elsewhere, state / "boots")
    records.keep(facts(root), Profile(), CHANGED)

    assert names == set(os.listdir(elsewhere))


def test_a_state_folder_that_became_a_link_gets_no_history(root: Path, facts: Callable) -> None:
    """Between the look at the folder and its use anybody may have swapped it."""
    (root / "elsewhere/boots").mkdir(parents=True)
    (root / "volume").mkdir()
    os.symlink(root / "elsewhere", root / "volume/.workspace-agent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "is_folder", lambda _: True)
        records.keep(facts(root), Profile(), CHANGED)

    assert [] == os.listdir(root / "elsewhere/boots")


def test_what_is_not_a_report_is_not_pruned_with_them(root: Path, facts: Callable) -> None:
    boots = root / "volume/.workspace-agent/boots"
    boots.mkdir(parents=True)
    for n in range(30):
        (boots / f"note-{n:02}").write_text("mine")
    records.keep(facts(root), Profile(), CHANGED)

    assert 31 == len(os.listdir(boots))


def test_a_start_up_file_that_is_too_large_to_read_is_left_alone(root: Path) -> None:
    path = root / "bash.bashrc"
    path.write_text("x" * (2 << 20))
    step = ShellHooks((Wanted(str(path), ("source",), top=True),))
    run([step], Report())

    assert "x" * (2 << 20) == path.read_text()


def test_a_folder_to_link_to_is_not_made_through_a_link(root: Path, plant: Callable) -> None:
    elsewhere = plant(root / "elsewhere", {})
    plant(root / "volume/home", {".local": elsewhere})
    plant(root / "image", {})
    report = run([LinkHome(f"{root}/volume/home", f"{root}/image", (".local/share/",))], Report())

    assert ["volume.link-in-the-way"] == [problem.slug for problem in report.problems]
    assert [] == os.listdir(elsewhere)
