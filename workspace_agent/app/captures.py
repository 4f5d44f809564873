"""What was installed by hand: found in this container, noted on the volume."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workspace_agent.app import replays
from workspace_agent.app.engine import open_boot
from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import counted
from workspace_agent.replay import captured, dists, inplace, offers
from workspace_agent.replay.capture import look
from workspace_agent.replay.captured import Captured, Texts
from workspace_agent.replay.store import opened

if TYPE_CHECKING:
    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.replay.place import Place
    from workspace_agent.start import Boot

# In the place of the environments: what was by hand here when we looked last, by folder.
_SEEN = "seen.json"


@dataclass(frozen=True)
class Found:
    """What a look has found: what *was* known, what is *now*, and the files that say so."""

    texts: Texts
    was: Captured
    now: Captured


def work(boot: Boot, busy: str) -> int:
    """Be PID 1's child: note what was installed by hand; returns the exit code.

    *busy* is an installer that is at work while the pod ends.
    """
    opening = open_boot(boot.environ, boot.mounts, root=boot.root, runtime=boot.runtime,
                        container=boot.container)  # fmt: skip
    if not files.is_folder(layout.state(opening.facts.volume.path)):
        return 0
    try:
        note(opening.facts, busy)
    except OSError as error:
        for line in not_captured(error).lines("degraded"):
            boot.say(line)
        return 1
    return 0


def note(facts: Facts, busy: str = "", *, dry_run: bool = False, clear: bool = False) -> Found:
    """Look, and write what differs; raises OSError. While *busy* is at work only that is noted.

    With *clear* what was interrupted before is told, and forgotten.
    """
    here, before = replays.place_of(facts), _texts(facts)
    was, old = Captured.parsed(before.json), table(files.read(f"{here.top}/{_SEEN}", 4 << 20))
    if busy:
        now, seen = replace(was, interrupted=busy), old
        after = replace(before, json=now.to_json())
    else:
        now, seen = _looked(facts, here, old, before, was)
        if not (now.interrupted or clear):
            now = replace(now, interrupted=was.interrupted)
        text = captured.listed(before.listed, was, now)
        json = None if now.is_empty else now.to_json()
        after = Texts(text, captured.locked(text, now), json)
    if not dry_run and after != before:
        with opened(facts.volume.path, facts.python.abi, make=True) as store:
            after.write(store.root, before)
    if not dry_run and seen != old:
        os.makedirs(here.top, exist_ok=True)
        files.commit(f"{here.top}/{_SEEN}", dumps(seen) + "\n")
    return Found(after, was, now)


def _texts(facts: Facts) -> Texts:
    try:
        with opened(facts.volume.path, facts.python.abi) as store:
            return Texts.read(store.root)
    except FileNotFoundError:
        return Texts()


def _looked(
    facts: Facts, here: Place, old: dict[str, Any], before: Texts, was: Captured
) -> tuple[Captured, dict[str, Any]]:
    """Look into every folder of packages; returns what is captured now, and what was seen."""
    since = _since(facts)
    mark = here.in_use()
    known = mark.dists if mark else {}
    sites = [one for one in map(os.path.realpath, replays.sites(facts, here)) if os.path.isdir(one)]
    volume = os.path.realpath(facts.volume.path)
    looks = {
        site: look(
            site, since, known=known, volume=volume,
            seen={n: at for n, at in old.get(site, {}).items() if n in was.packages},
        )
        for site in reversed(sites)  # the first wins, as on the interpreter's path
    }  # fmt: skip
    fresh = {name: one for each in looks.values() for name, one in each.fresh.items()}
    torn = tuple(sorted({name for each in looks.values() for name in each.torn}))
    installed = dists.installed(sites)
    mine = {name for site in sites for name in old.get(site, {})}
    gone = ({*mine, *(known.keys() & was.packages)} & was.packages.keys()) - installed.keys()
    others = offers.found(since, inplace.prefix(facts.python.site))
    now = replace(
        captured.updated(was, before.listed, fresh, gone, installed),
        offers={
            kind: tuple(sorted(({*was.offers.get(kind, ())} - {*old.get(kind, ())}) | names))
            for kind, names in others.items()
        },
        interrupted=", ".join(torn),
    )
    seen: dict[str, Any] = {s: dict(each.times) for s, each in looks.items() if each.times}
    seen |= {kind: sorted(names) for kind, names in others.items() if names}
    return now, seen


def _since(facts: Facts) -> int:
    """Return when the workload of this container was started, or the workspace set up (ns)."""
    for name in (layout.AGENT, layout.STATUS):
        try:
            return os.stat(f"{facts.runtime}/{name}").st_mtime_ns
        except OSError:
            continue
    raise FileNotFoundError(2, "no boot has left a report here", facts.runtime)


def not_captured(error: OSError) -> Problem:
    """Say that it could not be noted."""
    return Problem(
        "replay.not-captured",
        "what was installed by hand could not be noted on the volume",
        str(error.strerror or error),
        "what is installed works here; `workspace-agent replay capture` tries it again",
        str(error.filename or ""),
    )


def told(found: Found, profile: Profile) -> tuple[list[str], dict[str, Any]]:
    """Say what was captured, for people and for programs."""
    was, now = found.was.tops, found.now.tops
    pins = [one for one in (found.texts.locked or "").splitlines() if one[:1] not in ("", "#")]
    offers = {kind: names for kind, names in found.now.offers.items() if names}
    is_back = profile.replay.capture == "replay"
    lines = [
        *(f"{'=' if was.get(name) == line else '+'} {line}" for name, line in now.items()),
        *(f"- {line}" for name, line in was.items() if name not in now),
        *(f"! {kind}: {' '.join(names)}" for kind, names in offers.items()),
        f"the next pod gets {counted(len(pins), 'package')} back"
        if is_back
        else "nothing is brought back: `replay.capture` is not `replay`",
    ]
    data = {"captured": list(now.values()), "replayed": pins if is_back else [], "lock": pins,
            "offers": {kind: list(names) for kind, names in offers.items()},
            "interrupted": found.now.interrupted}  # fmt: skip
    return lines, data


def notes(found: Found) -> list[Problem]:
    """Return what was left out."""
    why = found.now.interrupted or found.was.interrupted
    what, fix = "an install was cut off, and is not captured", "install it again"
    return [Problem("replay.interrupted", what, why, fix)] if why else []
