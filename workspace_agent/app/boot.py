"""A boot is a list: the steps in order, and the loop that runs them."""

from __future__ import annotations

import time

from workspace_agent.app.recipes import bare
from workspace_agent.model import layout
from workspace_agent.model.outcome import BAD, Blocked, Ok, Report, Row, Skip, Status, Todo
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
    if not facts.system or facts.uid != 0:
        return (runtime,)
    folders = [facts.fill(profile, path) for path in profile.path.python]
    wanted = hooks(recipe, facts.environ, facts.runtime or layout.RUNTIME)
    return (runtime, ShellHooks(wanted), PythonPath(facts.python.site, folders))


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
    steps = (
        *workspace_steps(profile, facts),
        *wiring_steps(profile, facts, recipe),
        *script_steps(profile, facts, recipe),
    )
    return {step.name: step.needs for step in steps}


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
    bad = {row.name for row in rows if row.status in BAD or row.why.startswith("needs ")}
    missing = [name for name in step.needs if name in bad]
    if missing:
        return Row(step.name, Status.SKIPPED, f"needs {missing[0]}")
    began = clock()
    try:
        status, why, detail, problem = _converge(step, dry_run, tell)
    except AgentError as error:
        status, why, detail, problem = Status.FAILED, error.problem.what, (), error.problem
    except OSError as error:
        problem = from_oserror(error, str(error.filename or ""), step.name)
        status, why, detail = Status.FAILED, problem.what, ()
    except Exception as error:
        # A fault of ours must not take the pod's workload with it.
        what, why = f"{step.name} broke", f"{type(error).__name__}: {error}"
        problem = Problem("step.crashed", what, why, "please report this", "")
        status, detail = Status.FAILED, ()
    return Row(step.name, status, why, clock() - began, detail, problem)


def _converge(
    step: Step, dry_run: bool, tell: Callable[[str], None]
) -> tuple[Status, str, tuple[str, ...], Problem | None]:
    found = step.check()
    if not isinstance(found, Todo):
        return *_settled(found), None if not isinstance(found, Blocked) else found.problem
    if dry_run:
        return Status.WOULD_CHANGE, found.why, found.detail, None
    tell(f"apply {step.name}")  # heard by app/attempts
    note = step.apply(tell)
    after = step.check()
    if isinstance(after, Ok | Skip):
        return Status.CHANGED, after.why or found.why, found.detail, note
    why = after.why if isinstance(after, Todo) else after.problem.what
    problem = (
        after.problem
        if isinstance(after, Blocked)
        else Problem("step.not-done", f"{step.name} did not hold", why, "run it again with -v", "")
    )
    return Status.FAILED, why, found.detail, problem


def _settled(found: Ok | Skip | Blocked) -> tuple[Status, str, tuple[str, ...]]:
    if isinstance(found, Ok):
        return Status.OK, found.why, ()
    if isinstance(found, Skip):
        return Status.SKIPPED, found.why, ()
    return Status.BLOCKED, found.problem.what, ()
