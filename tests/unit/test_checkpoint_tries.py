"""A version is tried once where it cannot work, and not forgotten where a pod was only killed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from workspace_agent.checkpoint.tries import DEATHS, against, under_way


def line(state: str, nonce: str = "n", host: str = "here", **more: Any) -> dict[str, Any]:
    return {"what": "restore", "version": "v", "host": host, "nonce": nonce, "state": state,
            "at": time.time(), **more}  # fmt: skip


def said(*lines: dict[str, Any], gone: bool | None = True) -> str:
    return against(lines, "v", "here", lambda _: gone)


def test_what_was_never_tried_is() -> None:
    assert said() == ""


def test_what_failed_on_such_a_machine_is_not_tried_there_again() -> None:
    failed = line("failed", why="the processes are not as they were")
    assert "not as they were" in said(line("claimed"), failed)
    assert against([{**failed, "host": "other"}], "v", "here", lambda _: True) == ""
    assert against([{**failed, "version": "w"}], "v", "here", lambda _: True) == ""


def test_a_reason_that_passes_is_no_reason_for_ever() -> None:
    failed = [line("failed", str(n), why="bind: Address already in use") for n in range(DEATHS)]
    assert said(*failed[:-1]) == ""
    assert said(*failed) != ""


@pytest.mark.parametrize("count", range(1, DEATHS + 2))
def test_pods_that_were_killed_meanwhile_count_only_when_they_are_many(count: int) -> None:
    claims = [line("claimed", str(n)) for n in range(count)]
    assert bool(said(*claims)) is (count >= DEATHS)


@pytest.mark.parametrize("state", ["done", "stopped"])
def test_those_that_came_to_an_end_have_not_died(state: str) -> None:
    lines = [one for n in range(9) for one in (line("claimed", str(n)), line(state, str(n)))]
    assert said(*lines) == ""


@pytest.mark.parametrize("gone", [False, None])
def test_many_that_restore_at_once_are_not_taken_for_dead(gone: bool | None) -> None:
    assert said(*(line("claimed", str(n)) for n in range(9)), gone=gone) == ""


def test_those_of_whom_nothing_is_known_have_died_after_long() -> None:
    old = [{**line("claimed", str(n)), "at": time.time() - 1e5} for n in range(DEATHS)]
    assert said(*old, gone=None) != ""


def test_what_somebody_restores_now_is_under_way() -> None:
    lines = [line("claimed", "a"), line("claimed", "b"), line("done", "b")]
    assert under_way(lines, lambda _: False) == {"v"}
    assert under_way(lines[1:], lambda _: False) == set()
    assert under_way(lines, lambda _: True) == set()


@pytest.mark.parametrize("bad", [{}, {"what": "restore"}, {"what": "restore", "version": "v"}])
def test_a_strange_line_says_nothing(bad: dict[str, Any]) -> None:
    assert said(bad) == ""
