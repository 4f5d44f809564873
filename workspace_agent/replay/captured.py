"""What was installed by hand, on the volume: for people, for the next boot, and for ourselves.

<state>/replay/captured.in      one line for each package that was asked for; people change it
<state>/replay/captured.lock    the same with all they need, exact; the next boot may read it
<state>/replay/captured.json    what we know: which lines of the first are ours, and what needs what

A line in captured.in that is not as we wrote it is a person's: it stays as it is, and goes into the
lock as it is. A line of ours that a person took out is not written again.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field, replace

from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.replay.capture import NAME, Dist
from workspace_agent.replay.lines import Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from workspace_agent.host.safe_root import SafeRoot

FORMAT = 1

# Hundreds of packages with what each of them needs.
_LIMIT = 4 << 20

_HEAD = """\
# What was installed by hand, as `workspace-agent` found it. This file is yours to edit: lines that
# you add or change stay as they are, and a line that you take out does not come back.
"""
_LOCK_HEAD = "# Written by workspace-agent from captured.in, which is the one to edit.\n"


@dataclass(frozen=True)
class Captured:
    """What was installed by hand: packages by name, *offers* of other installers by its name, and
    what was *interrupted* lately, or "".
    """

    packages: Mapping[str, Dist] = field(default_factory=dict)
    offers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    interrupted: str = ""

    @classmethod
    def parsed(cls, data: str | None) -> Captured:
        """Return what *data* says; what is not as we write it, somebody else wrote."""
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            found = table(data)
            packages = {one.name: one for one in map(_dist, found["packages"])}
            offers = {str(k): tuple(map(str, names)) for k, names in found["offers"].items()}
            if found["format"] == FORMAT:
                return cls(packages, offers, str(found["interrupted"]))
        return cls()

    def to_json(self) -> str:
        """Return the text of its file."""
        packages = [asdict(one) for one in self.packages.values()]
        return dumps({"format": FORMAT, **asdict(self), "packages": packages}) + "\n"

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to say."""
        return not (self.packages or any(self.offers.values()) or self.interrupted)

    @property
    def tops(self) -> dict[str, str]:
        """The lines of what somebody wanted, by name."""
        return {name: one.line for name, one in sorted(self.packages.items()) if one.asked}


def _dist(found: Mapping[str, Any]) -> Dist:
    needs, extras = (tuple(map(str, found[name])) for name in ("needs", "extras"))
    one = Dist(**{**found, "needs": needs, "extras": extras})
    texts = isinstance(one.line, str) and isinstance(one.pin, str)
    if not texts or "\n" in one.line + one.pin or not NAME.fullmatch(one.name):
        raise ValueError
    return one


@dataclass(frozen=True)
class Texts:
    """The files as they are; None for one that is not there."""

    listed: str | None = None
    locked: str | None = None
    json: str | None = None

    @classmethod
    def read(cls, root: SafeRoot) -> Texts:
        """Read them from the store's folder; raises OSError for a captured.in that is no file."""
        found = [root.read(name, _LIMIT) for name in _FILES]
        if found[0] is None and root.look(layout.CAPTURED_IN):
            raise OSError(22, "it is not a regular file, or too large", layout.CAPTURED_IN)
        return cls(*(None if one is None else one.decode("utf-8", "surrogateescape")
                     for one in found))  # fmt: skip

    def write(self, root: SafeRoot, before: Texts) -> None:
        """Write what differs from *before*, each in one step."""
        for name, new, old in zip(_FILES, astuple(self), astuple(before), strict=True):
            if new is None and old is not None:
                root.remove(name)
            elif new != old:
                root.commit(name, new.encode("utf-8", "surrogateescape"), 0o600)


_FILES = (layout.CAPTURED_IN, layout.CAPTURED_LOCK, layout.CAPTURED_JSON)


def updated(
    old: Captured,
    text: str | None,
    fresh: Mapping[str, Dist],
    gone: Collection[str],
    here: Collection[str],
) -> Captured:
    """Return *old* with what is *fresh*, without what is *gone*. Pure.

    *text* is captured.in as a person left it, *here* is all that is installed.
    """
    kept = {name: one for name, one in old.packages.items() if name not in gone}
    if text is not None:
        there = {raw.strip() for raw in text.split("\n")}
        named = _names(there)
        for name, one in kept.items():
            if one.asked and one.line not in there and name not in named:
                kept[name] = replace(one, asked=False)
    every = {**kept, **fresh}
    needs = {name: {*one.needs} for name, one in every.items()}
    extras = {name: {*one.extras} for name, one in every.items()}
    for name, dist in fresh.items():
        if dist.asked is False:  # pip was not asked for it: where an extra has it, that brought it
            for user in needs:
                needs[user] |= {name} & extras[user]
    for name, dist in fresh.items():
        was_asked = name in kept and kept[name].asked
        is_needed = any(name in needs[user] for user in needs.keys() - {name})
        asked = bool(was_asked or dist.asked or not is_needed)
        kept[name] = replace(dist, needs=tuple(sorted(needs[name])), asked=asked)
    for name in sorted(fresh):
        if name not in reached(kept):  # packages that need each other
            kept[name] = replace(kept[name], asked=True)
    wanted = reached(kept) | {*here}
    return replace(old, packages={name: kept[name] for name in sorted(kept.keys() & wanted)})


def reached(packages: Mapping[str, Dist], tops: Iterable[str] | None = None) -> set[str]:
    """Return the names of *tops*, and of all *packages* that they need; of all that are wanted."""
    rest = [n for n, one in packages.items() if one.asked] if tops is None else list(tops)
    found: set[str] = set()
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            rest += [one for one in packages[name].needs if one in packages]
    return found


def relock(root: SafeRoot) -> None:
    """Have captured.lock say what captured.in does, as a person left that; raises OSError."""
    before = Texts.read(root)
    known = Captured.parsed(before.json)
    now = updated(known, before.listed, {}, (), known.packages)
    Texts(before.listed, locked(before.listed, now), before.json).write(root, before)


def listed(text: str | None, old: Captured, new: Captured) -> str | None:
    """Return captured.in: *text* with the lines of *old* that were ours as *new* has them. Pure."""
    ours = {line: name for one in (new, old) for name, line in one.tops.items()}
    lines = (_HEAD if text is None else text).split("\n")
    theirs = _names(raw.strip() for raw in lines if raw.strip() not in ours)
    wanted = {name: line for name, line in new.tops.items() if name not in theirs}
    found = []
    for raw in lines:
        if (name := ours.get(raw.strip(), "")) == "":
            found.append(raw)
        elif name in wanted:
            line = wanted.pop(name)
            found.append(raw if raw.strip() == line else line)
    if wanted and found[-1].strip():
        found.append("")
    found[-1:] = [*wanted.values(), *found[-1:]]
    made = "\n".join(found)
    return None if made.strip() == _HEAD.strip() else made


def locked(text: str | None, new: Captured) -> str | None:
    """Return captured.lock for the captured.in *text*; None when nothing is wanted. Pure."""
    ours = set(new.tops.values())
    lines = [raw.strip() for raw in (text or "").split("\n")]
    theirs = [one for one in lines if one not in ours and _bare(one)]
    named = _names(theirs)
    names = reached(new.packages, new.tops.keys() - named) - named
    pins = [one.pin for name in sorted(names) if (one := new.packages[name]).pin]
    lost = [one.line for name in sorted(names) if not (one := new.packages[name]).pin]
    return "\n".join([f"{_LOCK_HEAD}", *lost, *pins, *theirs, ""]) if pins or theirs else None


def _bare(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line).strip()


def _names(lines: Iterable[str]) -> set[str]:
    return {Line(_bare(one), "").name for one in lines} - {""}
