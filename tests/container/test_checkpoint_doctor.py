"""`doctor --for checkpoint` beside a running workload."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.container

LAB = Path(__file__).parent / "checkpoint_lab"
LEAST = "--cap-add=CHECKPOINT_RESTORE,SYS_PTRACE"
UNCONFINED = "--security-opt=seccomp=unconfined"


@pytest.fixture
def image(placeholder_image):
    return placeholder_image


@pytest.fixture
def doctor(pod, volume):
    """Ask doctor in a container whose workload is this one of the zoo."""

    def ask(workload, role, *options):
        one = pod(
            "sh", "-c", f"exec python3 /lab/zoo.py {workload} >>/workspace/ticks 2>&1",
            volume=volume,
            options=(*options, "--net=none", f"--volume={LAB}:/lab:ro",
                     "--entrypoint=/opt/workspace-agent/entrypoint.sh"),
        )  # fmt: skip
        one.until("test", "-s", "/workspace/ticks")
        done = one.exec("workspace-agent", "--json", "doctor", "--for", role)
        again = (volume / "ticks").stat().st_size
        one.until("sh", "-c", f"test $(stat -c %s /workspace/ticks) -gt {again}")
        return done.returncode, json.loads(done.stdout)["data"]

    return ask


def stops(data):
    return [one["slug"] for one in data["findings"] if one["stops"]]


def test_a_machine_that_can_proves_it_and_finds_nothing_in_a_plain_workload(doctor):
    code, data = doctor("plain", "checkpoint", LEAST, UNCONFINED)

    assert (0, True, True, []) == (code, data["dump"], data["restore"], stops(data))
    assert "a process was dumped and restored in" in data["proof"]
    assert data["workload"]


def test_what_stops_in_the_workload_is_to_be_fixed(doctor):
    code, data = doctor("io_uring", "checkpoint", LEAST, UNCONFINED)

    assert (3, True, ["checkpoint.not-dumpable"]) == (code, data["dump"], stops(data))
    assert "python3" in data["findings"][-1]["what"]


@pytest.mark.parametrize(("role", "code"), [("checkpoint", 4), ("restore", 0)])
def test_a_container_with_a_filter_may_only_restore(role, code, doctor):
    found, data = doctor("plain", role, LEAST)

    assert (code, False, True) == (found, data["dump"], data["restore"])
    assert "a process was given its number, as a restore does" == data["proof"]


def test_a_container_without_the_right_may_do_neither(doctor):
    code, data = doctor("plain", "restore", UNCONFINED)

    assert (4, False, False) == (code, data["dump"], data["restore"])
