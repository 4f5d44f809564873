"""`at-risk`: what would be lost if this container ended now, and what would have kept it."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from workspace_agent.app.session import Told
from workspace_agent.app.survey import ground, survey, volatile
from workspace_agent.host.statx import born_ns, is_added
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, named, shown, size
from workspace_agent.watch.kinds import KINDS, PRECIOUS
from workspace_agent.watch.price import price

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workspace_agent.app.session import Session
    from workspace_agent.app.survey import Survey
    from workspace_agent.model.atrisk import Entry

# Their birth is asked for: a large file was written for a while.
_LARGE = 10 << 20

# A folder of the system's is not to be moved, nor all that is in it.
_SYSTEM = (
    "/usr",
    "/etc",
    "/var",
    "/lib",
    "/bin",
    "/sbin",
    "/boot",
    "/run",
    "/dev",
    "/proc",
    "/sys",
)
_FILES = "FILES"  # `at-risk --all` lists them

NO_LAYER = Problem(
    "watch.no-container",
    "there is no container whose files could be lost",
    "this is not a container's root file system",
    "run it inside the pod",
)


def at_risk(
    session: Session, *, every: bool, since: float, fail: bool, unseen: bool = False
) -> tuple[Told, bool]:
    """Say what is outside the volume, and whether something precious is, where that is to *fail*.

    *every* lists each file, *unseen* hidden ones as well; *since* is how many seconds ago it may
    have changed, 0 for ever.
    """
    opening = session.open(strict=False)
    if not opening.facts.system:
        raise AgentError(NO_LAYER)
    here = ground(opening.profile, opening.facts)
    after = time.time_ns() - int(since * 10**9) if since else 0
    found = survey(here, lambda one: (unseen or one.kind != "hidden") and one.ctime_ns >= after)
    volume, home = (
        opening.facts.volume.path,
        opening.facts.fill(opening.profile, opening.profile.home.path),
    )
    rows = [
        {
            **_row(kind, each),
            "advice": advice(kind, common(each), volume, home),
            "price": str(price(kind, [*map(_span, each)], here.layer.since) or ""),
        }
        for kind, each in _by_kind(found.entries).items()
        if kind != "hidden"
    ]
    hidden = found.inventory.sums.get("hidden", [0, 0])
    where = volatile(here)
    data: dict[str, Any] = {
        "mode": here.layer.mode, "why": here.layer.why, "bytes": found.inventory.used,
        "kinds": rows, "hidden": {"files": hidden[0], "bytes": hidden[1]},
        "unreadable": found.unreadable, "volatile": where,
    }  # fmt: skip
    if every:
        data["files"] = [_file(one) for one in found.entries]
    lines = [line for row in rows for line in _lines(row)]
    if every:
        lines += [f"  {shown(one.path)}  {size(one.size)}  {one.kind}" for one in found.entries]
    lines = lines or ["nothing outside the volume would be lost"]
    lines += _last(found, hidden, where)
    if here.layer.why:
        lines.append(f"seen {here.layer.mode}: {here.layer.why}")
    return Told(lines, data), fail and any(row["value"] >= PRECIOUS for row in rows)


def _by_kind(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for one in sorted(entries, key=lambda one: (-one.value, one.kind, one.path)):
        found.setdefault(one.kind, []).append(one)
    return found


def _row(kind: str, entries: Sequence[Entry]) -> dict[str, Any]:
    about, where = KINDS[kind], common(entries)
    return {
        "kind": kind, "value": about.value, "files": len(entries),
        "bytes": sum(one.blocks for one in entries), "where": shown(where),
        "rescued": about.rescued,
        "elsewhere": sum(not f"{one.path}/".startswith(f"{where}/") for one in entries),
    }  # fmt: skip


def advice(kind: str, where: str, volume: str, home: str) -> str:
    """Return the command that would have kept files of *kind* below *where*."""
    from shlex import quote

    if os.path.isdir(where) and where.startswith(_SYSTEM):
        return KINDS[kind].advice.format(path=_FILES, volume=volume, home=home)
    # What is in a home, or right below the root, can be moved; such a folder itself cannot.
    whole = where.count("/") > (2 if where.startswith("/home/") else 1) or not os.path.isdir(where)
    path = quote(where) + ("" if whole else "/*")
    return KINDS[kind].advice.format(path=path, volume=volume, home=home)


def common(entries: Sequence[Entry]) -> str:
    """Return the one file, or the folder that all of them are in; never the root, but the folder
    at the root that most of them are in.
    """
    if len(entries) == 1:
        return entries[0].path
    above = os.path.commonpath([one.path for one in entries])
    if above != "/":
        return above
    tops = Counter(one.path[: one.path.find("/", 1)] for one in entries if one.path.count("/") > 1)
    return tops.most_common(1)[0][0] if tops else entries[0].path


def _span(entry: Entry) -> tuple[int, int, int]:
    born = born_ns(entry.path) if entry.size >= _LARGE else entry.mtime_ns
    return entry.size, born, entry.mtime_ns


def _lines(row: dict[str, Any]) -> list[str]:
    many = KINDS[row["kind"]].many or row["kind"]
    cost = f"  ({row['price']})" if row["price"] else ""
    files = counted(row["files"], "file")
    more = f", {row['elsewhere']} elsewhere" if row["elsewhere"] else ""
    lines = [f"{many:<22} {files}, {size(row['bytes'])} in {shown(row['where'])}{more}{cost}"]
    return [*lines, f"{'':<22} keep: {shown(row['advice'])}"] if row["advice"] else lines


def _last(found: Survey, hidden: Sequence[int], where: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        f"{shown(one['path'])} ({one['kind']}) ends with the pod: {size(one['bytes'])} in it"
        for one in where
        if one["bytes"]
    ]
    if hidden[0]:
        lines.append(f"hidden: {counted(hidden[0], 'file')}, {size(hidden[1])}")
    if found.unreadable:
        lines.append(f"{counted(found.unreadable, 'folder')} could not be read: run it as root")
    return lines


def _file(one: Entry) -> dict[str, Any]:
    return {**named(one.path), "kind": one.kind, "size": one.size, "bytes": one.blocks,
            "changed": one.ctime_ns // 10**9, "added": is_added(one.path)}  # fmt: skip
