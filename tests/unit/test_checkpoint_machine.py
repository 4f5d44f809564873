"""What a checkpoint needs of a machine is said all at once."""

from __future__ import annotations

from typing import Any

import pytest

from workspace_agent.checkpoint.machine import fingerprint, mismatches, pod

HERE: dict[str, Any] = {
    "arch": "x86_64", "kernel": "6.1", "criu": [4, 2], "page": 4096, "cpu": "one",
    "cpu_flags": ["avx", "sse"], "memory": 0, "uptime": 1000.0, "boot": "b", "host": "h",
    "pod": "",
}  # fmt: skip


def test_the_same_machine_fits() -> None:
    assert mismatches(HERE, HERE, time_space=False) == []
    assert mismatches({}, HERE, time_space=False) == []  # what was not noted is no reason


@pytest.mark.parametrize(
    ("then", "word"),
    [
        ({"arch": "aarch64"}, "processor's kind"),
        ({"page": 65536}, "page size"),
        ({"criu": [4, 3]}, "CRIU is 4.2, and was 4.3"),
        ({"cpu_flags": ["avx", "avx512f"]}, "avx512f"),
        ({"uptime": 5000.0}, "clock"),
        ({"own_time": True}, "time namespace"),
    ],
)
def test_each_difference_has_its_reason(then: dict[str, Any], word: str) -> None:
    (found,) = mismatches({**HERE, **then}, HERE, time_space=False)
    assert word in found


def test_all_reasons_come_together() -> None:
    then = {**HERE, "arch": "a", "page": 1, "criu": [9], "cpu_flags": ["x"], "uptime": 1e9,
            "needs_memory": 10}  # fmt: skip
    assert len(mismatches(then, {**HERE, "memory": 5}, time_space=False)) == 6


def test_more_than_was_needed_is_no_difference() -> None:
    then = {**HERE, "criu": [4, 2], "cpu_flags": ["sse"], "uptime": 1.0, "needs_memory": 10}
    here = {**HERE, "criu": [4, 3, 1], "memory": 11, "kernel": "6.2"}
    assert mismatches(then, here, time_space=False) == []


def test_a_time_namespace_carries_the_clock() -> None:
    assert mismatches({**HERE, "uptime": 1e9}, HERE, time_space=True) == []


UID = "0f0f0f0f-1111-2222-3333-444444444444"


@pytest.mark.parametrize(
    ("then", "here", "begins_anew"),
    [
        ({"pod": UID, "at_term": True}, UID, True),
        ({"pod": UID, "at_term": True}, UID.replace("4", "5"), False),
        ({"pod": UID, "at_term": False}, UID, False),  # by hand, to go on here
        ({"pod": "", "at_term": True}, "", False),
        ({}, UID, False),
    ],
)
def test_a_container_that_its_pod_restarts_begins_anew(
    then: dict[str, Any], here: str, begins_anew: bool
) -> None:
    found = mismatches({**HERE, **then}, {**HERE, "pod": here}, time_space=False)
    assert bool(found) is begins_anew


def test_a_pod_is_known_by_what_the_kubelet_mounts() -> None:
    line = f"9 8 0:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/a rw\n"
    assert pod(f"1 0 0:1 / / rw - overlay overlay rw\n{line}") == UID
    assert pod("1 0 0:1 /srv/pods/mine/etc-hosts /etc/hosts rw - ext4 /dev/a rw") == ""


def test_machines_on_which_it_fails_alike_have_one_name() -> None:
    assert fingerprint(HERE) == fingerprint({**HERE, "host": "other", "uptime": 1.0, "boot": "c"})
    assert fingerprint(HERE) != fingerprint({**HERE, "kernel": "6.2"})
