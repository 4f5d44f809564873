"""`why-gone`: where a file or package lived, which end of a container took it, what keeps it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from workspace_agent.app import rescues
from workspace_agent.app.at_risk import advice
from workspace_agent.app.session import Told
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model import layout
from workspace_agent.model.jsontext import table
from workspace_agent.model.words import shown, size
from workspace_agent.rescue.store import Content, opened
from workspace_agent.watch.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workspace_agent.app.engine import Opening
    from workspace_agent.app.session import Session
    from workspace_agent.rescue.lines import Left, Saved


def why_gone(session: Session, what: str) -> Told:
    """Say what is known of *what*: a path, or the name of a package."""
    opening = session.open(strict=False)
    if "/" not in what and not os.path.lexists(what):
        lines = _package(opening, what)
        return Told(lines, {"package": shown(what), "said": lines})
    path = os.path.abspath(what)
    found = _runs(opening)
    lines = _path(opening, path, found)
    return Told(lines, {"path": shown(path), "said": lines})


def _runs(opening: Opening) -> list[tuple[str, Content]]:
    """Return what every container noted, the newest first."""
    owner = rescues.owner(opening.profile, opening.facts.environ)
    with suppress(OSError), opened(opening.facts.volume.path, owner) as store:
        return [(run, store.read(run)) for run in reversed(store.runs())]
    return []


def _path(opening: Opening, path: str, found: Sequence[tuple[str, Content]]) -> list[str]:
    volume = opening.facts.volume.path
    if os.path.lexists(path):
        return [f"{shown(path)} is here"]
    if f"{path}/".startswith(f"{volume}/"):
        backup = f"{layout.state(volume)}/{layout.BACKUP_IN_STATE}"
        return [
            f"{shown(path)} was on the volume, where only programs and people remove files",
            f"{backup} has what the agent itself replaced",
        ]
    for run, content in found:
        if path in content.gone:
            return [f"it was removed by somebody while {_of(run, content)} ran"]
        if saved := content.saved.get(path):
            return _saved(saved, run, content)
        above = [one for at, one in content.left.items() if f"{path}/".startswith(f"{at}/")]
        if above:
            return _left(opening, max(above, key=lambda one: len(one.path)), run, content)
    return [
        "no container has noted it: it was written and lost before the watcher saw it, or by a"
        " container without one, or its name is another",
        f"keep: mv {shown(path)} {volume}/",
    ]


def _saved(saved: Saved, run: str, content: Content) -> list[str]:
    when = _time(saved.mtime_ns // 10**9)
    lines = [f"it was last written at {when}, and is kept on the volume by {_of(run, content)}"]
    back = content.backs.get(saved.path)
    if back:
        lines.append(
            f"it was put back ({back.how}{' as ' + shown(back.place) if back.place else ''})"
        )
    return [*lines, f"bring it: workspace-agent rescue restore {shown(saved.path)}"]


def _left(opening: Opening, left: Left, run: str, content: Content) -> list[str]:
    home = opening.facts.fill(opening.profile, opening.profile.home.path)
    kind = left.kind if left.kind in KINDS else "other"
    return [
        f"it was outside the volume: {shown(left.path)}, {size(left.size)}, {kind}",
        f"it ended with {_of(run, content)}, and was not kept: {shown(left.why)}",
        f"keep: {advice(kind, left.path, opening.facts.volume.path, home)}",
    ]


def _of(run: str, content: Content) -> str:
    host = f" on {shown(content.header.host)}" if content.header.host else ""
    return f"the container{host} that began at {content.header.began or run[:16]}"


def _package(opening: Opening, name: str) -> list[str]:
    """Say what the list of packages that were installed by hand knows of *name*."""
    facts, wish = opening.facts, opening.profile.replay.capture
    found: list[str] = []
    with suppress(OSError), SafeRoot.at(facts.volume.path) as volume:
        below = f"{layout.STATE}/{layout.REPLAY_IN_STATE}"
        with volume.folder(below) as replay:
            for one in replay.names():
                data = table(replay.read(f"{one}/{layout.CAPTURED_JSON}"))
                data = data or (table(replay.read(one)) if one == layout.CAPTURED_JSON else {})
                found += _captured(data, name)
    fix = f"keep: echo {shown(name)} >> {facts.volume.path}/requirements.txt"
    if not found:
        return [f"no container has noted a package {shown(name)}; of a file, give the path", fix]
    back = "it is brought back" if wish == "replay" else "`replay.capture` does not bring it back"
    return [*found, f"it ended with the container: {back}", fix]


def _captured(data: dict[str, Any], name: str) -> list[str]:
    packages, offers = data.get("packages"), data.get("offers")
    lines = []
    if isinstance(packages, dict) and name.lower() in packages:
        lines.append(f"{shown(name)} was installed by hand into the container's own Python")
    if isinstance(offers, dict):
        lines += [f"{shown(name)} was installed by {shown(kind)}" for kind, names in offers.items()
                  if isinstance(names, list) and name in names]  # fmt: skip
    return lines


def _time(secs: int) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(secs))
