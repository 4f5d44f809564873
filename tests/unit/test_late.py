"""When a first copy holds up the workload no longer, and what the report says then."""

from __future__ import annotations

import pytest

from workspace_agent.app.late import Late, home
from workspace_agent.model.outcome import Report, Row, Status

READY = Row("volume.ready", Status.OK, "fine")
WIRED = Row("env.files", Status.CHANGED, "wired")


class World:
    def __init__(self, wait: float) -> None:
        self.now = 0.0
        self.heard: list[str] = []
        self.seen: list[Report] = []
        self.late = Late(
            "home.seed", home(wait), wait, Report((READY,)), self.go_on, lambda: self.now
        )
        self.tell = self.late.before(self.heard.append)

    def go_on(self, report: Report) -> Report:
        self.seen.append(report)
        self.tell("apply env.files")  # the steps that follow are told of as well
        return Report((*report.rows, WIRED))

    def at(self, now: float, text: str) -> None:
        self.now = now
        self.tell(text)


@pytest.mark.parametrize(("secs", "struck"), [(59.9, 0), (60.0, 0), (60.1, 1)])
def test_the_workload_waits_so_long_and_no_longer(secs: float, struck: int) -> None:
    world = World(60)
    world.at(0, "apply home.seed")
    world.at(secs, "copying")

    assert (struck, bool(struck)) == (len(world.seen), world.late.struck)
    assert ["apply home.seed", "copying"] == world.heard[:2]


def test_it_strikes_once() -> None:
    world = World(60)
    world.at(0, "apply home.seed")
    for now in (61, 62, 63):
        world.at(now, "copying")

    assert 1 == len(world.seen)


def test_no_other_step_is_late() -> None:
    world = World(60)
    world.at(0, "apply home.seed")
    world.at(61, "apply home.use")
    world.at(99, "still")

    assert [] == world.seen


def test_zero_waits_for_ever() -> None:
    world = World(0)
    world.at(0, "apply home.seed")
    world.at(1e9, "copying")

    assert [] == world.seen


def test_the_boot_that_goes_on_has_no_home_and_says_so() -> None:
    world = World(60)
    world.at(0, "apply home.seed")
    world.at(61, "copying")
    (report,) = world.seen

    assert ["volume.ready", "home.seed"] == [row.name for row in report.rows]
    assert Status.BLOCKED == report.rows[1].status
    assert ["home.late"] == [problem.slug for problem in report.problems]


@pytest.mark.parametrize("status", [Status.CHANGED, Status.FAILED])
def test_the_report_in_the_end_says_what_became_of_the_home(status: Status) -> None:
    world = World(60)
    world.at(0, "apply home.seed")
    world.at(61, "copying")
    found = Report((READY, Row("home.seed", status, "copied"), Row("home.use", Status.SKIPPED)))
    report = world.late.whole(found)

    assert ["volume.ready", "home.seed", "env.files"] == [row.name for row in report.rows]
    assert (status, "copied") == (report.rows[1].status, report.rows[1].why)
    assert ["home.late"] == [problem.slug for problem in report.problems]


@pytest.mark.parametrize(("name", "wanted"), [("home.seed", True), ("home.use", False)])
def test_nothing_leads_to_a_home_that_is_late(name: str, wanted: bool) -> None:
    world = World(60)
    assert world.late.wanted(name)
    world.at(0, "apply home.seed")
    world.at(61, "copying")

    assert wanted == world.late.wanted(name)
