"""What the watcher says: advice in the pod's log, watch.json for `status`, the login banner."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from workspace_agent.app import at_risk, records
from workspace_agent.host import files
from workspace_agent.host.room import room
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import counted, shown, size
from workspace_agent.watch import usage
from workspace_agent.watch.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.app.facts import Facts
    from workspace_agent.app.survey import Ground
    from workspace_agent.config.schema import Profile
    from workspace_agent.model.atrisk import Entry
    from workspace_agent.watch.inventory import Inventory
    from workspace_agent.watch.writers import Writer

    Who = Callable[[str, str, int, int], Writer]

# One line of advice a kind in so many seconds; the first once there is much, or it is quiet.
_AGAIN, _MUCH, _QUIET = 600.0, 20 << 20, 60.0

# Kinds that are worth less are nobody's work.
_WORTH = 20

_EVERY = 2.0

# The pod's own limit, by the downward API: `resources.limits.ephemeral-storage`.
LIMIT = "WORKSPACE_AGENT_EPHEMERAL_LIMIT"

# Samples of what is used, for the rate; one in so many seconds.
_SAMPLES, _APART = 12, 10.0

_NEAR = 1800.0

_HELP = "workspace-agent at-risk"


class Notices:
    """Says what *inventory* has, when it is news; *who* wrote a file is asked for its newest."""

    def __init__(
        self, profile: Profile, facts: Facts, here: Ground, who: Who, say: Callable[[str], None]
    ) -> None:
        self._profile, self._facts, self._here, self._who, self._say = (
            profile,
            facts,
            here,
            who,
            say,
        )
        self._newest: dict[str, Entry] = {}
        self._where: dict[str, str] = {}
        self._said: dict[str, tuple[float, int]] = {}
        self._samples: list[tuple[float, int]] = []
        self._due = self._sampled = 0.0
        self._warned = 0
        self._last: dict[str, Any] = {}
        self._greeted: list[str] = []

    def take(self, entry: Entry) -> None:
        """Hear of a file that is new, or has changed."""
        if entry.value >= _WORTH:
            last, self._newest[entry.kind] = self._newest.get(entry.kind), entry
            above = entry.path.rpartition("/")[0]
            if last is None:
                self._where[entry.kind] = above or "/"
            elif last.path.rpartition("/")[0] != above:  # a look goes from folder to folder
                near = self._where[entry.kind]
                self._where[entry.kind] = os.path.commonpath([near, above or "/"])

    def on_time(
        self, now: float, inventory: Inventory, state: Callable[[], dict[str, object]]
    ) -> None:
        """Say what is due, and write watch.json where it changed."""
        if now < self._due:
            return
        self._due = now + _EVERY
        for kind, (count, used) in inventory.sums.items():
            if count and KINDS[kind].value >= _WORTH:
                self._advise(kind, count, used, now)
        if now - self._sampled >= _APART:
            self._sampled = now
            self._samples = [*self._samples[1 - _SAMPLES :], (now, inventory.used)]
        self._write(inventory, state())

    def _advise(self, kind: str, count: int, used: int, now: float) -> None:
        newest = self._newest.get(kind)
        last, before = self._said.get(kind, (now - _AGAIN, 0))
        if newest is None or now - last < _AGAIN or count <= before:
            return
        if used < _MUCH and time.time() - newest.ctime_ns / 1e9 < _QUIET:
            return
        self._said[kind] = (now, count)
        where = self._where[kind] if count > 1 else newest.path
        if where == "/":  # never the root: the folder of the newest
            where = "/" + newest.path.split("/")[1]
        home = self._facts.fill(self._profile, self._profile.home.path)
        advice = at_risk.advice(kind, where, self._facts.volume.path, home)
        changed = newest.ctime_ns
        writer = str(self._who(newest.path, kind, changed, changed))
        many = KINDS[kind].many or kind
        by = f", {writer}" if writer else ""
        self._say(
            f"outside the volume: {many}, {counted(count, 'file')}, {size(used)} in "
            f"{shown(where)}{shown(by)}; keep: {shown(advice)}"
        )

    def _forecast(self, used: int) -> usage.Forecast | None:
        try:
            disk = room("/")
        except OSError:
            return None
        declared = self._facts.environ.get(LIMIT, "")
        limits = usage.limits(declared, used, disk.size, disk.used, disk.free)
        return usage.forecast(self._samples, limits)

    def _write(self, inventory: Inventory, state: dict[str, object]) -> None:
        ahead = self._forecast(inventory.used)
        if ahead:
            self._warn(ahead)
        found = {
            "schema": 1,
            "pid": os.getpid(),
            "at_risk": {
                kind: {"files": sums[0], "bytes": sums[1], "value": KINDS[kind].value}
                for kind, sums in sorted(inventory.sums.items()) if sums[0]
            },
            "bytes": inventory.used,
            "disk": {
                "line": ahead.line, "share": round(ahead.share, 3),
                "full_in": ahead.full_in_secs and round(ahead.full_in_secs),
            } if ahead else None,
            **state,
        }  # fmt: skip
        if found == self._last:
            return
        self._last = found
        self._greet(found)
        try:
            files.commit(f"{self._facts.runtime}/{layout.WATCH}", dumps(found) + "\n")
        except OSError:
            return  # a full /run: the files themselves are what counts

    def _greet(self, found: dict[str, Any]) -> None:
        """Let login shells show what would be missed, where that changed."""
        outside = dict(rows(found))["outside the volume"]
        said = [] if outside == "nothing" else [f"outside the volume: {outside}; keep it: {_HELP}"]
        if said != self._greeted:
            self._greeted = said
            records.greet(self._facts.runtime, self._profile, said)

    def _warn(self, ahead: usage.Forecast) -> None:
        """Warn at each level once, and when the disk will be full before long."""
        level = ahead.level
        if ahead.full_in_secs is not None and ahead.full_in_secs < _NEAR:
            level = max(level, 1)
        if level > self._warned:
            for line in filling(ahead.line).lines("degraded"):
                self._say(line)
        self._warned = level


def filling(line: str) -> Problem:
    """Say that the container's disk fills up."""
    return Problem(
        "watch.disk-filling",
        line,
        "a pod that passes its limit is evicted, and all that is outside the volume is lost",
        "`workspace-agent at-risk` says what takes the room, and what would keep it",
    )


def seen(runtime: str) -> dict[str, Any]:
    """Return what the watcher of this boot has written; empty when there is none."""
    return table(files.read(f"{runtime}/{layout.WATCH}"))


def rows(watch: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what `status` shows of watch.json."""
    if not watch:
        return []
    found = watch.get("at_risk", {})
    risk = [
        f"{counted(one['files'], 'file')} of {kind} ({size(one['bytes'])})"
        for kind, one in sorted(found.items(), key=lambda pair: -pair[1]["value"])
        if one["value"] >= _WORTH
    ]
    kept, why = watch.get("kept", {}), watch.get("why") or watch.get("doorbell_why")
    words = [f"{kept['files']} kept, {kept['waiting']} waiting"] if kept.get("on") else ["not kept"]
    words += [f"degraded: {kept['problem']['why']}"] if kept.get("problem") else []
    seen = [f"seen {watch['mode']}", *([f"degraded: {why}"] if why else [])]
    return [
        ("outside the volume", ", ".join(risk) or "nothing"),
        ("rescue", ", ".join(words)),
        ("watcher", ", ".join([*seen, *([watch["disk"]["line"]] if watch.get("disk") else [])])),
    ]
