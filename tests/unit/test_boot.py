"""The loop: what a step's answer becomes, and the list of steps."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from workspace_agent.app.boot import (
    run,
    script_steps,
    use_home,
    wiring_steps,
    workspace_steps,
)
from workspace_agent.app.recipes import recipe_for
from workspace_agent.config.schema import HomeSection, Profile, ScriptsSection
from workspace_agent.model.outcome import Blocked, Check, Ok, Report, Row, Skip, Status, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.steps import trouble

TROUBLE = Problem("volume.full", "the volume is full")


@dataclass
class Fake:
    """Answers `check` from a list, the last answer for ever; remembers what was called."""

    name: str
    answers: list[Check | Exception]
    needs: tuple[str, ...] = ()
    ends: Exception | None = None
    calls: list[str] = field(default_factory=list)

    def check(self) -> Check:
        self.calls.append("check")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def apply(self, tell: Callable[[str], None]) -> None:
        self.calls.append("apply")
        tell("halfway")
        if self.ends:
            raise self.ends


def only(step: Fake, **options: object) -> Row:
    (row,) = run([step], Report(), **options).rows
    return replace(row, secs=0.0)


@pytest.mark.parametrize(
    ("answers", "status", "why", "calls"),
    [
        ([Ok("fine")], Status.OK, "fine", ["check"]),
        ([Skip("not here")], Status.SKIPPED, "not here", ["check"]),
        ([Blocked(TROUBLE)], Status.BLOCKED, "the volume is full", ["check"]),
        ([Todo("stale"), Ok("done")], Status.CHANGED, "done", ["check", "apply", "check"]),
        ([Todo("stale"), Ok()], Status.CHANGED, "stale", ["check", "apply", "check"]),
        ([Todo("stale"), Skip("no")], Status.CHANGED, "no", ["check", "apply", "check"]),
        ([Todo("stale")], Status.FAILED, "stale", ["check", "apply", "check"]),
        ([Todo("a"), Blocked(TROUBLE)], Status.FAILED, "the volume is full",
         ["check", "apply", "check"]),
    ],
)  # fmt: skip
def test_an_answer_becomes_a_row(
    answers: list[Check], status: Status, why: str, calls: list[str]
) -> None:
    step = Fake("one", list(answers))
    row = only(step)

    assert (status, why, calls) == (row.status, row.why, step.calls)


def test_only_blocked_and_failed_rows_carry_a_problem() -> None:
    kinds = [Ok(), Skip("x"), Blocked(TROUBLE)]
    rows = [only(Fake("one", [kind])) for kind in kinds]

    assert [None, None, TROUBLE] == [row.problem for row in rows]


def test_a_step_that_did_not_converge_has_failed_whatever_it_returned() -> None:
    row = only(Fake("one", [Todo("stale"), Todo("still stale")]))

    assert row.problem is not None
    assert ("step.not-done", "still stale") == (row.problem.slug, row.problem.why)


def test_a_step_that_is_blocked_afterwards_says_by_what() -> None:
    assert TROUBLE == only(Fake("one", [Todo("stale"), Blocked(TROUBLE)])).problem


@pytest.mark.parametrize("where", ["check", "apply"])
@pytest.mark.parametrize(
    ("error", "slug", "why"),
    [
        (AgentError(TROUBLE), "volume.full", "the volume is full"),
        (OSError(errno.ENOSPC, "x", "/v"), "volume.full", "the volume is full"),
        (OSError(errno.ELOOP, "x", "/v"), "volume.link-in-the-way", trouble._LINK[1]),
        (OSError(errno.ENOENT, "x", "/v"), "step.failed", "one did not work"),
        (TimeoutError("x"), "step.failed", "one did not work"),
        (ValueError("bad"), "step.crashed", "ValueError: bad"),
        (KeyError("k"), "step.crashed", "KeyError: 'k'"),
        (RecursionError("deep"), "step.crashed", "RecursionError: deep"),
    ],
)
def test_whatever_a_step_raises_is_a_failed_row(
    where: str, error: Exception, slug: str, why: str
) -> None:
    step = Fake("one", [error]) if where == "check" else Fake("one", [Todo("x")], ends=error)
    row = only(step)

    assert row.problem is not None
    assert (Status.FAILED, slug, why) == (row.status, row.problem.slug, row.why)


def test_the_steps_after_a_crash_still_run() -> None:
    report = run([Fake("one", [ValueError("x")]), Fake("two", [Ok()])], Report())

    assert [Status.FAILED, Status.OK] == [row.status for row in report.rows]


@pytest.mark.parametrize("first", [Blocked(TROUBLE), ValueError("x")])
def test_a_step_whose_need_failed_is_skipped_unasked_and_so_is_what_needs_that(
    first: Check | Exception,
) -> None:
    steps = [
        Fake("volume", [first]),
        Fake("home", [Ok()], needs=("volume",)),
        Fake("links", [Ok()], needs=("other", "home")),
        Fake("free", [Ok()]),
    ]
    report = run(steps, Report())

    assert [
        (Status.SKIPPED, "needs volume"),
        (Status.SKIPPED, "needs home"),
        (Status.OK, ""),
    ] == [(row.status, row.why) for row in report.rows[1:]]
    assert [[], [], ["check"]] == [step.calls for step in steps[1:]]


def test_a_step_whose_need_was_skipped_for_another_reason_runs() -> None:
    report = run([Fake("a", [Skip("not here")]), Fake("b", [Ok()], needs=("a",))], Report())

    assert [Status.SKIPPED, Status.OK] == [row.status for row in report.rows]


def test_needs_reach_back_into_the_report_before() -> None:
    before = Report((Row("volume", Status.FAILED),))
    report = run([Fake("home", [Ok()], needs=("volume",))], before)

    assert ["volume", "home"] == [row.name for row in report.rows]
    assert "needs volume" == report.rows[1].why


def test_a_dry_run_asks_and_applies_nothing() -> None:
    step = Fake("one", [Todo("stale", ("a", "b"))])
    row = only(step, dry_run=True)

    assert Row("one", Status.WOULD_CHANGE, "stale", detail=("a", "b")) == row
    assert ["check"] == step.calls


def test_the_plans_detail_is_in_the_report_too() -> None:
    assert ("a", "b") == only(Fake("one", [Todo("stale", ("a", "b")), Ok()])).detail


def test_tell_hears_the_name_before_the_work() -> None:
    heard: list[str] = []
    run([Fake("one", [Todo("x"), Ok()]), Fake("two", [Ok()])], Report(), tell=heard.append)

    assert ["apply one", "halfway"] == heard


def test_a_step_that_is_not_to_be_kept_is_left_out_unasked() -> None:
    steps = [Fake("one", [Ok()]), Fake("two", [Ok()])]
    report = run(steps, Report(), keep=lambda name: name == "two")

    assert ["left out", ""] == [row.why for row in report.rows]
    assert [[], ["check"]] == [step.calls for step in steps]


def test_times_are_those_of_the_clock() -> None:
    ticks = iter([0.0, 10.0, 12.5, 20.0])
    report = run([Fake("one", [Ok()])], Report(secs=1.0), clock=lambda: next(ticks))

    assert (2.5, 21.0) == (report.rows[0].secs, report.secs)


def test_notes_of_the_report_before_are_kept() -> None:
    assert (TROUBLE,) == run([], Report(notes=(TROUBLE,))).problems


def names(steps: object) -> list[str]:
    return [f"{type(step).__name__} {step.name}" for step in steps]


def whole(profile: Profile, facts: object) -> list[str]:
    recipe, _ = recipe_for(profile, facts, Report())
    first = workspace_steps(profile, facts)
    return names(
        (*first, *wiring_steps(profile, facts, recipe), *script_steps(profile, facts, recipe))
    )


def test_a_boot_of_a_pod_is_this_list(tmp_path: Path, facts: Callable) -> None:
    assert [
        "VolumeReady volume.ready",
        "HomeSeed home.seed",
        "PasswdHome home.use",
        "EnvFiles env.files",
        "ShellHooks shell.hooks",
        "PythonPath python.path",
        "SetupScripts scripts",
    ] == whole(Profile(), facts(tmp_path, system=True))


def test_outside_a_container_only_the_volume_the_runtime_folder_and_the_workload_change(
    tmp_path: Path, facts: Callable
) -> None:
    assert [
        "VolumeReady volume.ready",
        "HomeSeed home.seed",
        "EnvFiles env.files",
        "SetupScripts scripts",
    ] == whole(Profile(), facts(tmp_path, system=False))


@pytest.mark.parametrize(
    ("mode", "system", "uid", "user", "expected"),
    [
        ("auto", True, 0, "root", ["PasswdHome home.use"]),
        ("redirect", True, 0, "root", ["PasswdHome home.use"]),
        ("auto", True, 1000, "coder", ["LinkHome home.use"]),
        ("auto", True, 0, "", ["LinkHome home.use"]),
        ("bind", True, 0, "root", ["BindHome home.use"]),
        ("bind", True, 1000, "coder", ["LinkHome home.use"]),
        ("links", True, 0, "root", ["LinkHome home.use"]),
        ("copy", True, 0, "root", []),
        ("off", True, 0, "root", []),
        ("auto", False, 0, "root", []),
        ("links", False, 0, "root", []),
        ("bind", False, 0, "root", []),
    ],
)
def test_how_programs_are_led_to_the_home(
    mode: str,
    system: bool,
    uid: int,
    user: str,
    expected: list[str],
    tmp_path: Path,
    facts: Callable,
) -> None:
    profile = replace(Profile(), home=replace(HomeSection(), mode=mode))
    found = use_home(profile, facts(tmp_path, system=system, uid=uid, user=user), "/volume/home")

    assert expected == names(found)


def test_mode_off_neither_copies_nor_leads_anywhere(tmp_path: Path, facts: Callable) -> None:
    profile = replace(Profile(), home=replace(HomeSection(), mode="off"))

    assert ["VolumeReady volume.ready"] == names(workspace_steps(profile, facts(tmp_path)))


def test_scripts_can_be_switched_off(tmp_path: Path, facts: Callable) -> None:
    profile = replace(Profile(), scripts=replace(ScriptsSection(), enabled=False))

    assert "SetupScripts scripts" not in whole(profile, facts(tmp_path))


def test_every_need_is_the_name_of_an_earlier_step(tmp_path: Path, facts: Callable) -> None:
    here = facts(tmp_path, system=True)
    recipe, _ = recipe_for(Profile(), here, Report())
    seen: set[str] = set()
    for step in (
        *workspace_steps(Profile(), here),
        *wiring_steps(Profile(), here, recipe),
        *script_steps(Profile(), here, recipe),
    ):
        assert set(step.needs) <= seen
        seen.add(step.name)


def test_the_profile_fills_the_fields_of_the_steps(tmp_path: Path, facts: Callable) -> None:
    here = facts(tmp_path)
    ready, seed = workspace_steps(Profile(), here)
    volume = f"{tmp_path}/volume"

    assert (f"{volume}/bin", f"{volume}/pip-packages/cp311-x86_64") == ready.folders
    assert (f"{volume}/.workspace-agent",) == ready.private
    assert (64 << 20, None) == (seed.min_free, ready.trouble)
    assert (f"{tmp_path}/image", f"{volume}/home", ".packet-init") == (
        seed.source,
        seed.target,
        seed.marker,
    )
    assert (volume, f"{tmp_path}/install") == seed.prune


@pytest.mark.parametrize(("system", "skeleton"), [(True, ""), (False, "/etc/skel")])
def test_only_outside_a_container_a_large_home_gives_way_to_the_skeleton(
    system: bool, skeleton: str, tmp_path: Path, facts: Callable
) -> None:
    assert skeleton == workspace_steps(Profile(), facts(tmp_path, system=system))[1].skeleton
