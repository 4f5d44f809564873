"""What `workspace-agent rescue` says and does: now, plan, ls, show, restore, undo, prune."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from workspace_agent.app import back, notices, rescues
from workspace_agent.app.at_risk import NO_LAYER
from workspace_agent.app.session import Told
from workspace_agent.app.survey import ground, survey
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, duration, named, shown, size
from workspace_agent.rescue.plan import plan as planned
from workspace_agent.rescue.saving import Limits
from workspace_agent.rescue.store import Content, Store, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from workspace_agent.app.engine import Opening
    from workspace_agent.app.session import Session
    from workspace_agent.model.atrisk import Entry
    from workspace_agent.rescue.back import PutBack
    from workspace_agent.rescue.lines import Saved

# Before the volume was measured, in bytes a second.
_RATE = 50e6

# What the runtime needs of a pod's grace for itself.
_OWN = 5.0

# So many files of a list are shown to people; programs get all.
_SHOWN = 40

_NOTHING = Problem(
    "rescue.nothing",
    "nothing was kept on this volume",
    "no container has had files outside of it that would be missed",
)


def now(session: Session, secs: float, tell: Callable[[str], None]) -> Told:
    """Keep everything that is outside the volume, in at most *secs* seconds (0: what it takes)."""
    opening = _in_container(session)
    profile, facts = opening.profile, opening.facts
    here = ground(profile, facts)
    refuse = rescues.refused(profile, facts)
    entries = survey(here, lambda one: one.kind != "hidden").entries
    wanted, left = rescues.sorted_out(entries, refuse)
    until = time.monotonic() + secs if secs else None
    made = planned(wanted, secs=secs or 1e9, rate=_rate(facts.runtime), room=profile.rescue.most)
    with rescues.locked(facts.runtime), ExitStack() as stack, SafeRoot.at("/") as top:
        try:
            run = rescues.run_of(facts, here, profile.rescue, stack)
        except OSError as error:
            raise AgentError(rescues.not_saved(error)) from error
        whole = rescues.whole(made.take, here.layer.born)
        done = run.save(top, whole, Limits(until=until, refuse=refuse), tell)
        left = [*left, *made.left, *done.left]
        run.left(rescues.summed(sorted(left, key=lambda one: -one[0].value), _SHOWN))
    lines = [
        f"{done.saved} files and folders kept ({size(done.bytes)}, {duration(done.secs)}),"
        f" {done.unchanged} unchanged",
        *_left_lines(left),
    ]
    data = {
        "saved": done.saved, "unchanged": done.unchanged, "bytes": done.bytes,
        "secs": round(done.secs, 3), "left": [_left(one, why) for one, why in left],
    }  # fmt: skip
    return Told(lines, data, [done.problem] if done.problem else [])


def plan(session: Session) -> Told:
    """Say what a stop would keep in its grace, what not, and which grace would do."""
    opening = _in_container(session)
    profile, facts = opening.profile, opening.facts
    entries = survey(ground(profile, facts), lambda one: one.kind != "hidden").entries
    wanted, left = rescues.sorted_out(entries, rescues.refused(profile, facts))
    known = _kept_before(opening)
    fresh = [one for one in wanted if not _is_kept(one, known.get(one.path))]
    rate, grace = _rate(facts.runtime), profile.workload.grace
    made = planned(fresh, secs=grace, rate=rate, room=profile.rescue.most)
    left = [*left, *made.left]
    fits = sum(one.size for one in made.take)
    lines = [
        f"kept already: {counted(len(wanted) - len(fresh), 'file')}",
        f"fits into {duration(grace)}: {counted(len(made.take), 'file')}, {size(fits)}"
        f" at {size(int(rate))} a second",
        *_left_lines(left),
    ]
    if made.needed > grace:
        need = duration(made.needed + _OWN)
        lines.append(
            f"a grace of {need} would fit all: terminationGracePeriodSeconds, workload.grace"
        )
    data = {"kept": len(wanted) - len(fresh), "fits": len(made.take), "bytes": fits,
            "grace": grace, "rate": int(rate), "needed": round(made.needed, 1),
            "left": [_left(one, why) for one, why in left]}  # fmt: skip
    return Told(lines, data)


def ls(session: Session) -> Told:
    """Say which containers have something on the volume."""
    with _store(session) as (store, _):
        found = [(run, store.read(run)) for run in reversed(store.runs())]
        used = store.used()
    lines = [_run_line(run, content) for run, content in found]
    data = {"runs": [_run_data(run, content) for run, content in found], "bytes": used}
    return Told([*lines, f"{size(used)} on the volume"], data)


def show(session: Session, name: str) -> Told:
    """Say what is kept of the run *name*, or of all that the next boot looks at."""
    with _store(session) as (store, _):
        if name and name not in store.runs():
            raise AgentError(Problem("rescue.no-run", f"there is no run {name}",
                                     fix="`workspace-agent rescue ls` names them"))  # fmt: skip
        content = store.read(name) if name else store.chain()
    files = [one for one in content.saved.values() if one.type != "d"]
    lines = [f"{shown(one.path)}  {size(one.size)}  {one.kind}{'  torn' * one.torn}"
             for one in sorted(files, key=lambda one: one.path)]  # fmt: skip
    missed = [f"! {shown(one.path)}  {size(one.size)}  {one.kind}: {shown(one.why)}"
              for one in content.left.values()]  # fmt: skip
    data = {"files": [_saved(one) for one in files],
            "left": [{**named(one.path), "kind": one.kind, "size": one.size, "why": one.why}
                     for one in content.left.values()]}  # fmt: skip
    return Told([*lines, *missed, counted(len(files), "file")], data)


def restore(
    session: Session, wanted: Sequence[str], kinds: Sequence[str], to: str, dry_run: bool
) -> Told:
    """Put back what is kept: these paths (and what is below them), or kinds; all without any."""
    with _step(session) as step:

        def is_chosen(one: Saved) -> bool:
            near = any(one.path == path or one.path.startswith(f"{path}/") for path in wanted)
            return near or one.kind in kinds or not (wanted or kinds)

        if to and not dry_run:
            os.makedirs(to, 0o700, exist_ok=True)
        putting = step.restore(is_chosen, to=to, dry_run=dry_run)
    rows = [(path, verdict) for path, verdict in putting.done if verdict.how != "same"]
    lines = [f"{verdict.how:<9} {shown(path)}{_why(verdict.why)}" for path, verdict in rows]
    data = {"dry_run": dry_run, "files": [
        {**named(path), "how": verdict.how, "why": verdict.why}
        for path, verdict in putting.done]}  # fmt: skip
    problem = None if dry_run else putting.problem()
    return Told(lines or ["all of it is there"], data, [problem] if problem else [])


def undo(session: Session) -> Told:
    """Take away what this boot has put back, where nobody changed it since."""
    with _step(session) as step:
        found = step.undo()
    lines = [f"{one.how:<9} {shown(path)}{_why(one.why)}" for path, one in found]
    data = {"files": [{**named(path), "how": one.how, "why": one.why} for path, one in found]}
    return Told(lines or ["nothing was put back"], data)


def prune(session: Session, keep: int, dry_run: bool) -> Told:
    """Remove what no boot looks at any more."""
    with _store(session) as (store, opening), rescues.locked(opening.facts.runtime):
        gone = store.prune(keep, dry_run=dry_run)
        used = store.used()
    word = "would be removed" if dry_run else "removed"
    lines = [*(f"- {name}" for name in gone), f"{len(gone)} {word}, {size(used)} left"]
    return Told(lines, {"removed": gone, "dry_run": dry_run, "bytes": used})


def _why(text: str) -> str:
    return f"  ({shown(text)})" if text else ""


def _in_container(session: Session) -> Opening:
    opening = session.open(strict=False)
    if not opening.facts.system:
        raise AgentError(NO_LAYER)
    return opening


@contextmanager
def _store(session: Session) -> Iterator[tuple[Store, Opening]]:
    opening = session.open(strict=False)
    owner = rescues.owner(opening.profile, opening.facts.environ)
    try:
        with opened(opening.facts.volume.path, owner) as store:
            yield store, opening
    except FileNotFoundError:
        raise AgentError(_NOTHING) from None


@contextmanager
def _step(session: Session) -> Iterator[PutBack]:
    opening = _in_container(session)
    step = back.step_of(opening.profile, opening.facts)
    if step is None:
        raise AgentError(_NOTHING)
    with rescues.locked(opening.facts.runtime):
        try:
            yield step
        except FileNotFoundError:
            raise AgentError(_NOTHING) from None


def _kept_before(opening: Opening) -> dict[str, Saved]:
    """Return what is on the volume of what the next boot looks at."""
    owner = rescues.owner(opening.profile, opening.facts.environ)
    with suppress(OSError), opened(opening.facts.volume.path, owner) as store:
        return store.chain().saved
    return {}


def _is_kept(entry: Entry, known: Saved | None) -> bool:
    return known is not None and (known.size, known.mtime_ns) == (entry.size, entry.mtime_ns)


def _rate(runtime: str) -> float:
    """Return the bytes a second that the watcher has measured."""
    kept = notices.seen(runtime).get("kept")
    rate = kept.get("rate") if isinstance(kept, dict) else None
    return float(rate) if isinstance(rate, int) and rate > 0 else _RATE


def _left_lines(left: Sequence[tuple[Entry, str]]) -> list[str]:
    lines = [
        f"! {shown(one.path)}  {size(one.size)}  {one.kind}: {shown(why)}"
        for one, why in rescues.summed(sorted(left, key=lambda one: -one[0].value), _SHOWN)
        if one.value
    ]
    return [f"not kept: {counted(len(left), 'file')}", *lines] if lines else []


def _left(entry: Entry, why: str) -> dict[str, Any]:
    return {**named(entry.path), "kind": entry.kind, "size": entry.size, "why": why}


def _saved(one: Saved) -> dict[str, Any]:
    return {**named(one.path), "kind": one.kind, "size": one.size, "torn": one.torn,
            "mtime": one.mtime_ns // 10**9, "sha256": one.sha256}  # fmt: skip


def _run_line(run: str, content: Content) -> str:
    data = _run_data(run, content)
    end = data["end"] or "was cut off, or goes on"
    return f"{run}  {counted(data['files'], 'file')}, {size(data['bytes'])}, {shown(end)}"


def _run_data(run: str, content: Content) -> dict[str, Any]:
    files = [one for one in content.saved.values() if one.type != "d"]
    return {"run": run, "began": content.header.began, "host": shown(content.header.host),
            "files": len(files), "bytes": sum(one.size for one in files),
            "left": len(content.left), "end": content.end}  # fmt: skip
