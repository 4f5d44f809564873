"""Rows and reports: one list, three readings."""

from __future__ import annotations

import pytest

from workspace_agent.app.telling import counts
from workspace_agent.model.outcome import Report, Row, Status
from workspace_agent.model.problem import Problem

TROUBLE = Problem("volume.full", "the volume is full")
OTHER = Problem("volume.absent", "no volume")


def test_a_row_in_json_has_every_field() -> None:
    row = Row("home.seed", Status.WOULD_CHANGE, "first boot", 0.123456789, ("a",), TROUBLE)

    assert {
        "name": "home.seed",
        "status": "would change",
        "why": "first boot",
        "secs": 0.123457,
        "detail": ["a"],
        "problem": TROUBLE.to_json(),
    } == row.to_json()
    assert Row("x", Status.OK).to_json()["problem"] is None


@pytest.mark.parametrize(
    ("report", "status"),
    [
        (Report(), "ok"),
        (Report((Row("a", Status.OK), Row("b", Status.SKIPPED))), "ok"),
        (Report((Row("a", Status.FAILED, problem=TROUBLE),)), "degraded"),
        (Report(notes=(OTHER,)), "degraded"),
    ],
)
def test_a_report_with_a_problem_is_degraded(report: Report, status: str) -> None:
    assert status == report.status


def test_problems_of_no_step_come_first() -> None:
    report = Report((Row("a", Status.FAILED, problem=TROUBLE),), notes=(OTHER,))

    assert (OTHER, TROUBLE) == report.problems


def test_counts_name_only_what_happened_the_worst_first() -> None:
    rows = [Status.OK, Status.OK, Status.SKIPPED, Status.CHANGED, Status.FAILED, Status.BLOCKED]
    report = Report(tuple(Row("x", status) for status in rows))

    assert "1 failed, 1 blocked, 1 changed, 2 ok, 1 skipped" == counts(report)
    assert "nothing to do" == counts(Report())
