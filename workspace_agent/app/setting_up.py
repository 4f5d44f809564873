"""The boot's steps from a person's shell: the same list, in the foreground."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from workspace_agent.app import homes, plans, records, replays
from workspace_agent.app.boot import LEFT_OUT, known_steps
from workspace_agent.app.perform import Performance
from workspace_agent.model.problem import AgentError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workspace_agent.app.session import Session
    from workspace_agent.model.outcome import Report


def _with_needs(only: Sequence[str], needs: Mapping[str, Sequence[str]]) -> dict[str, bool]:
    """Return for every step whether it is one of *only*, or one of those rests on it."""
    wanted = dict.fromkeys(needs, False)
    queue = [name for name in only if name in needs]
    while queue:
        name = queue.pop()
        wanted[name] = True
        queue += [need for need in needs[name] if not wanted.get(need, True)]
    return wanted


def _refuse_unknown(names: Iterable[str], known: Iterable[str]) -> None:
    if unknown := sorted(set(names) - set(known)):
        fix = f"the steps here are {', '.join(sorted(known))}"
        raise AgentError(Problem("usage", f"there is no step `{unknown[0]}`", fix=fix))


def set_up(
    session: Session, *, dry_run: bool = False, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> tuple[str, Report]:
    """Run the steps; returns the facts one would ask for anyway, and the report.

    Raises AgentError for a step name that does not exist.
    """
    opening = session.open(dry_run=dry_run)
    facts = opening.facts
    header = f"volume {facts.volume.path} · {facts.volume.kind} · profile {opening.profile.name}"
    wanted = _with_needs(only, known_steps(opening.profile, facts))
    _refuse_unknown({*only, *skip}, wanted)
    performance = Performance(
        opening,
        dry_run=dry_run,
        keep=lambda name: name not in skip and (not only or wanted[name]),
    )
    report, recipe = performance.all(), performance.recipe
    chosen = replace(report, rows=tuple(r for r in report.rows if r.why != LEFT_OUT))
    if not dry_run and not only and not skip:
        records.write(facts, opening.profile, report, recipe)
        records.keep(facts, opening.profile, report)
        if homes.settle(opening):
            plans.stamp(facts, report, recipe)
        notes = replays.settle(facts, performance.packages)
        chosen = replace(chosen, notes=(*chosen.notes, *notes))
    return header, chosen
