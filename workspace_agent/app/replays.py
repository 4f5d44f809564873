"""Which packages a boot brings back: from the profile and the files on the volume to the step."""

from __future__ import annotations

import os

from workspace_agent.model import layout
from workspace_agent.model.recipe import compose, path_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.model.recipe import Recipe
    from workspace_agent.replay.step import Replay

# Names at the place where files of packages are looked for that mean some are there.
PREFIXES = ("requirements", "pylock.")
NAMES = ("pyproject.toml", "uv.lock", "environment.yml")


def step_of(profile: Profile, facts: Facts, recipe: Recipe) -> Replay | None:
    """Return the step, or None where nothing asks for packages. The files themselves are not read.

    What it runs has the environment of the workload that *recipe* makes.
    """
    found = chosen(profile, facts) if profile.replay.mode != "off" else ()
    if not found:
        return None
    from workspace_agent.replay import key, place, step  # most boots have no use for them

    return step.Replay(
        files=found,
        place=place.find(facts.environ, facts.uid, facts.system, facts.runtime),
        volume=facts.volume.path,
        python=facts.python,
        policy=key.Policy(
            profile.replay.mode, profile.replay.on_conflict, profile.replay.protected
        ),
        env=environ(facts, recipe),
        logs=f"{facts.runtime}/logs",
        boot_id=facts.boot_id,
    )


def environ(facts: Facts, recipe: Recipe) -> dict[str, str]:
    """Return what installers run with: no command of theirs may come from a slow volume."""
    env = compose(recipe, facts.environ)
    return {**env, "PATH": path_beside(env.get("PATH", os.defpath), facts.volume.path)}


def chosen(profile: Profile, facts: Facts) -> tuple[str, ...]:
    """Return the files that say which packages; raises nothing: a volume in trouble has none."""
    folder = facts.fill(profile, profile.replay.dir)
    for rule in profile.requirements:
        return tuple(os.path.join(folder, facts.fill(profile, one)) for one in rule.files)
    try:
        names = os.listdir(folder)
    except OSError:
        return ()
    return tuple(f"{folder}/{name}" for name in by_convention(names))


def told(profile: Profile, facts: Facts) -> list[str]:
    """Return the files that the profile itself names, and what was installed by hand."""
    if profile.replay.mode == "off":
        return []
    folder = facts.fill(profile, profile.replay.dir)
    named = [facts.fill(profile, one) for rule in profile.requirements for one in rule.files]
    lock = f"{layout.state(facts.volume.path)}/{layout.REPLAY_IN_STATE}/{layout.CAPTURED_LOCK}"
    own = [lock] if profile.replay.capture == "replay" else []
    return [*(os.path.join(folder, one) for one in named), *own]


def asks(profile: Profile, facts: Facts) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return where, and by which names and prefixes of names, files ask for packages."""
    is_looked_for = profile.replay.mode != "off" and not profile.requirements
    return (facts.fill(profile, profile.replay.dir) if is_looked_for else "", NAMES, PREFIXES)


def by_convention(names: Collection[str]) -> tuple[str, ...]:
    """Return which of the *names* in a folder are meant when nobody says. Pure."""
    for name in ("pylock.toml", "requirements.txt"):
        if name in names:
            return (name,)
    return ()


def wired(recipe: Recipe, step: Replay | None) -> Recipe:
    """Return *recipe* leading to the environment of *step*, whatever is in it by then."""
    if step is None or step.is_in_place or not step.place.used():
        return recipe
    env = step.place.env
    paths = recipe["prepend"]
    return {
        **recipe,
        "set": {**recipe["set"], "VIRTUAL_ENV": env},
        "prepend": {**paths, "PATH": [*paths.get("PATH", []), f"{env}/bin"]},
    }
