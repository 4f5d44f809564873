"""The engine of a boot: PID 1's child does all of the work here and tells PID 1 the outcome."""

from __future__ import annotations

import os
from dataclasses import dataclass
from time import monotonic

from workspace_agent import consult
from workspace_agent.app import attempts, homes, plans, records, replays
from workspace_agent.app.facts import Facts, gather
from workspace_agent.app.perform import Performance
from workspace_agent.app.profiles import chosen
from workspace_agent.app.telling import Teller, announcement
from workspace_agent.config.load import Overlay
from workspace_agent.config.schema import Profile
from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.outcome import Report
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.recipe import compose, path_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from workspace_agent.app.reviving import Revive
    from workspace_agent.model.recipe import Recipe
    from workspace_agent.start import Boot

    Send = Callable[..., None]


@dataclass(frozen=True)
class Opening:
    """What a boot starts from; *notes* are problems that belong to no step."""

    profile: Profile
    facts: Facts
    trouble: Problem | None
    notes: tuple[Problem, ...] = ()


def open_boot(
    environ: Mapping[str, str],
    mounts: Mapping[str, tuple[str, str, bool]],
    *,
    root: str,
    runtime: str,
    container: bool,
    trouble: Problem | None = None,
    strict: bool = False,
    listen: Callable[[Profile], None] = lambda _: None,
) -> Opening:
    """Load the profile and gather the facts.

    With mistakes in the profile a boot goes on with the default one; *strict* raises ProfileError.
    *listen* hears the profile before the volume is touched for the first time.
    """
    notes: list[Problem] = []

    def read(*volume: Overlay) -> Profile:
        try:
            return chosen(environ, root, *volume).profile
        except AgentError as error:
            if strict:
                raise
            notes.append(error.problem)
            return Profile()

    profile = read()
    listen(profile)
    facts = gather(profile, environ, mounts, root=root, runtime=runtime, container=container)
    state = layout.state(facts.volume.path)
    if trouble is None and attempts.safe_mode(attempts.folder(facts)):
        notes.append(attempts.PROBLEM)
        profile = attempts.safe(profile)
    elif trouble is None and files.exists(f"{state}/{layout.PROFILE_IN_STATE}"):
        profile = read(Overlay(f"{state}/{layout.PROFILE_IN_STATE}", trusted=False))
    if trouble is None and facts.volume.note is not None:
        notes.append(facts.volume.note)
    return Opening(profile, facts, trouble, tuple(notes))


def work(boot: Boot, trouble: Mapping[str, str] | None, send: Send) -> None:
    """Be the engine of *boot*: everything up to the answer, then what may run beside it."""
    opening = open_boot(
        boot.environ,
        boot.mounts,
        root=boot.root,
        runtime=boot.runtime,
        container=boot.container,
        trouble=Problem(**trouble) if trouble else None,
        listen=lambda profile: send(consult.DEADLINE, profile.volume.deadline),
    )
    if files.exists(f"{boot.runtime}/{layout.RESTORING}"):  # of one that was killed
        from workspace_agent.app import reviving

        reviving.clean(opening.facts)
    teller = Teller(lambda: send(consult.ALIVE), boot.say)
    image = _held(opening)
    answered = False

    def answer(report: Report, recipe: Recipe) -> None:
        nonlocal answered
        if not answered:
            answered = True
            _publish(boot, opening, report, recipe)
            watch = replays.watched(opening.profile, opening.facts, performance.packages)
            found = _answer(boot, opening, report, recipe, performance.restored)
            send(consult.GO, {**found, "watch": watch})

    early = answer if "scripts" not in opening.profile.workload.needs else lambda *_: None
    performance = Performance(
        opening, tell=teller, wired=early, hurry=answer, revive=_reviving(boot, opening, send)
    )
    report, recipe = performance.all(), performance.recipe
    was_early, teller.mute = answered, answered
    answer(report, recipe)
    if was_early:
        is_news = not performance.restored or report.problems
        _publish(boot, opening, report, recipe, is_news=bool(is_news))
    os.nice(10)  # the workload runs already
    if opening.trouble is None and homes.settle(opening, image):
        # Not before: on the fast path nobody would make what is missing.
        plans.stamp(opening.facts, report, recipe)
    for problem in replays.settle(opening.facts, performance.packages):
        for line in problem.lines("degraded"):
            boot.say(line)
    _beside(boot, opening)


def _reviving(boot: Boot, opening: Opening, send: Send) -> Callable[[Recipe], Revive | None]:
    """Return what finds the step that goes on with a frozen workload."""

    def step(recipe: Recipe) -> Revive | None:
        profile, facts = opening.profile, opening.facts
        wanted = f"{layout.state(facts.volume.path)}/{layout.CHECKPOINTS_IN_STATE}"
        if not plans.floor(profile, facts) or not files.exists(
            f"{wanted}/{layout.CHECKPOINTS_WANTED}"
        ):
            return None
        from workspace_agent.app.checkpoints import Bench
        from workspace_agent.app.reviving import Revive
        from workspace_agent.start import HOLD

        argv = boot.argv or profile.workload.command or HOLD
        bench, env = Bench(profile, facts, argv), compose(recipe, boot.environ)
        return Revive(bench, os.getppid(), env, bury=lambda: send(consult.BURY),
                      release=lambda: send(consult.RELEASE))  # fmt: skip

    return step


def _held(opening: Opening) -> int:
    """Open the image's home, which mode `bind` puts out of sight; -1 where that is no use."""
    try:
        use = opening.trouble is None and opening.profile.home.mode == "bind"
        return os.open(opening.facts.image_home, os.O_RDONLY | os.O_DIRECTORY) if use else -1
    except OSError:
        return -1


def _publish(
    boot: Boot, opening: Opening, report: Report, recipe: Recipe, *, is_news: bool = True
) -> None:
    """Say on every surface how the boot went."""
    records.write(opening.facts, opening.profile, report, recipe)
    if opening.trouble is None:
        records.keep(opening.facts, opening.profile, report)
    for line in announcement(boot.environ, report, monotonic() - boot.began) if is_news else ():
        boot.say(line)


def _answer(
    boot: Boot, opening: Opening, report: Report, recipe: Recipe, restored: int
) -> dict[str, Any]:
    profile = opening.profile
    absent = opening.facts.volume.note is not None or "volume.ready" in _bad(report)
    lost = profile.checkpoint.fallback == "fail" and "checkpoint.restore" in _bad(report)
    env = compose(recipe, boot.environ)
    if opening.trouble is not None:  # PID 1 searches PATH, and must not search a dead volume
        env["PATH"] = path_beside(env.get("PATH", os.defpath), opening.facts.volume.path)
    return {
        "env": env,
        "command": list(profile.workload.command),
        "grace": profile.workload.grace,
        "termination_log": profile.report.termination_log,
        "budget": plans.budget(profile, opening.facts),
        "floor": plans.floor(profile, opening.facts),
        "freeze": profile.checkpoint.mode == "auto",
        "restored": restored,
        "problems": [problem.to_json() for problem in report.problems],
        "refused": _refused(profile.volume.required and absent, lost),
    }


def _refused(absent: bool, lost: bool) -> str:
    if absent:
        return "the volume is required, and is not usable"
    return "the frozen workload cannot go on, and `checkpoint.fallback` is `fail`" * lost


def _bad(report: Report) -> set[str]:
    return {row.name for row in report.rows if row.problem}


def _beside(boot: Boot, opening: Opening) -> None:
    """Make the private environment where it is missing; the workload runs already."""
    if boot.environ.get("WORKSPACE_AGENT_PRIVATE") == "0":
        return
    from workspace_agent.app import private

    if private.is_whole(boot.root):
        return
    private.make(boot.root, opening.facts.runtime, lambda _: None)
