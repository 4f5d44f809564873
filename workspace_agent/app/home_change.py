"""What `workspace-agent home` does to a home: merge, reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workspace_agent.app import homes
from workspace_agent.app.boot import run
from workspace_agent.app.home_look import amount, as_data, below, held, no_default, opened
from workspace_agent.app.session import Told
from workspace_agent.model import layout
from workspace_agent.model.outcome import Report
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, shown
from workspace_agent.steps import marker
from workspace_agent.steps.places import Places
from workspace_agent.steps.threeway import Verdict
from workspace_agent.steps.upgrade import HomeUpgrade, is_within

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workspace_agent.app.session import Session

_WORDS = {Verdict.CHANGED: "replace", Verdict.NEW: "add", Verdict.CONFLICT: "put beside"}


def merge(session: Session, files: Sequence[str], dry_run: bool) -> Told:
    """Do what the image asks of the home, or of *files* in it."""
    with opened(session, dry_run=dry_run) as (upgrade, opening, _):
        try:
            asked = upgrade.merge(only=[below(file, upgrade) for file in files], dry_run=dry_run)
        except AgentError as error:
            if error.problem.slug != "home.no-base":
                raise
            return Told(["nothing was done"], {"done": []}, (error.problem,))
        if not dry_run:
            homes.settle(opening)  # what the next comparison rests on
    return _told([(path, _WORDS[verdict]) for path, verdict in asked.items()], dry_run)


def reset(session: Session, files: Sequence[str], dry_run: bool) -> Told:
    """Bring back the image's defaults, all or *files*; what they replace goes into a backup."""
    with opened(session, dry_run=dry_run) as (upgrade, opening, at):
        found = dict(at.verdicts(None, closely=True))
        only = [below(file, upgrade) for file in files]
        for one in only:
            if not any(is_within(path, [one]) for path in found):
                raise AgentError(no_default(one))
        asked = _unlike(found.items(), only)
        left: list[str] = []
        problems: tuple[Problem, ...] = ()
        if only and not dry_run:
            upgrade.lay(at, asked)
        elif not dry_run:
            problems = _again(upgrade, at)
            homes.settle(opening)
        if not dry_run:
            left = _unlike(at.verdicts(None), only)
            problems = problems or _not_laid(left, upgrade.seed.target)
        backup = amount(at.state, layout.BACKUP_IN_STATE)
    brought = sorted(set(asked).difference(left))
    told = _told([(path, "bring back") for path in brought], dry_run)
    return Told([*told.lines, f"backups: {held(backup)}"], told.data | {"backup": backup}, problems)


def _unlike(found: Iterable[tuple[str, Verdict]], only: Sequence[str]) -> list[str]:
    """Return the defaults that are not as in the image."""
    unlike = (path for path, verdict in found if verdict is not Verdict.SAME)
    return [path for path in unlike if not only or is_within(path, only)]


def _not_laid(paths: Sequence[str], home: str) -> tuple[Problem, ...]:
    if not paths:
        return ()
    return (
        Problem(
            "home.not-laid",
            f"{counted(len(paths), 'default')} could not be brought back",
            "what has their place is not replaced by them: " + ", ".join(map(shown, paths[:5])),
            "move it away and do it again",
            home,
        ),
    )


def _again(upgrade: HomeUpgrade, at: Places) -> tuple[Problem, ...]:
    """Take the marker away, which stands for "fresh defaults", and do as the next boot would."""
    seed = upgrade.seed
    if not seed.was_made():
        marker.record(at.state, seed.record, seed.boot_id, {})
    with at.state.folder(upgrade.backup, 0o700) as backup:
        at.home.rename(seed.marker, seed.marker, backup)
        problems = run([seed], Report()).problems
        if not seed.is_made():  # no room, say: the home is as it was
            backup.rename(seed.marker, seed.marker, at.home)
    return problems


def _told(rows: Sequence[tuple[str, str]], dry_run: bool) -> Told:
    said = "would " * dry_run
    lines = [f"{said}{word:<11} {shown(path)}" for path, word in rows]
    lines.append(counted(len(rows), "default") + ". Nothing was written." * dry_run)
    return Told(lines, {"dry_run": dry_run, "done": as_data(rows)})
