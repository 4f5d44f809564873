"""Which packages a boot brings back: from the profile and the files on the volume to the step."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace

from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.problem import AgentError
from workspace_agent.model.recipe import compose, path_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.model.outcome import Step
    from workspace_agent.model.problem import Problem
    from workspace_agent.model.recipe import Recipe
    from workspace_agent.replay.asked import Asked
    from workspace_agent.replay.each_boot import PipEachBoot
    from workspace_agent.replay.place import Place
    from workspace_agent.replay.rules import Cards
    from workspace_agent.replay.step import Replay

# Names at the place where files of packages are looked for that mean some are there.
PREFIXES = ("requirements", "pylock.")
NAMES = ("pyproject.toml", "uv.lock", "environment.yml")


def step_of(
    profile: Profile,
    facts: Facts,
    recipe: Recipe,
    note: Callable[[Problem], None] = lambda _: None,
) -> Replay | PipEachBoot | None:
    """Return the step, or None where nothing asks for packages. *note* hears what is not right.

    What it runs has the environment of the workload that *recipe* makes.
    """
    if profile.replay.mode == "off" or profile.replay.trust == "never":
        return None
    env = environ(facts, recipe)
    found = chosen(profile, facts, env)
    if locks := by_hand(profile, facts):
        why = f"{found.why}; by hand" if found.files else "installed by hand"
        found = replace(found, files=(*found.files, *locks), why=why)
    for one in found.notes:
        note(one)
    if not found.files:
        return None
    try:
        found = replace(found, files=_without_lock(found, facts, env))
    except AgentError as error:
        note(error.problem)
        return None
    if profile.replay.mode == "pip-each-boot":
        from workspace_agent.replay.each_boot import PipEachBoot

        python, options = facts.python.executable, profile.replay.options
        log = f"{facts.runtime}/{layout.LOGS}/replay.log"
        return PipEachBoot(found, python, options, env, log, f"{place_of(facts).top}/each-boot")
    return _replay(found, profile, facts, env)


def _replay(asked: Asked, profile: Profile, facts: Facts, env: Mapping[str, str]) -> Replay:
    from workspace_agent.replay import key, step  # most boots have no use for them

    wish = profile.replay
    token = {"daily": time.strftime("%Y-%m-%d", time.gmtime()), "boot": facts.boot_id}
    return step.Replay(
        asked=asked,
        place=place_of(facts),
        volume=facts.volume.path,
        python=facts.python,
        policy=key.Policy(wish.mode, wish.on_conflict, wish.protected),
        env=env,
        logs=f"{facts.runtime}/{layout.LOGS}",
        boot_id=facts.boot_id,
        refresh=token.get(wish.refresh, ""),
    )


def place_of(facts: Facts) -> Place:
    """Return where the environments of this container lie."""
    from workspace_agent.replay import place

    return place.find(facts.environ, facts.uid, facts.system, facts.runtime)


def environ(facts: Facts, recipe: Recipe) -> dict[str, str]:
    """Return what installers run with: no command of theirs may come from a slow volume."""
    env = compose(recipe, facts.environ)
    return {**env, "PATH": path_beside(env.get("PATH", os.defpath), facts.volume.path)}


def chosen(profile: Profile, facts: Facts, env: Mapping[str, str]) -> Asked:
    """Return the files that say which packages; *env* leads to the tools.

    The cards are asked for only where the choice depends on them.
    """
    from workspace_agent.replay import asked

    folder = facts.fill(profile, profile.replay.dir)

    def cards() -> Cards:
        from workspace_agent.replay import gpu

        return gpu.known(facts.runtime, env)

    def has_uv() -> bool:
        from shutil import which

        return bool(which("uv", path=env["PATH"]))

    found = (
        asked.by_rule(profile.requirements, cards)
        if profile.requirements
        else asked.in_folder(folder, cards, has_uv)
    )
    paths = (os.path.join(folder, facts.fill(profile, one)) for one in found.files)
    return replace(found, files=tuple(paths), only_pinned=profile.replay.trust == "pinned")


def _without_lock(found: Asked, facts: Facts, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files of *found*, with lines instead of a uv.lock; raises AgentError."""

    def lines(lock: str) -> str:
        from workspace_agent.replay import uvlock

        return uvlock.as_lines(lock, found, facts.python.executable, facts.runtime, env)

    return tuple(lines(p) if os.path.basename(p) == "uv.lock" else p for p in found.files)


def settle(facts: Facts, step: Replay | None) -> tuple[Problem, ...]:
    """Do what may be done beside the workload, and return what is not right: the environment is
    stored, and the torch in it is held against the cards.
    """
    if step is None:
        return ()
    from workspace_agent.replay import gpu, torch_fit

    wrong = torch_fit.problem(step, lambda: gpu.known(facts.runtime, step.env))
    return tuple(problem for problem in (wrong, step.settle()) if problem)


def kept(step: Step | None) -> Replay | None:
    """Return *step* if it is the one whose packages lie in an environment."""
    return None if step is None or not hasattr(step, "place") else step  # type: ignore[return-value]


def kernel(facts: Facts, step: Replay | None) -> tuple[Step, ...]:
    """Return the step that tells Jupyter of the environment of *step*."""
    if step is None or step.policy.is_in_place or not facts.system or facts.uid != 0:
        return ()
    from workspace_agent.replay.kernel import Kernel

    return (Kernel(step.place.env, step.has("ipykernel")),)


def relock(profile: Profile, facts: Facts) -> None:
    """Have the list of what was installed by hand say what a person made of it."""
    if profile.replay.capture == "replay" and files.exists(_captured(facts.volume.path)[0]):
        from workspace_agent.replay import captured, store

        with suppress(OSError), store.opened(facts.volume.path, facts.python.abi) as at:
            captured.relock(at.root)


def by_hand(profile: Profile, facts: Facts) -> tuple[str, ...]:
    """Return the file of what was installed by hand, if that is to be brought back."""
    lock = _captured(facts.volume.path)[1]
    return (lock,) if profile.replay.capture == "replay" and files.exists(lock) else ()


def _captured(volume: str) -> tuple[str, str]:
    folder = f"{layout.state(volume)}/{layout.REPLAY_IN_STATE}"
    return f"{folder}/{layout.CAPTURED_IN}", f"{folder}/{layout.CAPTURED_LOCK}"


def told(profile: Profile, facts: Facts) -> list[str]:
    """Return the files that the profile itself names, and what was installed by hand."""
    if profile.replay.mode == "off":
        return []
    folder = facts.fill(profile, profile.replay.dir)
    named = [facts.fill(profile, one) for rule in profile.requirements for one in rule.files]
    own = _captured(facts.volume.path) if profile.replay.capture == "replay" else ()
    return [*(os.path.join(folder, one) for one in named), *own]


def asks(profile: Profile, facts: Facts) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return where, and by which names and prefixes of names, files ask for packages."""
    is_looked_for = profile.replay.mode != "off" and not profile.requirements
    return (facts.fill(profile, profile.replay.dir) if is_looked_for else "", NAMES, PREFIXES)


def watched(profile: Profile, facts: Facts, step: Replay | None) -> list[str]:
    """Return the local folders in which somebody may install something by hand."""
    if "off" in (profile.replay.mode, profile.replay.capture) or not facts.runtime:
        return []
    found = sites(facts, None if step is None or step.policy.is_in_place else step.place)
    prefix = facts.python.site.partition("/lib/python3")[0]
    return [*found, *([f"{prefix}/conda-meta"] if prefix and found else [])]


def sites(facts: Facts, place: Place | None) -> list[str]:
    """Return the folders of packages: of the environment in *place*, and the image's own.

    What is on the volume stays there by itself.
    """
    version = facts.python.abi.partition("-")[0][2:]
    own = f"{place.env}/lib/python{version[:1]}.{version[1:]}/site-packages" if place else ""
    volume = f"{os.path.realpath(facts.volume.path)}/"
    every = (own, facts.python.site)
    return [one for one in every if one and not os.path.realpath(one).startswith(volume)]


def wired(recipe: Recipe, step: Replay | None, has_line: bool = False) -> Recipe:
    """Return *recipe* leading to the environment of *step*, whatever is in it by then.

    Where the image *has_line* that leads to packages on the volume, PYTHONPATH does not: it would
    have them in front of the environment's.
    """
    if step is None or step.policy.is_in_place or not step.place.used():
        return recipe
    env = step.place.env
    paths = {n: p for n, p in recipe["prepend"].items() if n != "PYTHONPATH" or not has_line}
    return {
        **recipe,
        "set": {**recipe["set"], "VIRTUAL_ENV": env},
        "prepend": {**paths, "PATH": [*paths.get("PATH", []), f"{env}/bin"]},
    }
