"""doctor: what `kubectl exec` cannot see, and what a step would do."""

from __future__ import annotations

import pytest

from workspace_agent.app.diagnosis import _from_row, exec_view
from workspace_agent.model.outcome import Row, Status
from workspace_agent.model.problem import Problem

RECIPE = {
    "set": {"WORKSPACE_VOLUME": "/workspace", "HF_HOME": "/workspace/hf"},
    "default": {},
    "prepend": {"PATH": ["/workspace/bin"], "PYTHONPATH": ["/workspace/pip"]},
    "home": "/workspace/home",
    "image_home": "/root",
    "allow": [],
    "secret": [],
}
RUNTIME = "/run/workspace-agent"
BAKED = {
    "PATH": "/workspace/bin:/usr/bin",
    "BASH_ENV": f"{RUNTIME}/env.sh",
    "HF_HOME": "/workspace/hf",
}


def view(environ: dict[str, str]) -> dict[str, str]:
    """Return the remedy of each red cell."""
    found = exec_view(RECIPE, environ, RUNTIME)
    return {one.about: one.problem.fix for one in found if one.problem}


def test_an_image_that_keeps_the_contract_has_no_red_cell() -> None:
    assert {} == view(BAKED)


@pytest.mark.parametrize(
    ("missing", "about", "line"),
    [
        ("PATH", "exec PATH", "ENV PATH=/workspace/bin:$PATH"),
        ("BASH_ENV", "exec bash -c", f"ENV BASH_ENV={RUNTIME}/env.sh"),
        ("HF_HOME", "exec variables", "ENV lines for them"),
    ],
)
def test_each_missing_variable_is_one_red_cell_with_the_line_that_heals_it(
    missing: str, about: str, line: str
) -> None:
    found = view({name: value for name, value in BAKED.items() if name != missing})

    assert [about] == list(found)
    assert line in found[about]


def test_an_environment_that_path_leads_to_needs_no_variable() -> None:
    env = "/opt/workspace-env/env"
    recipe = {**RECIPE, "set": {"VIRTUAL_ENV": env}, "prepend": {"PATH": [f"{env}/bin"]}}
    environ = {**BAKED, "PATH": f"{env}/bin:/usr/bin"}

    assert not [one for one in exec_view(recipe, environ, RUNTIME) if one.problem]


def test_the_remedy_of_a_cell_heals_it() -> None:
    fix = view({**BAKED, "PATH": "/usr/bin"})["exec PATH"]
    path = fix.partition("PATH=")[2].replace("$PATH", "/usr/bin")

    assert {} == view({**BAKED, "PATH": path})


@pytest.mark.parametrize(
    ("row", "slug"),
    [
        (Row("home.seed", Status.WOULD_CHANGE, "first boot"), "step.pending"),
        (Row("scripts", Status.WOULD_CHANGE, "1 to run"), None),
        (Row("home.seed", Status.OK), None),
        (Row("home.seed", Status.BLOCKED, problem=Problem("a.b", "x")), "a.b"),
    ],
)
def test_a_row_becomes_a_finding(row: Row, slug: str | None) -> None:
    problem = _from_row(row).problem

    assert slug == (problem.slug if problem else None)
