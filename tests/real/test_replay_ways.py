"""The ways that people had before: pip --target, pip at every boot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wheels


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Make an interpreter whose own packages are this test's."""
    base = tmp_path / "image"
    subprocess.run([sys.executable, "-m", "venv", str(base)], check=True)
    return base


def environ(place, python: Path, **more: str) -> dict[str, str]:
    return place.environ(PATH=f"{python}/bin:{os.environ['PATH']}", **more)


def test_packages_put_on_the_volume_by_target_are_seen(agent, place, python: Path) -> None:
    target = place.volume / "pip-packages"
    target.mkdir(parents=True)
    (target / "byhand.py").write_text("word = 'hand'\n")
    started = agent("python", "-c", "import byhand; print(byhand.word)", env=environ(place, python))

    assert (0, "hand\n") == (started.wait(), started.out)


def test_what_a_file_asks_for_is_installed_although_the_volume_has_it(
    agent, place, python: Path, tmp_path: Path
) -> None:
    made, target = tmp_path / "wheels", place.volume / "pip-packages"
    more = wheels.offline(made)
    by_target = ("-m", "pip", "install", "-q", "--target", target)
    one = wheels.wheel(made, "tinyone", "1.0")
    subprocess.run([python / "bin/python", *by_target, one], check=True)
    (place.volume / "requirements.txt").write_text("tinyone\n")
    path = f"{python}/bin:/usr/bin:/bin"
    (site,) = python.glob("lib/python3*/site-packages")
    (site / "workspace-agent.pth").write_text(f"{target}\n")  # as the bake leaves it
    started = agent("python", "-c", "pass", env=place.environ(PATH=path, **more))

    assert 0 == started.wait(), started.err
    assert list(place.runtime.glob("python/env/lib/*/site-packages/tinyone.py"))


def test_those_for_another_python_are_named_and_left_out(agent, place, python: Path) -> None:
    info = place.volume / "pip-packages/numpy-1.dist-info"
    info.mkdir(parents=True)
    (info / "WHEEL").write_text("Tag: cp32-cp32-linux_x86_64\n")
    started = agent("printenv", "PYTHONPATH", env=environ(place, python))
    started.wait()

    assert "(python.other-abi)" in started.err
    assert str(info.parent) not in started.out.split(":")


def test_pip_at_each_boot_runs_once_in_a_container(agent, place, python: Path, tmp_path) -> None:
    made = tmp_path / "wheels"
    wheels.wheel(made, "tinyone", "1.0")
    (place.volume / "requirements.txt").parent.mkdir(exist_ok=True, parents=True)
    (place.volume / "requirements.txt").write_text("tinyone\n")
    more = {
        "WORKSPACE_AGENT__REPLAY__MODE": "pip-each-boot",
        "WORKSPACE_AGENT__REPLAY__OPTIONS": "--no-cache-dir",
        **wheels.offline(made),
    }
    rows = []
    for _ in range(2):
        started = agent("python", "-c", "import tinyone", env=environ(place, python, **more))
        assert 0 == started.wait(), started.err
        status = json.loads((place.runtime / "status.json").read_text())
        rows += [row for row in status["steps"] if row["name"] == "replay"]

    assert ["changed", "ok"] == [row["status"] for row in rows]
    assert "--no-cache-dir: no cache outlives the pod" in rows[1]["why"]


@pytest.mark.parametrize(
    ("text", "word"),
    [("-r gone.txt\n", "(replay.unreadable)"), ("# one\n\nnot a requirement!!\n", ".txt:3")],
)
def test_a_file_that_is_wrong_leaves_an_empty_environment(
    agent, place, python: Path, text: str, word: str
) -> None:
    place.volume.mkdir(exist_ok=True)
    (place.volume / "requirements.txt").write_text(text)
    started = agent("python", "-c", "import sys; print(sys.prefix)", env=environ(place, python))

    assert (0, f"{place.runtime}/python/env\n") == (started.wait(), started.out), started.err
    assert word in started.err
