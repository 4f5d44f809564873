"""Volumes that hang, refuse or are far away: the workload starts, and what it is told is true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from agents import wait_until
from slow_volumes import mounted

from workspace_agent.app.boot import run
from workspace_agent.model.outcome import Report, Status
from workspace_agent.steps.home import HomeSeed

if TYPE_CHECKING:
    from pathlib import Path

    from agents import Place
    from slow_volumes import Volume


def fill(home: Path, count: int) -> None:
    for number in range(count):
        (home / f"file-{number}").write_text("x" * 100)


def test_a_hung_volume_does_not_keep_the_workload_from_starting(
    agent, place: Place, volume: Volume
) -> None:
    volume.ctl("hang on")
    # As in an image whose PATH begins with the volume: nobody may search there now.
    path = f"{place.volume}/bin:{os.environ['PATH']}"
    env = place.environ(WORKSPACE_AGENT__VOLUME__DEADLINE="300ms", PATH=path)
    running = agent("sh", "-c", 'echo "HOME=$HOME"; exit 6', env=env)
    code = running.wait()
    volume.ctl("hang off")

    assert (6, f"HOME={place.home}\n") == (code, running.out)
    assert "(volume.not-responding)" in running.err
    status = json.loads((place.runtime / "status.json").read_text())
    assert "degraded" == status["status"]
    assert "the volume does not answer" in (place.runtime / "banner").read_text()


def test_a_volume_that_hangs_in_the_middle_of_the_copy_does_not_either(
    agent, place: Place, volume: Volume
) -> None:
    fill(place.home, 40)
    volume.ctl("lat 10")
    env = place.environ(WORKSPACE_AGENT__VOLUME__DEADLINE="1s")
    running = agent("sh", "-c", "exit 6", env=env)
    wait_until(lambda: volume.stats()["mutations"] > 20, "the copy is under way")
    volume.ctl("hang on")
    code = running.wait()
    volume.ctl("heal", "lat 0", "hang off")
    again = agent("sh", "-c", 'ls -A "$HOME" | wc -l; exit 7')

    assert 6 == code
    assert (7, "41\n") == (again.wait(), again.out)


def test_the_boot_after_a_hang_finds_everything(agent, place: Place, volume: Volume) -> None:
    volume.ctl("hang on")
    agent("true", env=place.environ(WORKSPACE_AGENT__VOLUME__DEADLINE="300ms")).wait()
    volume.ctl("hang off")
    running = agent("sh", "-c", 'echo "$HOME"')

    assert (0, f"{place.volume}/home\n") == (running.wait(), running.out)


def test_a_stop_while_the_volume_hangs_ends_the_boot(agent, place: Place, volume: Volume) -> None:
    agent("true").wait()
    volume.ctl("hang on")
    running = agent("sleep", "1000")
    wait_until(lambda: (place.runtime / "lock").exists(), "the boot has begun")
    running.signal(signal.SIGTERM)
    code = running.wait()
    volume.ctl("hang off")

    assert 143 == code


def test_a_warm_boot_changes_nothing_and_asks_little(agent, place: Place, volume: Volume) -> None:
    agent("true").wait()
    volume.ctl("reset")
    agent("true").wait()
    stats = volume.stats()

    assert 0 == stats["mutations"]
    # Four of them look for files of packages, three for packages that lie there without a key.
    assert stats["total"] <= 37


@pytest.mark.parametrize(
    ("fault", "slug"),
    [
        ("quota 0", "volume.full"),
        ("inodes 0", "volume.full"),
        ("ro on", "volume.read-only"),
        ("fail mkdir EACCES", "volume.not-writable"),
        ("fail write ENOSPC after=5", "volume.full"),
        ("fail write EDQUOT after=2", "volume.full"),
        ("fail rename EIO", "volume.io-error"),
        ("fail lookup ESTALE", "volume.stale"),
        ("stale on", "volume.stale"),
    ],
)
def test_a_volume_that_refuses_is_named_and_the_workload_runs(
    agent, place: Place, volume: Volume, fault: str, slug: str
) -> None:
    fill(place.home, 5)
    volume.ctl(fault)
    running = agent("sh", "-c", "exit 9")
    code = running.wait()
    volume.ctl("heal")

    assert 9 == code
    assert f"({slug})" in running.err
    assert not (place.volume / "home/.packet-init").exists()


def test_a_first_copy_that_takes_too_long_goes_on_beside_the_workload(
    agent, place: Place, volume: Volume
) -> None:
    fill(place.home, 40)
    volume.ctl("lat 20")
    env = place.environ(WORKSPACE_AGENT__HOME__WAIT="100ms", WORKSPACE_AGENT__HOME__THREADS="1")
    started = agent("sh", "-c", 'echo "HOME=$HOME"; exec tail -f /dev/null', env=env)
    started.until(f"HOME={place.home}\n")
    made_before = (place.volume / "home/.packet-init").exists()
    volume.ctl("lat 0")
    wait_until(lambda: (place.volume / "home/.packet-init").exists(), "the home")
    status_file = place.runtime / "status.json"
    wait_until(lambda: "is copied" in status_file.read_text(), "the report of it")
    status = json.loads((place.runtime / "status.json").read_text())
    started.signal(signal.SIGTERM)
    started.wait()
    again = agent("sh", "-c", 'echo "HOME=$HOME"; ls "$HOME" | wc -l', env=env)

    assert not made_before
    assert ["home.late"] == [problem["slug"] for problem in status["problems"]]
    assert "(home.late)" in started.err
    assert 0 == again.wait()
    assert f"HOME={place.volume}/home\n40\n" == again.out


def test_status_answers_whoever_waits_for_its_output_also_when_the_volume_hangs(
    agent, place: Place, volume: Volume
) -> None:
    agent("true").wait()
    volume.ctl("hang on")
    argv = [sys.executable, "-m", "workspace_agent", "status"]
    try:
        done = subprocess.run(argv, env=place.environ(), capture_output=True, timeout=60)
    finally:
        volume.ctl("hang off")

    assert 0 == done.returncode, done.stderr
    assert str(place.volume).encode() in done.stdout


def test_the_verbs_that_need_the_volume_say_that_it_hangs(
    agent, place: Place, volume: Volume
) -> None:
    agent("true").wait()
    volume.ctl("hang on")
    env = place.environ(WORKSPACE_AGENT__VOLUME__DEADLINE="300ms")
    words = (["home", "status"], ["home", "diff"], ["home", "merge"], ["doctor"], ["setup"])
    argv = [sys.executable, "-m", "workspace_agent", "--json"]
    try:
        said = [
            json.loads(subprocess.run([*argv, *one], env=env, stdout=-1, timeout=60).stdout)
            for one in words
        ]
    finally:
        volume.ctl("hang off")

    assert [(1, ["volume.not-responding"])] * len(words) == [
        (one["exit_code"], [problem["slug"] for problem in one["problems"]]) for one in said
    ]


def test_a_home_that_is_made_costs_four_requests_and_changes_nothing(tmp_path: Path) -> None:
    """On a mount whose names nobody has asked for yet, as in a fresh pod."""
    image = tmp_path / "image"
    image.mkdir()
    (image / ".bashrc").write_text("default\n")

    def step(volume: Volume) -> HomeSeed:
        state = str(volume.mount / ".workspace-agent")
        home = str(volume.mount / "home")
        return HomeSeed(str(image), home, ".packet-init", state, (str(volume.mount),), boot_id="b")

    with mounted(tmp_path / "first", tmp_path / "back") as first:
        (first.mount / ".workspace-agent").mkdir()
        made = run([step(first)], Report())
    with mounted(tmp_path / "second", tmp_path / "back") as second:
        again = run([step(second)], Report())
        stats = second.stats()

    assert [Status.CHANGED, Status.OK] == [one.rows[0].status for one in (made, again)]
    assert (0, 4) == (stats["mutations"], stats["total"])
