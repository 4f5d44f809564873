"""From a profile and what a boot achieved to the recipe of the workload's environment."""

from __future__ import annotations

import os

from workspace_agent.model import layout
from workspace_agent.model.recipe import path_beside
from workspace_agent.steps import packages
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
    folders, notes = _packages(profile, facts)
    problems = [(folder, shadow_problem(folder)) for folder in folders]
    clean = [folder for folder, problem in problems if problem is None]
    recipe["python"] = folders
    if _has_conda(facts):  # environments made by name are then made on the volume
        recipe["default"]["CONDA_ENVS_PATH"] = f"{facts.volume.path}/envs"
    fixed = {"WORKSPACE_VOLUME": facts.volume.path, **recipe["set"]}
    recipe["set"] = fixed | _filled(profile, facts, profile.env.set)
    recipe["default"] |= _filled(profile, facts, profile.env.default)
    recipe["prepend"] = {"PATH": [facts.fill(profile, path) for path in profile.path.prepend]}
    if profile.path.pythonpath and clean:
        recipe["prepend"]["PYTHONPATH"] = clean
    if profile.home.mode in ("auto", "redirect") and "home.seed" not in bad:
        recipe["home"] = facts.fill(profile, profile.home.path)
    return recipe, (*notes, *(problem for _, problem in problems if problem))


def _packages(profile: Profile, facts: Facts) -> tuple[list[str], list[Problem]]:
    """Return the folders of packages, with those that hold some for this Python without its name
    (`pip install --target`), and what is wrong with others.
    """
    folders: list[str] = []
    notes: list[Problem] = []
    for folder in (facts.fill(profile, path) for path in profile.path.python):
        folders.append(folder)
        above = packages.parent(folder, facts.python.abi)
        if above and packages.has_any(above):
            problem = packages.mismatch(above, facts.python.abi)
            notes += [problem] if problem else []
            folders += [] if problem else [above]
    return folders, notes


def bare(profile: Profile, facts: Facts) -> Recipe:
    """Return the recipe of a boot without a volume: only what does not lead there."""
    return {
        "set": _runtime(facts),
        "default": _identity(facts),
        "prepend": {},
        "python": [],
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


def _has_conda(facts: Facts) -> bool:
    folders = path_beside(facts.environ.get("PATH", ""), facts.volume.path).split(":")
    return any(
        os.path.isfile(f"{one}/{tool}") for one in folders for tool in ("conda", "mamba") if one
    ) or os.path.isdir("/opt/conda/condabin")


def _filled(profile: Profile, facts: Facts, values: Mapping[str, str]) -> dict[str, str]:
    return {name: facts.fill(profile, value) for name, value in values.items()}
