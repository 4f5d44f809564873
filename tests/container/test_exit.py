"""How a container ends: as its workload did."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.container

SIGTERM_CODE = 143
SIGKILL_CODE = 137


def test_a_stop_reaches_a_workload_without_a_handler(pod, volume) -> None:
    # `sleep` as PID 1 would ignore the TERM, and podman would KILL it: 137
    running = pod("sleep", "infinity", volume=volume)
    running.until("pgrep", "-x", "sleep")

    assert running.stop() == SIGTERM_CODE


def test_a_workload_that_handles_the_stop_chooses_the_code(pod, volume) -> None:
    script = "trap 'exit 7' TERM; touch /workspace/ready; while :; do sleep 1 & wait $!; done"
    running = pod("bash", "-c", script, volume=volume)
    running.until("test", "-e", "/workspace/ready")

    assert running.stop() == 7


def test_a_stop_reaches_the_grandchildren(pod, volume) -> None:
    # a shell script in the foreground does not pass a TERM on: the group has to get it
    child = (
        "trap 'touch /workspace/told; exit 0' TERM; touch /workspace/ready; "
        "while :; do sleep 1 & wait $!; done"
    )
    running = pod("bash", "-c", 'bash -c "$0"; true', child, volume=volume)
    running.until("test", "-e", "/workspace/ready")

    assert running.stop() != SIGKILL_CODE
    assert (volume / "told").exists()


def test_a_workload_that_ignores_the_stop_is_killed_at_the_end_of_the_grace(pod, volume) -> None:
    script = "trap '' TERM; touch /workspace/ready; while :; do sleep 1; done"
    running = pod("bash", "-c", script, volume=volume)
    running.until("test", "-e", "/workspace/ready")

    assert running.stop(grace=1) == SIGKILL_CODE


@pytest.mark.parametrize("code", [0, 1, 2, 3, 42, 100, 125, 126, 127, 128, 130, 143, 200, 255])
def test_the_code_is_the_workloads_own(pod, volume, code) -> None:
    assert pod("sh", "-c", f"exit {code}", volume=volume).wait() == code


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("SEGV", 139), ("TERM", 143)])
def test_a_killed_workload_is_128_plus_the_signal(pod, volume, name, code) -> None:
    assert pod("sh", "-c", f"kill -{name} $$", volume=volume).wait() == code


def test_a_command_that_is_not_there_is_127(pod, volume) -> None:
    missing = pod("no-such-command", volume=volume)

    assert missing.wait() == 127
    assert "no-such-command" in missing.err


def test_a_command_that_cannot_be_executed_is_126(pod, volume) -> None:
    refused = pod("/etc/passwd", volume=volume)

    assert refused.wait() == 126
    assert "/etc/passwd" in refused.err


def test_no_zombie_stays(pod, volume) -> None:
    # an orphan that ends is reaped by PID 1, whoever its parent was
    running = pod("sh", "-c", "(sleep 0.1 &) ; exec sleep infinity", volume=volume)
    running.until("pgrep", "-x", "sleep")
    running.until("sh", "-c", '! ps -eo stat= | grep -q "^Z" && [ "$(pgrep -cx sleep)" = 1 ]')

    assert running.stop() == SIGTERM_CODE


def test_disabled_means_untouched(pod, volume) -> None:
    env = {"WORKSPACE_AGENT_DISABLE": "1"}
    script = 'echo "$HOME $$"; ls -A /workspace; exit 5'
    off = pod("sh", "-c", script, volume=volume, env=env)

    assert off.wait() == 5
    # the workload took the place of the entrypoint: it is PID 1 itself
    assert off.out == "/root 1\n"
    assert off.err == ""
    assert list(volume.iterdir()) == []
