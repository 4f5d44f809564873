"""What `workspace-agent replay` says and does: status, plan, why, run, capture, prune."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workspace_agent.app import captures, records, replays
from workspace_agent.app.boot import run as run_steps
from workspace_agent.app.recipes import recipe_for
from workspace_agent.app.session import Told
from workspace_agent.host import installing
from workspace_agent.model import layout
from workspace_agent.model.outcome import Report
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, shown, size
from workspace_agent.replay import key
from workspace_agent.replay.redact import redacted
from workspace_agent.replay.store import opened
from workspace_agent.steps.trouble import from_oserror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workspace_agent.app.session import Session
    from workspace_agent.replay.step import Replay
    from workspace_agent.replay.store import Manifest


def status(session: Session) -> Told:
    """Say which environment is in use, and which are stored."""
    with _step(session) as step:
        wanted, mark = step.want.key, step.place.in_use()
        stored, failed = _stored(step)
    data: dict[str, Any] = {
        "wanted": wanted,
        "used": mark.key if mark else None,
        "path": step.place.env,
        "packages": mark.dists if mark else {},
        "conflicts": list(mark.said) if mark else [],
        "failed": failed,
        "stored": [_as_data(one) for one in stored],
    }
    is_it = mark is not None and mark.key == wanted
    words = "as the files ask" if is_it else f"the files ask for {wanted[:8]}"
    lines = [
        f"{'environment':<12} {f'{mark.key[:8]}, {words}' if mark else f'none; {words}'}",
        f"{'files':<12} {', '.join(map(shown, step.asked.files))}",
        f"{'path':<12} {step.place.env}",
        f"{'packages':<12} {len(data['packages'])} beside the image's {len(step.want.base)}",
        *(f"{'conflict':<12} {shown(one)}" for one in data["conflicts"]),
        *([f"{'failed':<12} {shown(failed)}"] if failed else []),
        *(f"{'stored':<12} {_told(one)}" for one in stored),
    ]
    return Told(lines, data)


def plan(session: Session) -> Told:
    """Say what a build would add, and where that is at odds with the image."""
    with _step(session) as step:
        step.stopgap()  # what pip plans against
        found, sizes = step.builder(step.place.env).weighed()
    conflicts = [
        redacted(one.sentence(sum(sizes.get(name, 0) for name in (one.name, *one.brings))))
        for one in found.conflicts
    ]
    kept = [redacted(one.sentence()) for one in found.kept]
    lines = [f"+ {name} {version}".rstrip() for name, version in sorted(found.additions.items())]
    lines += [f"! {shown(one)}" for one in conflicts]
    lines += [f"= {shown(one)}: the image's stays" for one in kept]
    lines.append(
        f"{counted(len(found.additions), 'package')} to add beside the image's"
        f" {len(step.want.base)}, {counted(len(conflicts), 'conflict')}"
    )
    data = {"additions": dict(found.additions), "conflicts": conflicts, "kept": kept}
    return Told(lines, data)


def why(session: Session) -> Told:
    """Say in what the files, or the image, are not as they were for the last environment."""
    with _step(session) as step, opened(step.volume, step.profile) as store:
        last = store.current().get("current", "")
        manifest = store.manifest(last)
        if manifest is None:
            return Told(["no environment is stored: the next boot builds one"], {"changed": []})
        changed = key.difference(manifest.facts, step.want.facts)
    lines = [*map(shown, changed), f"{last[:8]} -> {step.want.key[:8]}"]
    return Told(lines if changed else [f"nothing: {last[:8]} is what the files ask for"],
                {"changed": changed, "from": last, "to": step.want.key})  # fmt: skip


def run(session: Session, tell: Callable[[str], None]) -> Told:
    """Have in use what the files ask for, now, and store it."""
    with _step(session) as step:
        # A failure from before is tried again; a read-only volume has none of now.
        with suppress(OSError), opened(step.volume, step.profile, make=True) as store:
            store.remember(step.want.key, "")
        report = run_steps([step], Report(), tell=tell)
        note = step.settle(tell)
    (row,) = report.rows
    if booted := session.read(layout.STATUS):
        records.amend(session.runtime, session.open(dry_run=True).profile, booted, row)
    problems = (*report.problems, *([note] if note else []))
    return Told([f"{row.status.value}: {row.why}"], {"row": row.to_json()}, problems)


def capture(session: Session, dry_run: bool) -> Told:
    """Note what was installed by hand, and say what of it comes back."""
    opening = session.open(dry_run=dry_run)
    if busy := installing.installer():
        what, fix = f"{busy} is at work", "call this again once it is through"
        raise AgentError(
            Problem("replay.installing", what, "what it installs is not whole yet", fix)
        )
    try:
        found = captures.note(opening.facts, dry_run=dry_run, clear=True)
    except OSError as error:
        raise AgentError(captures.not_captured(error)) from error
    lines, data = captures.told(found, opening.profile)
    return Told(lines, {"dry_run": dry_run, **data}, captures.notes(found))


def prune(session: Session, keep: int, dry_run: bool) -> Told:
    """Remove stored environments that are not in use, but for the newest *keep*."""
    with _step(session) as step, opened(step.volume, step.profile) as store:
        gone = store.spare(keep) if dry_run else store.prune(keep)
    said = "would remove" if dry_run else "removed"
    return Told([*(f"{said} {one[:8]}" for one in gone), counted(len(gone), "environment")],
                {"dry_run": dry_run, "removed": gone})  # fmt: skip


@contextmanager
def _step(session: Session) -> Iterator[Replay]:
    """Yield the step of the session's profile; raises AgentError where nothing asks for packages,
    and for what the volume answers.
    """
    opening = session.open(dry_run=True)
    recipe, _ = recipe_for(opening.profile, opening.facts, Report())
    notes: list[Problem] = []
    found = replays.step_of(opening.profile, opening.facts, recipe, notes.append)
    step = replays.kept(found)
    if step is None:
        if notes:
            raise AgentError(notes[-1])
        if found:
            what = "`replay.mode` is `pip-each-boot`: nothing is stored, and nothing planned"
            raise AgentError(Problem("replay.nothing", what, fix="set it to `overlay`"))
        fix = "put a requirements.txt at the volume's root, or name files by `[[requirements]]`"
        raise AgentError(Problem("replay.nothing", "nothing asks for packages", fix=fix))
    if step.refresh == step.boot_id:  # as this boot has looked them up
        booted = session.read(layout.STATUS) or {}
        step = replace(step, refresh=str(booted.get("boot_id", "")))
    try:
        yield step
    except FileNotFoundError as error:
        what = "no environment is stored on this volume"
        raise AgentError(Problem("replay.nothing", what, fix=_RUN)) from error
    except OSError as error:
        raise AgentError(from_oserror(error, str(error.filename or ""), "replay")) from error


_RUN = "`workspace-agent replay run` builds and stores one"


def _stored(step: Replay) -> tuple[list[Manifest], str]:
    """Return what is stored, and why a build of what is asked for failed lately."""
    with suppress(OSError), opened(step.volume, step.profile) as store:
        found = [found for one in store.stored() if (found := store.manifest(one))]
        return found, store.failed(step.want.key)
    return [], ""


def _as_data(manifest: Manifest) -> dict[str, Any]:
    return {
        "key": manifest.mark.key,
        "made": manifest.made,
        "packages": len(manifest.mark.dists),
        "files": manifest.files,
        "bytes": manifest.size,
        "packed": manifest.packed,
        "built_secs": round(manifest.mark.built_secs, 3),
    }


def _told(manifest: Manifest) -> str:
    return (
        f"{manifest.mark.key[:8]} of {shown(manifest.made)},"
        f" {counted(len(manifest.mark.dists), 'package')},"
        f" {size(manifest.packed)} for {size(manifest.size)}"
    )
