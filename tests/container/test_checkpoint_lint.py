"""What the lint says before a dump is what CRIU does with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.container

LAB = Path(__file__).parent / "checkpoint_lab"
LEAST = "CHECKPOINT_RESTORE,SYS_PTRACE"
FINDS = f"{LEAST},DAC_READ_SEARCH"
FULL = f"{LEAST},SYS_ADMIN,NET_ADMIN,SYS_TIME"

CLEAN = ("plain", "tree", "descriptors", "listeners", "shared", "etc_watch")
# What is worth a word, and works.
NOTED = {
    "connection": "connection",
    "not_accepted": "connection",
    "timer": "timer",
    "database": "database",
    "size": "size",
    "daemon": "left-tree",
    "pipe_outside": "outside",
}
# What CRIU refuses, at the dump or at the restore.
REFUSED = {
    "io_uring": "not-dumpable",
    "perf": "not-dumpable",
    "userfaultfd": "not-dumpable",
    "landlock": "not-dumpable",
    "secret_memory": "not-dumpable",
    "vsock": "not-dumpable",
    "mptcp": "not-dumpable",
    "unread_netlink": "not-taken",
    "system_v": "shared-memory",
    "stream_outside": "outside",
    "datagram_outside": "outside",
    "pair_outside": "outside",
    "terminal_outside": "outside",
    "handle_outside": "outside",
    "watch": "watch",
    "layer_watch": "watch",
    "leaked": "unseen-mount",
    "large_ghost": "deleted-file",
    "large_ghost_mapped": "deleted-file",
    "no_leader": "session",
    "own_filter": "sandbox",
    "own_user_namespace": "sandbox",
    "traced": "traced",
    "other_user": "other-user",
}
# The same with more capabilities.
OTHERWISE = {
    FINDS: {"watch": "", "layer_watch": "watch", "etc_watch": ""},
    FULL: {"plain": "", "descriptors": "", "own_filter": "", "own_network": "sandbox"},
}


def start(pods, volume, capabilities):
    return pods(
        "/lab/pid1.py", volume=volume,
        options=(f"--cap-add={capabilities}", "--security-opt=seccomp=unconfined", "--net=none",
                 f"--volume={LAB}:/lab:ro", "--entrypoint=/usr/bin/python3"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def seen(image, shared_pod, tmp_path_factory):
    """What became of each workload, by capabilities and name."""
    found = {}
    asked = {LEAST: [*CLEAN, *NOTED, *REFUSED], **OTHERWISE}
    for capabilities, names in asked.items():
        pod = start(shared_pod, tmp_path_factory.mktemp("volume"), capabilities)
        said = pod.text("python3", "/lab/drive.py", "zoo", *names)
        rows = [json.loads(line) for line in said.splitlines()]
        found.update({(capabilities, row["name"]): row for row in rows})
    return found


@pytest.fixture(scope="module")
def image(placeholder_image):
    return placeholder_image


def row_of(seen, capabilities, name):
    row = seen[capabilities, name]
    assert "broken" not in row, row
    if "skipped" in row:
        pytest.skip(f"{name} cannot be had here: {row['skipped']}")
    return row


def slugs(row, *, stops):
    return {f["slug"].partition(".")[2] for f in row["findings"] if f["stops"] is stops}


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_workload_comes_back_and_has_no_finding_but_the_clock(name, seen):
    row = row_of(seen, LEAST, name)

    assert ("", "") == (row["dump"], row["restore"])
    assert {"clock"} == slugs(row, stops=False) | slugs(row, stops=True)


@pytest.mark.parametrize("name", NOTED)
def test_what_is_only_noted_comes_back(name, seen):
    row = row_of(seen, LEAST, name)

    assert ("", "") == (row["dump"], row["restore"])
    assert {"clock", NOTED[name]} == slugs(row, stops=False)
    assert set() == slugs(row, stops=True)


@pytest.mark.parametrize("name", REFUSED)
def test_what_criu_refuses_was_said_before(name, seen):
    row = row_of(seen, LEAST, name)

    assert {REFUSED[name]} == slugs(row, stops=True)
    assert row["dump"] or row["restore"]
    assert row["goes_on"] or row["restore"], "a failed dump leaves the workload running"


@pytest.mark.parametrize(
    ("capabilities", "name"), [(c, n) for c, ns in OTHERWISE.items() for n in ns]
)
def test_more_capabilities_change_what_stops_as_they_change_what_criu_does(
    capabilities, name, seen
):
    row = row_of(seen, capabilities, name)

    assert {OTHERWISE[capabilities][name]} - {""} == slugs(row, stops=True)
    assert bool(OTHERWISE[capabilities][name]) == bool(row["dump"] or row["restore"])


def test_with_all_rights_the_clock_is_no_matter(seen):
    assert set() == slugs(row_of(seen, FULL, "plain"), stops=False)


def test_every_finding_names_the_process_and_says_what_to_do(seen):
    rows = [row for row in seen.values() if "findings" in row]
    findings = [f for row in rows for f in row["findings"] if f["slug"] != "checkpoint.clock"]

    assert [] == [f for f in findings if "process " not in f["what"] or not (f["why"] and f["fix"])]


def test_the_lint_leaves_no_process_stopped_or_traced(seen):
    held = [tuple(one) for row in seen.values() if "held" in row for one in row["held"]]

    assert set() == {one for one in held if one[0] not in "SR" or one[1] != "0"}
