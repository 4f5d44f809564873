"""doctor: the steps' own checks, what an exec sees, and the agent's install."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workspace_agent import fastpath
from workspace_agent.app import look
from workspace_agent.app.perform import Performance
from workspace_agent.model import layout
from workspace_agent.model.outcome import Row, Status
from workspace_agent.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workspace_agent.app.session import Session
    from workspace_agent.model.recipe import Recipe


@dataclass(frozen=True)
class Finding:
    """One thing doctor looked at; without a *problem* it is all right."""

    about: str
    why: str
    problem: Problem | None = None

    def to_json(self) -> dict[str, object]:
        """Return the finding as JSON-ready values."""
        problem = self.problem.to_json() if self.problem else None
        return {"about": self.about, "why": self.why, "problem": problem}


def examine(session: Session) -> list[Finding]:
    """Look at everything; writes nothing."""
    opening = session.open(strict=False, dry_run=True)
    performance = Performance(opening, dry_run=True)
    report, recipe = performance.all(), performance.recipe
    findings = [Finding(p.slug, p.what, p) for p in report.notes]
    findings += [_from_row(row) for row in report.rows]
    if opening.facts.container:
        findings += exec_view(recipe, session.environ, opening.facts.runtime or layout.RUNTIME)
    return [*findings, *_install(session)]


def exec_view(recipe: Recipe, environ: Mapping[str, str], runtime: str) -> Iterator[Finding]:
    """Compare what `kubectl exec POD -- CMD` sees, the container's own *environ*, with the recipe.

    Nothing inside the container can change that view; only the image or the pod spec can.
    """
    for name, entries in recipe["prepend"].items():
        if name != "PATH":
            continue  # a .pth line reaches an exec'ed Python
        missing = [e for e in entries if e not in environ.get(name, "").split(":")]
        yield _contract(f"exec {name}", missing, f"ENV {name}={':'.join(entries)}:${name}")
    bash_env = environ.get("BASH_ENV", "")
    script = f"{runtime}/{layout.ENV_SH}"
    yield _contract("exec bash -c", [] if bash_env else ["BASH_ENV"], f"ENV BASH_ENV={script}")
    unseen = [n for n, v in recipe["set"].items() if environ.get(n) != v and n not in _OURS]
    yield _contract("exec variables", unseen, "ENV lines for them, or `workspace-agent env -- CMD`")


# The verbs find these out by themselves, and an environment of packages is found by PATH.
_OURS = ("WORKSPACE_VOLUME", "WORKSPACE_AGENT_RUNTIME", "VIRTUAL_ENV")


def _contract(about: str, missing: list[str], fix: str) -> Finding:
    if not missing:
        return Finding(about, "the image provides it")
    what = f"`kubectl exec` does not see {', '.join(missing)}"
    why = "it gets the image's environment, and no file in the container changes that"
    return Finding(about, what, Problem("image.contract", what, why, f"in the Dockerfile: {fix}"))


def _from_row(row: Row) -> Finding:
    problem = row.problem
    # Scripts and the environment belong to a boot, and there may be none at this moment.
    if row.status is Status.WOULD_CHANGE and row.name not in ("scripts", "env.files"):
        what = f"{row.name}: {row.why}"
        problem = Problem("step.pending", what, "", "`workspace-agent setup`")
    return Finding(row.name, row.why, problem)


def _install(session: Session) -> Iterator[Finding]:
    made = look.private_state(session)
    yield Finding("private environment", made)
    if not session.container:
        return
    if fastpath.load(session.root) is not None:
        yield Finding("fast path", "this image is baked")
        return
    what = "this image is not baked: every boot asks the engine"
    fix = f"RUN python3 -I {session.root}/workspace_agent image bake"
    yield Finding("fast path", what, Problem("image.not-baked", what, "", fix))
    if os.geteuid() != 0:
        yield Finding("user", "not root: /etc and the passwd entry stay as the image has them")
