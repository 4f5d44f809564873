"""The boot, when something goes wrong or somebody stops it; the workload runs all the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from agents import ENTRYPOINT, children, is_over, state, wait_until

# A setup script that says who it is, and its engine, and goes on for ever.
ENDLESS = 'echo $$ $PPID > "$WORKSPACE_VOLUME/pids.new"; mv "$WORKSPACE_VOLUME"/pids.new ' + (
    '"$WORKSPACE_VOLUME/pids"; sleep 1000; :\n'
)


def script_and_engine(place) -> tuple[int, int]:
    """Wait for the endless script; returns its process and that of the engine."""
    path = place.volume / "pids"
    wait_until(path.exists, "the script runs")
    script, engine = map(int, path.read_text().split())
    wait_until(lambda: children(script), "the script is at its sleep")
    return script, engine


def is_pending(pid: int, number: int) -> bool:
    """Say whether signal *number* still waits for process *pid* to take it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = dict(line.split(":\t") for line in lines if line.startswith("Sh"))
    return bool(int(masks["ShdPnd"], 16) >> (number - 1) & 1)


STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP]


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_during_the_boot_ends_it_and_starts_no_workload(agent, place, number: int) -> None:
    place.script(ENDLESS)
    running = agent("touch", f"{place.folder}/ran")
    script_and_engine(place)
    running.signal(number)

    assert 128 + number == running.wait()
    assert not (place.folder / "ran").exists()


@pytest.mark.parametrize("first", ["", "trap '' TERM; "], ids=["calm", "stubborn"])
def test_a_stop_during_the_boot_leaves_no_process_of_the_script(agent, place, first: str) -> None:
    place.script(first + ENDLESS)
    running = agent("true")
    script, engine = script_and_engine(place)
    everyone = [script, engine, *children(script)]
    running.signal(signal.SIGTERM)
    running.wait()

    assert [] == [pid for pid in everyone if not is_over(pid)]


@pytest.mark.parametrize(
    "number", [signal.SIGUSR1, signal.SIGWINCH, signal.SIGCONT, signal.SIGTSTP]
)
def test_other_signals_during_the_boot_are_not_a_stop(agent, place, number: int) -> None:
    place.script(
        'touch "$WORKSPACE_VOLUME/here"; while [ ! -e "$WORKSPACE_VOLUME/go" ]; do sleep 0.01; done'
    )
    running = agent("sh", "-c", "exit 3")
    wait_until((place.volume / "here").exists, "the script runs")
    running.signal(number)
    wait_until(lambda: not is_pending(running.pid, number), "the agent has taken the signal")
    (place.volume / "go").touch()

    assert 3 == running.wait()


def test_pid_1_that_is_stopped_during_the_boot_takes_everything_with_it(pid1, place) -> None:
    place.script('touch "$WORKSPACE_VOLUME/here"; sleep 1000')
    running = pid1("true")
    wait_until((place.volume / "here").exists, "the script runs")
    running.signal(signal.SIGTERM)

    assert 143 == running.wait()
    wait_until(lambda: all(map(is_over, place.started())), "nothing is left")


def test_a_killed_engine_keeps_no_workload_from_running(agent, place) -> None:
    place.script(ENDLESS)
    running = agent("sh", "-c", 'echo "$HOME"; exit 3')
    _, engine = script_and_engine(place)
    os.kill(engine, signal.SIGKILL)

    assert (3, f"{place.home}\n") == (running.wait(), running.out)
    assert "(agent.crashed)" in running.err


def test_a_script_that_fails_keeps_no_workload_from_running(agent, place) -> None:
    place.script("echo a word that could be secret; exit 9")
    running = agent("sh", "-c", "exit 3")

    assert 3 == running.wait()
    assert "(scripts.failed)" in running.err
    assert "secret" not in running.err


def test_the_workload_does_not_start_before_the_scripts_are_done(agent, place) -> None:
    place.script('sleep 0.2; echo done > "$WORKSPACE_VOLUME/result"')
    running = agent("cat", f"{place.volume}/result")

    assert (0, "done\n") == (running.wait(), running.out)


def test_disabled_means_that_the_command_takes_our_place(agent, place) -> None:
    env = place.environ(WORKSPACE_AGENT_DISABLE="1")
    running = agent("sh", "-c", 'echo "$$ $HOME"; exit 5', env=env)

    assert (5, f"{running.pid} {place.home}\n", "") == (running.wait(), running.out, running.err)
    assert (False, False) == (place.volume.exists(), place.runtime.exists())


def test_an_agent_inside_an_agents_workload_just_runs_its_command(agent, place) -> None:
    running = agent(ENTRYPOINT, "sh", "-c", 'echo "$HOME"; kill -TERM $$')

    assert (143, f"{place.volume}/home\n") == (running.wait(), running.out)
    assert 1 == running.err.count("workspace ready in")
    assert "CMD runs inside its workspace" in running.err


def test_an_agent_inside_the_workload_of_pid_1_just_runs_its_command(pid1) -> None:
    running = pid1(ENTRYPOINT, "sh", "-c", "exit 6")

    assert 6 == running.wait()
    assert 1 == running.err.count("workspace ready in")


def test_an_agent_that_was_killed_does_not_block_the_next_one(agent, place) -> None:
    first = agent("sh", "-c", "echo ready; exec sleep 1000").until("ready")
    first.signal(signal.SIGKILL)
    first.wait()
    second = agent("sh", "-c", "exit 4")

    assert (4, 1) == (second.wait(), second.err.count("workspace ready in"))


DAMAGES = {
    "start does not parse": ("start.py", "def ("),
    "start raises": ("start.py", "raise RuntimeError('broken')\n"),
    "start is empty": ("start.py", ""),
    "start is gone": ("start.py", None),
    "the init is gone": ("supervise/init.py", None),
    "the engine's door is gone": ("consult.py", None),
    "the engine does not parse": ("app/engine.py", "def ("),
    "the engine exits": ("app/engine.py", "import os\nos._exit(0)\n"),
    "the recipe raises": ("model/recipe.py", "raise MemoryError\n"),
    "the fast path raises": ("fastpath.py", "def load(root): raise OSError(5, 'x')\n"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_install_runs_the_command_all_the_same(agent, install, name: str) -> None:
    file, text = DAMAGES[name]
    path = install / "workspace_agent" / file
    path.unlink() if text is None else path.write_text(text)
    running = agent("sh", "-c", "echo here; exit 3", entrypoint=f"{install}/entrypoint.sh")

    assert (3, "here\n") == (running.wait(), running.out)
    assert "workspace-agent: " in running.err


def test_a_whole_copy_of_the_agent_has_nothing_to_say_but_ready(agent, install) -> None:
    running = agent("true", entrypoint=f"{install}/entrypoint.sh")

    assert (0, 1) == (running.wait(), len(running.err.splitlines()))


def test_the_entrypoint_finds_its_install_through_a_link(agent, install, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/agent").symlink_to(install / "entrypoint.sh")
    running = agent("sh", "-c", "exit 3", entrypoint=f"{tmp_path}/bin/agent")

    assert (3, 1) == (running.wait(), running.err.count("workspace ready in"))


def test_without_a_python_the_command_runs_all_the_same(agent, place, install, tmp_path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "readlink"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "bin/python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin/python3").chmod(0o755)
    entrypoint = install / "entrypoint.sh"
    entrypoint.write_text(entrypoint.read_text().replace("/bin/python3", "/bin/not-here"))
    env = place.environ(PATH=f"{tmp_path}/bin")
    running = agent("sh", "-c", "exit 3", entrypoint=f"{install}/entrypoint.sh", env=env)

    assert (3, True) == (running.wait(), "no Python 3.10 or newer was found" in running.err)


def test_without_a_command_the_pod_lives_until_it_is_stopped(agent, place) -> None:
    running = agent()
    wait_until(lambda: any(state(pid) for pid in children(running.pid)), "something runs")
    wait_until(lambda: (place.runtime / "agent.json").exists(), "the agent runs")
    running.signal(signal.SIGTERM)

    assert 143 == running.wait()


def test_the_record_says_who_runs_and_how_it_ended(agent, place) -> None:
    record = place.runtime / "agent.json"
    running = agent("sh", "-c", "echo ready $$; read -r line; exit 7", stdin=-1)
    workload = int(running.word("ready"))
    wait_until(record.exists, "the record")
    during = json.loads(record.read_text())
    running.process.stdin.close()
    code = running.wait()
    after = json.loads(record.read_text())
    keys = ("phase", "pid", "workload", "exit_code")

    assert ["running", running.pid, workload, None] == [during.get(key) for key in keys]
    assert ["exited", running.pid, workload, code] == [after.get(key) for key in keys]


def test_the_kubelet_learns_how_it_ended(agent, place) -> None:
    log = place.folder / "termination-log"
    log.touch()
    env = place.environ(WORKSPACE_AGENT__REPORT__TERMINATION_LOG=str(log))
    agent("sh", "-c", "exit 7", env=env).wait()
    line = json.loads(log.read_text())

    assert ("exited", 7, []) == (line["phase"], line["exit_code"], line["problems"])


def test_a_closed_stderr_keeps_no_workload_from_running(agent) -> None:
    closed = ("sh", "-c", 'exec "$@" 2>&-', "sh")

    assert 3 == agent("sh", "-c", "exit 3", before=closed).wait()


def test_a_machine_without_a_runtime_folder_runs_the_workload(agent, place) -> None:
    place.runtime.write_text("in the way")
    running = agent("sh", "-c", "exit 3")

    assert (3, 1) == (running.wait(), running.err.count("workspace ready in"))
