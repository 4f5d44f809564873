"""Which descriptors stand against a dump: the rules, without processes."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from workspace_agent.checkpoint import lint, powers
from workspace_agent.checkpoint.descriptors import of_descriptors
from workspace_agent.checkpoint.powers import Powers
from workspace_agent.checkpoint.scene import Open, Scene
from workspace_agent.checkpoint.sockets import Sockets
from workspace_agent.checkpoint.tree import Task
from workspace_agent.model.problem import Problem

# No process has this number: what is asked of the kernel finds nothing.
NOBODY = 1 << 29
TASK = Task(NOBODY, 1, NOBODY, NOBODY, "S", 1, 0, "train", (NOBODY,))
MAY = Powers(powers.CHECKPOINT_RESTORE, 0, 0, 0, 0, "6.18.0", (4, 2, 1))


def opened(target: str, info: str = "", number: int = 3) -> Open:
    return Open(TASK, number, target, info)


def scene(
    *all_open: Open, may: Powers = MAY, tcp: str = "close", known: Sockets | None = None
) -> Scene:
    return Scene(
        [TASK], may, all_open, known or Sockets(), {"21": "ext4"},
        {(8, 1): "ext4", (0, 40): "overlay"}, {}, "/workspace", tcp, frozenset({NOBODY}),
    )  # fmt: skip


def said(here: Scene) -> list[tuple[str, bool]]:
    return [(problem.slug.partition(".")[2], stops) for problem, stops, _ in of_descriptors(here)]


@pytest.mark.parametrize(
    "kind", ["[eventfd]", "[eventpoll]", "[signalfd]", "inotify", "[fanotify]"]
)
def test_what_criu_knows_has_no_finding(kind: str) -> None:
    assert [] == said(scene(opened(f"anon_inode:{kind}")))


@pytest.mark.parametrize(
    "kind", ["[io_uring]", "[perf_event]", "bpf-map", "[userfaultfd]", "[new]"]
)
def test_every_other_kind_stops(kind: str) -> None:
    assert [("not-dumpable", True)] == said(scene(opened(f"anon_inode:{kind}")))


def test_a_gpu_stops() -> None:
    assert ("gpu", True) in said(scene(opened("/dev/nvidia0")))
    assert ("gpu", True) not in said(scene(opened("/dev/null")))


def test_the_remedy_for_io_uring_is_its_switch() -> None:
    (found,) = of_descriptors(scene(opened("anon_inode:[io_uring]")))

    assert "UV_USE_IO_URING=0" in found[0].fix


@pytest.mark.parametrize(
    ("ticks", "value", "interval", "noted"),
    [
        ("1", "(0, 0)", "(0, 1000)", True),
        ("0", "(0, 0)", "(0, 0)", False),
        ("1", "(0, 0)", "(0, 0)", False),
        ("0", "(499, 12)", "(500, 0)", False),
    ],
)
def test_only_a_periodic_timer_that_ended_is_lost(
    ticks: str, value: str, interval: str, noted: bool
) -> None:
    info = f"pos:\t0\nticks: {ticks}\nit_value: {value}\nit_interval: {interval}\n"

    assert [("timer", False)] * noted == said(scene(opened("anon_inode:[timerfd]", info)))


@pytest.mark.parametrize(
    ("pid", "stops"), [("1", True), (str(NOBODY), False), ("-1", False)]
)  # fmt: skip
def test_a_handle_of_a_process_outside_stops(pid: str, stops: bool) -> None:
    assert [("outside", True)] * stops == said(
        scene(opened("anon_inode:[pidfd]", f"Pid:\t{pid}\n"))
    )


@pytest.mark.parametrize(("tcp", "right", "stops"), [
    ("close", 0, False), ("established", 0, True), ("established", powers.NET_ADMIN, None),
])  # fmt: skip
def test_a_connection_is_closed_or_needs_net_admin(
    tcp: str, right: int, stops: bool | None
) -> None:
    may = replace(MAY, effective=MAY.effective | right)
    here = scene(opened("socket:[7]"), may=may, tcp=tcp, known=Sockets({7: 80}))

    assert ([] if stops is None else [("connection", stops)]) == said(here)


def test_a_unix_socket_stops_only_with_an_end_outside() -> None:
    within = scene(opened("socket:[7]"), opened("socket:[8]"), known=Sockets(ends={7: 8, 8: 7}))
    without = scene(opened("socket:[7]"), known=Sockets(ends={7: 8}))

    assert [] == said(within)
    assert [("outside", True)] == said(without)


def test_an_answer_that_is_not_read_stops() -> None:
    assert [("not-taken", True)] == said(scene(opened("socket:[7]"), known=Sockets(unread={7})))


def watching(device: str) -> str:
    return f"flags:\t0\ninotify wd:1 ino:2f sdev:{device} mask:100 ignored_mask:0\n"


@pytest.mark.parametrize(("device", "right", "stops"), [
    ("800001", 0, True), ("800001", powers.DAC_READ_SEARCH, False),
    ("28", powers.DAC_READ_SEARCH, True),
])  # fmt: skip
def test_a_watch_needs_a_handle_and_the_right_to_use_it(
    device: str, right: int, stops: bool
) -> None:
    may = replace(MAY, effective=MAY.effective | right)
    here = scene(opened("anon_inode:inotify", watching(device)), may=may)

    assert [("watch", True)] * stops == said(here)


def test_a_file_of_a_mount_that_is_not_here_stops() -> None:
    assert [("unseen-mount", True)] == said(scene(opened("/q", "flags:\t02\nmnt_id:\t99\n")))
    assert [] == said(scene(opened("/q", "flags:\t0\nmnt_id:\t21\n")))


def test_a_descriptor_answers_for_its_lines() -> None:
    one = opened("/a", f"pos:\t0\nflags:\t{os.O_WRONLY | os.O_APPEND:o}\nmnt_id:\t21\n")

    assert ("21", True, "") == (one.field("mnt_id"), one.writes, one.field("id"))


def test_what_many_share_is_said_once_with_their_number() -> None:
    rows = [
        (Problem("checkpoint.size", f"descriptor 3 of process {n}"), False, "/log")
        for n in range(3)
    ]
    other = (Problem("checkpoint.timer", "descriptor 4"), False, "")

    first, second = lint._once([*rows, other])

    assert "descriptor 3 of process 0, and 2 more" == first.problem.what
    assert "descriptor 4" == second.problem.what


def test_low_numbers_are_told_with_the_lowest() -> None:
    low = replace(TASK, pid=2000, group=2000, session=2000, threads=(2000, 412, 299))

    (found,) = lint._numbers([low], 1000)

    assert found[0].what.endswith("has the number 299")
    assert not found[1]
    assert [] == list(lint._numbers([low], 200))


def test_a_root_without_a_session_of_its_own_stops() -> None:
    ((found, stops, _),) = lint._numbers([replace(TASK, session=12345)], 1)

    assert ("checkpoint.session", True) == (found.slug, stops)


def test_nobody_to_look_at_has_no_finding() -> None:
    assert [] == lint.findings([], MAY, floor=300, tcp="close", volume="/workspace")
