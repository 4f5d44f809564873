"""A boot is a list: the steps in order, and the loop that runs them."""

from __future__ import annotations

import time
from dataclasses import replace

from workspace_agent.app.recipes import bare
from workspace_agent.model import layout
from workspace_agent.model.outcome import Blocked, Ok, Report, Row, Skip, Status, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.recipe import compose
from workspace_agent.steps.home import HomeSeed
from workspace_agent.steps.identity import BindHome, LinkHome, PasswdHome
from workspace_agent.steps.python import PythonPath
from workspace_agent.steps.scripts import SetupScripts
from workspace_agent.steps.shell import EnvFiles, ShellHooks, hooks
from workspace_agent.steps.trouble import from_oserror
from workspace_agent.steps.volume import VolumeReady

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.model.outcome import Step
    from workspace_agent.model.recipe import Recipe

LEFT_OUT = "left out"


def workspace_steps(
    profile: Profile,
    facts: Facts,
    trouble: Problem | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Step, ...]:
    """Return the steps that make the workspace: the volume, and the home on it.

    *tell* hears of a check that takes long.
    """
    volume = facts.volume.path
    state = layout.state(volume)
    ready = VolumeReady(
        path=volume,
        kind=facts.volume.kind,
        folders=tuple(
            facts.fill(profile, path) for path in (*profile.path.prepend, *profile.path.python)
        ),
        private=(state,),
        trouble=trouble,
    )  # fmt: skip
    if profile.home.mode == "off":
        return (ready,)
    home = facts.fill(profile, profile.home.path)
    use = use_home(profile, facts, home)
    seed = HomeSeed(
        source=facts.image_home,
        target=home,
        marker=profile.home.marker,
        state=state,
        prune=(volume, facts.root),
        exclude=profile.home.exclude,
        skeleton="" if facts.system else "/etc/skel",
        boot_id=facts.boot_id,
        min_free=profile.volume.min_free,
        threads=profile.home.threads,
        kind=facts.volume.kind,
        image=facts.environ.get("WORKSPACE_AGENT_IMAGE", ""),
        moved=tuple(name for one in use if isinstance(one, LinkHome) for name in one.moved),
    )
    if profile.home.upgrade != "unmodified":
        return (ready, seed, *use)
    from workspace_agent.steps.upgrade import HomeUpgrade  # most boots have no use for it

    return (ready, seed, HomeUpgrade(seed, tell), *use)


def use_home(profile: Profile, facts: Facts, home: str) -> tuple[Step, ...]:
    """Return the step that leads programs to *home*, for the profile's mode."""
    mode = profile.home.mode
    root = facts.system and facts.uid == 0
    if mode in ("copy", "off") or not facts.system:
        return ()
    if mode == "bind" and root:
        return (BindHome(home, facts.image_home),)
    if mode != "links" and root and facts.user:
        return (PasswdHome(facts.user, home, image_home=facts.image_home, note=layout.IMAGE_HOME),)
    return (LinkHome(home, facts.image_home, profile.home.links),)


def wiring_steps(profile: Profile, facts: Facts, recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps that make every shell and interpreter see the workspace."""
    runtime = EnvFiles(facts.runtime, recipe, facts.environ)
    if not _is_ours(facts):
        return (runtime,)
    wanted = hooks(recipe, facts.environ, facts.runtime or layout.RUNTIME)
    return (runtime, ShellHooks(wanted), PythonPath(facts.python.site, recipe["python"]))


def leads_to_packages(facts: Facts, recipe: Recipe) -> bool:
    """Say whether the image's Python finds packages on the volume by a line of its own."""
    line = PythonPath(facts.python.site, recipe["python"])
    return _is_ours(facts) and not isinstance(line.check(), Skip)


def _is_ours(facts: Facts) -> bool:
    return facts.system and facts.uid == 0


def script_steps(profile: Profile, facts: Facts, recipe: Recipe) -> tuple[Step, ...]:
    """Return the step that runs the user's own scripts, if the profile wants that."""
    if not profile.scripts.enabled:
        return ()
    return (
        SetupScripts(
            file=facts.fill(profile, profile.scripts.file),
            folder=facts.fill(profile, profile.scripts.dir),
            volume=facts.volume.path,
            runtime=facts.runtime,
            env=compose(recipe, facts.environ),
            timeout=profile.scripts.timeout,
        ),
    )


def known_steps(profile: Profile, facts: Facts) -> dict[str, tuple[str, ...]]:
    """Return the name of every step of a boot here, and what it needs; nothing is read."""
    recipe = bare(profile, facts)
    steps: tuple[Step, ...] = (
        *workspace_steps(profile, facts),
        *wiring_steps(profile, facts, recipe),
        *script_steps(profile, facts, recipe),
    )
    found = {step.name: step.needs for step in steps}
    if profile.replay.mode != "off":
        found["replay"] = ()
    if profile.rescue.mode != "off" and facts.system:
        found["rescue.back"] = ("volume.ready",)
    return found


def run(
    steps: Sequence[Step],
    before: Report,
    *,
    dry_run: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    keep: Callable[[str], bool] = lambda _: True,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Run *steps* after those of *before*; returns all rows. Never raises for what a step does.

    A step whose name is not to *keep* is neither asked nor run.
    """
    rows = list(before.rows)
    began = clock()
    for step in steps:
        if keep(step.name):
            rows.append(_row(step, rows, dry_run, tell, clock))
        else:
            rows.append(Row(step.name, Status.SKIPPED, LEFT_OUT))
    return Report(tuple(rows), before.secs + clock() - began, before.notes)


def _row(
    step: Step,
    rows: Sequence[Row],
    dry_run: bool,
    tell: Callable[[str], None],
    clock: Callable[[], float],
) -> Row:
    bad = {row.name for row in rows if row.is_missing}
    missing = [name for name in step.needs if name in bad]
    if missing:
        return Row(step.name, Status.SKIPPED, f"needs {missing[0]}")
    began = clock()
    try:
        row = _converge(step, dry_run, tell)
    except Exception as error:
        # A fault of ours must not take the pod's workload with it.
        row = _failed(step.name, error)
    return replace(row, secs=clock() - began)


def _failed(name: str, error: Exception) -> Row:
    if isinstance(error, AgentError):
        problem = error.problem
    elif isinstance(error, OSError):
        problem = from_oserror(error, str(error.filename or ""), name)
    else:
        why = f"{type(error).__name__}: {error}"
        problem = Problem("step.crashed", f"{name} broke", why, "please report this")
        return Row(name, Status.FAILED, why, problem=problem)
    return Row(name, Status.FAILED, problem.what, problem=problem)


def _converge(step: Step, dry_run: bool, tell: Callable[[str], None]) -> Row:
    found = step.check()
    if isinstance(found, Blocked):
        return Row(step.name, Status.BLOCKED, found.problem.what, problem=found.problem)
    if not isinstance(found, Todo):
        return Row(step.name, Status.OK if isinstance(found, Ok) else Status.SKIPPED, found.why)
    row = Row(step.name, Status.WOULD_CHANGE, found.why, detail=found.detail)
    if dry_run:
        return row
    tell(f"apply {step.name}")  # heard by app/attempts
    note = step.apply(tell)
    after = step.check()
    if isinstance(after, Ok | Skip):
        return replace(row, status=Status.CHANGED, why=after.why or found.why, problem=note)
    if isinstance(after, Blocked):
        return replace(row, status=Status.FAILED, why=after.problem.what, problem=after.problem)
    what, fix = f"{step.name} did not hold", "run it again with -v"
    problem = Problem("step.not-done", what, after.why, fix)
    return replace(row, status=Status.FAILED, why=after.why, problem=problem)
