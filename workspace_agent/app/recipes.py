"""From a profile and what a boot achieved to the recipe of the workload's environment."""

from __future__ import annotations

from workspace_agent.model import layout
from workspace_agent.steps.python import shadow_problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.model.outcome import Report
    from workspace_agent.model.problem import Problem
    from workspace_agent.model.recipe import Recipe


def recipe_for(
    profile: Profile, facts: Facts, report: Report
) -> tuple[Recipe, tuple[Problem, ...]]:
    """Return the recipe, and what had to be left out of it.

    Without a usable volume nothing leads there; HOME moves only when the home is whole.
    """
    recipe = bare(profile, facts)
    bad = {row.name for row in report.rows if row.is_missing}
    if "volume.ready" in bad:
        return recipe, ()
    folders = [facts.fill(profile, path) for path in profile.path.python]
    problems = [(folder, shadow_problem(folder)) for folder in folders]
    clean = [folder for folder, problem in problems if problem is None]
    fixed = {"WORKSPACE_VOLUME": facts.volume.path, **recipe["set"]}
    recipe["set"] = fixed | _filled(profile, facts, profile.env.set)
    recipe["default"] |= _filled(profile, facts, profile.env.default)
    recipe["prepend"] = {"PATH": [facts.fill(profile, path) for path in profile.path.prepend]}
    if profile.path.pythonpath and clean:
        recipe["prepend"]["PYTHONPATH"] = clean
    if profile.home.mode in ("auto", "redirect") and "home.seed" not in bad:
        recipe["home"] = facts.fill(profile, profile.home.path)
    return recipe, tuple(problem for _, problem in problems if problem)


def bare(profile: Profile, facts: Facts) -> Recipe:
    """Return the recipe of a boot without a volume: only what does not lead there."""
    return {
        "set": _runtime(facts),
        "default": _identity(facts),
        "prepend": {},
        "home": "",
        "image_home": facts.image_home,
        "allow": list(profile.env.propagate.allow),
        "secret": list(profile.env.propagate.secret),
    }


def _runtime(facts: Facts) -> dict[str, str]:
    """Lead the verbs to this boot's runtime folder where it is not the usual one."""
    usual = facts.runtime in ("", layout.RUNTIME)
    return {} if usual else {"WORKSPACE_AGENT_RUNTIME": facts.runtime}


def _identity(facts: Facts) -> dict[str, str]:
    """Name a user without a passwd entry, or `getpass` and its like fail in the workload."""
    if facts.user:
        return {}
    return {"USER": f"user-{facts.uid}", "LOGNAME": f"user-{facts.uid}"}


def _filled(profile: Profile, facts: Facts, values: Mapping[str, str]) -> dict[str, str]:
    return {name: facts.fill(profile, value) for name, value in values.items()}
