"""What was installed by hand, on the volume: for people, for the next boot, and for ourselves.

<state>/replay/captured.in      one line for each package that was asked for; people change it
<state>/replay/captured.lock    the same with all they need, exact; the next boot may read it
<state>/replay/captured.json    what we know: which lines of the first are ours, and what needs what

A line in captured.in that is not as we wrote it is a person's: it stays as it is, and goes into the
lock as it is. A line of ours that a person took out is not written again.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace

from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.replay.capture import NAME
from workspace_agent.replay.lines import Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.replay.capture import Dist

FORMAT = 1

# Hundreds of packages with what each of them needs.
_LIMIT = 4 << 20

_HEAD = """\
# What was installed by hand, as `workspace-agent` found it. This file is yours to edit: lines that
# you add or change stay as they are, and a line that you take out does not come back.
"""
_LOCK_HEAD = "# Written by workspace-agent from captured.in, which is the one to edit.\n"


@dataclass(frozen=True)
class Entry:
    """One package: *top* if somebody wanted it, else it only came with others."""

    line: str
    pin: str
    needs: tuple[str, ...]
    extras: tuple[str, ...]
    top: bool


@dataclass(frozen=True)
class Captured:
    """What was installed by hand: packages by name, *offers* of other installers by its name, and
    what was *interrupted* lately, or "".
    """

    packages: Mapping[str, Entry] = field(default_factory=dict)
    offers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    interrupted: str = ""

    @classmethod
    def parsed(cls, data: bytes | None) -> Captured:
        """Return what *data* says; what is not as we write it, somebody else wrote."""
        try:
            found = json.loads(data or b"")
            if found["format"] != FORMAT:
                return cls()
            packages = {n: _entry(one) for n, one in found["packages"].items() if NAME.fullmatch(n)}
            offers = {str(k): tuple(map(str, names)) for k, names in found["offers"].items()}
            return cls(packages, offers, str(found["interrupted"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def to_json(self) -> str:
        """Return the text of its file."""
        return dumps({"format": FORMAT, **asdict(self)}) + "\n"

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to say."""
        return not (self.packages or any(self.offers.values()) or self.interrupted)

    @property
    def tops(self) -> dict[str, str]:
        """The lines of what somebody wanted, by name."""
        return {name: one.line for name, one in sorted(self.packages.items()) if one.top}


def _entry(found: Mapping[str, object]) -> Entry:
    line, pin = found["line"], found["pin"]
    needs, extras = found["needs"], found["extras"]
    if not (isinstance(line, str) and isinstance(pin, str) and "\n" not in line + pin):
        raise TypeError
    if not (isinstance(needs, list) and isinstance(extras, list)):
        raise TypeError
    return Entry(line, pin, (*map(str, needs),), (*map(str, extras),), found["top"] is True)


@dataclass(frozen=True)
class Texts:
    """The files as they are; None for one that is not there."""

    listed: str | None
    locked: str | None
    json: bytes | None

    @classmethod
    def read(cls, root: SafeRoot) -> Texts:
        """Read them from the store's folder; raises OSError for a captured.in that is no file."""
        listed, locked = (root.read(name, _LIMIT) for name in _FILES[:2])
        if listed is None and root.look(layout.CAPTURED_IN):
            raise OSError(22, "it is not a regular file, or too large", layout.CAPTURED_IN)
        return cls(_decoded(listed), _decoded(locked), root.read(layout.CAPTURED_JSON, _LIMIT))

    def write(self, root: SafeRoot, before: Texts) -> bool:
        """Write what differs from *before*, each in one step; says whether anything did."""
        pairs = zip(_FILES, (self.listed, self.locked, self.json),
                    (before.listed, before.locked, before.json), strict=True)  # fmt: skip
        changed = [(name, new) for name, new, old in pairs if new != old]
        for name, new in changed:
            if new is None:
                root.remove(name)
            else:
                data = new if isinstance(new, bytes) else new.encode("utf-8", "surrogateescape")
                root.commit(name, data, 0o600)
        return bool(changed)


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
            if one.top and one.line not in there and name not in named:
                kept[name] = replace(one, top=False)
    every: dict[str, Entry | Dist] = {**kept, **fresh}
    needs = {name: {*one.needs} for name, one in every.items()}
    extras = {name: {*one.extras} for name, one in every.items()}
    for name, dist in fresh.items():
        if dist.asked is False:  # pip was not asked for it: where an extra has it, that brought it
            for user in needs:
                needs[user] |= {name} & extras[user]
    for name, dist in fresh.items():
        was_top = name in kept and kept[name].top
        is_needed = any(name in needs[user] for user in needs.keys() - {name})
        top = was_top or dist.asked or not is_needed
        kept[name] = Entry(dist.line, dist.pin, tuple(sorted(needs[name])), dist.extras, bool(top))
    for name in sorted(fresh):
        if name not in reached(kept):  # packages that need each other
            kept[name] = replace(kept[name], top=True)
    wanted = reached(kept) | {*here}
    return replace(old, packages={name: kept[name] for name in sorted(kept.keys() & wanted)})


def reached(packages: Mapping[str, Entry], tops: Iterable[str] | None = None) -> set[str]:
    """Return the names of *tops*, and of all *packages* that they need; of all that are wanted."""
    rest = [n for n, one in packages.items() if one.top] if tops is None else list(tops)
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


def _decoded(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "surrogateescape")
