"""The surfaces of a boot: status.json, the banner, the history on the volume."""

from __future__ import annotations

import time

from workspace_agent import __version__
from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.model.outcome import Report, Status
from workspace_agent.model.problem import Problem
from workspace_agent.steps.volume import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.model.outcome import Row
    from workspace_agent.model.recipe import Recipe

# What only these steps do is worth remembering on the volume; a warm boot writes nothing there.
_WORTH_KEEPING = ("volume.ready", "home.seed", "home.upgrade", "scripts")


def write(facts: Facts, profile: Profile, report: Report, recipe: Recipe) -> None:
    """Write status.json and the banner of this boot; a runtime folder that refuses is left out."""
    if facts.runtime:
        found = to_json(facts, profile, report, recipe)
        _publish(facts.runtime, found, banner(profile, report.problems))


def amend(runtime: str, profile: Profile, booted: Mapping[str, Any], row: Row) -> None:
    """Let the surfaces of the boot *booted* say *row* of a step that was done again since."""
    same = [one for one in booted["steps"] if one["name"] == row.name]
    problems = [one for one in booted["problems"] if one not in [old["problem"] for old in same]]
    problems += [row.problem.to_json()] if row.problem else []
    found = {
        **booted,
        "status": "degraded" if problems else "ok",
        "steps": [row.to_json() if one in same else one for one in booted["steps"]],
        "problems": problems,
    }
    _publish(runtime, found, banner(profile, [Problem(**one) for one in problems]))


def greet(runtime: str, profile: Profile, more: Sequence[str]) -> None:
    """Let the banner say *more* than what this boot found."""
    booted = table(files.read(f"{runtime}/{layout.STATUS}"))
    problems = [Problem(**one) for one in booted.get("problems", ())]
    try:
        _write_or_remove(f"{runtime}/{layout.BANNER}", banner(profile, problems, more))
    except OSError:
        return


def _publish(runtime: str, found: Mapping[str, object], greeting: str) -> None:
    try:
        _write_or_remove(f"{runtime}/{layout.BANNER}", greeting)
        files.commit(f"{runtime}/{layout.STATUS}", dumps(found) + "\n")
    except OSError:
        return


def keep(facts: Facts, profile: Profile, report: Report) -> None:
    """Add this boot to the history on the volume, if it changed anything there."""
    changed = any(
        row.name in _WORTH_KEEPING and row.status in (Status.CHANGED, Status.FAILED)
        for row in report.rows
    )
    state = layout.state(facts.volume.path)
    if not changed or not profile.report.history or not files.is_folder(state):
        return
    from workspace_agent.host.safe_root import SafeRoot  # a warm boot keeps nothing

    folder = f"{layout.STATE}/{layout.BOOTS_IN_STATE}"
    try:
        with SafeRoot.at(facts.volume.path) as volume, volume.folder(folder, 0o700) as boots:
            name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{facts.boot_id}.json"
            boots.commit(name, dumps(_report(report)) + "\n")
            ours = sorted(one for one in boots.names() if one[8:9] == "T" and one[-5:] == ".json")
            for old in ours[: -profile.report.history]:
                boots.remove(old)
    except OSError:
        return  # the history is a convenience; the step's own problem says what is wrong


def to_json(facts: Facts, profile: Profile, report: Report, recipe: Recipe) -> dict[str, object]:
    """Return status.json's content."""
    # A volume in trouble is not even looked at.
    done = [row.name for row in report.rows if row.status in (Status.OK, Status.CHANGED)]
    return {
        "schema": 1,
        "status": report.status,
        "path": "engine",
        "agent": __version__,
        "boot_id": facts.boot_id,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "profile": profile.name,
        "volume": facts.volume.path,
        "survives": facts.volume.survives,
        "volume_uuid": identity(facts.volume.path) if "volume.ready" in done else "",
        "home": recipe["home"],
        **_report(report),
    }


def banner(profile: Profile, problems: Sequence[Problem], more: Sequence[str] = ()) -> str:
    """Return what an interactive shell shows; nothing when all is well and there is no *more*."""
    if not profile.report.banner or not (problems or more):
        return ""
    rule = "-" * 72
    lines = [f"! {p.what}" + (f"\n  fix: {p.fix}" if p.fix else "") for p in problems]
    lines += [f"! {line}" for line in more]
    return "\n".join([rule, *lines, "  more: workspace-agent status", rule, ""])


def _report(report: Report) -> dict[str, object]:
    return {
        "secs": round(report.secs, 6),
        "steps": [row.to_json() for row in report.rows],
        "problems": [problem.to_json() for problem in report.problems],
    }


def _write_or_remove(path: str, text: str) -> None:
    if text:
        files.commit(path, text)
    else:
        files.remove(path)
