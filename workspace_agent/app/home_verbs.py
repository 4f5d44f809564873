"""What `workspace-agent home` answers: status, diff, merge, reset, verify."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workspace_agent.app import homes
from workspace_agent.app.boot import run
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.host.walk import Walk
from workspace_agent.model import layout
from workspace_agent.model.outcome import Report
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, shown, size
from workspace_agent.steps import marker
from workspace_agent.steps.compare import DAMAGED, GIVEN, verify
from workspace_agent.steps.entry import Near
from workspace_agent.steps.manifest import Manifest, is_below
from workspace_agent.steps.threeway import Verdict
from workspace_agent.steps.trouble import from_oserror
from workspace_agent.steps.upgrade import HomeUpgrade, Places, base_of, is_within, no_base

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workspace_agent.app.engine import Opening
    from workspace_agent.app.session import Session

# A marker has a list of what was left out; a text that is compared is a text that is read.
_MARKER, _TEXT = 256 << 10, 1 << 20

# What stands after a count, in the order in which it matters.
_WORDS = {
    Verdict.CONFLICT: "changed on both sides",
    Verdict.CHANGED: "changed in the image",
    Verdict.NEW: "new in the image",
    Verdict.GONE: "gone from the image",
    Verdict.YOURS: "changed by you",
    Verdict.DELETED: "deleted by you",
    Verdict.UNKNOWN: "not as in the image",
    Verdict.SAME: "the same",
}
_WOULD = {Verdict.CHANGED: "replace", Verdict.NEW: "add", Verdict.CONFLICT: "put beside"}


@dataclass(frozen=True)
class Told:
    """What a verb has to say: to people, to programs, and what is not right."""

    lines: list[str]
    data: dict[str, Any]
    problems: tuple[Problem, ...] = ()


def status(session: Session) -> Told:
    """Say where the home comes from, and what has become of its defaults."""
    with _open(session) as (upgrade, _, at):
        base, image = base_of(at.state), upgrade.fingerprint(at)
        fields = marker.parsed(at.home.read(upgrade.seed.marker, _MARKER))
        known = Manifest.of(at.state, base)
        counts = Counter(verdict for _, verdict in upgrade.verdicts(at, known))
        kept, beside = (_held(at.state, name) for name in ("backup", layout.BESIDE_IN_STATE))
        data = {
            "home": upgrade.seed.target,
            "marker": fields or None,
            "base": base or None,
            "base_known": known is not None,
            "image": image,
            "defaults": _by_word(counts),
            "backup": kept,
            "beside": beside,
        }
    rows = [
        ("home", shown(upgrade.seed.target)),
        ("made", _made(fields)),
        ("this image", f"{image}, {'whose defaults it has' if image == base else 'another one'}"),
        ("base", base if known else "not known: whose a change is cannot be told"),
        ("defaults", _summary(counts)),
        ("backups", _amount(kept)),
        ("put beside", _amount(beside)),
    ]
    return Told([f"{name:<12} {text}" for name, text in rows], data)


def diff(session: Session, file: str, everything: bool) -> Told:
    """List the defaults that are not the same, or compare the image's *file* with the home's."""
    with _open(session) as (upgrade, _, at):
        if file:
            return _texts(at, _below(file, upgrade))
        known = Manifest.of(at.state, base_of(at.state))
        found = list(upgrade.verdicts(at, known))
    counts = Counter(verdict for _, verdict in found)
    hidden = () if everything else (Verdict.SAME, Verdict.YOURS, Verdict.DELETED)
    rows = sorted((list(_WORDS).index(v), path, v) for path, v in found if v not in hidden)
    lines = [f"{verdict.value:<9} {shown(path)}" for _, path, verdict in rows]
    listed = [{"path": path, "verdict": verdict.value} for _, path, verdict in rows]
    return Told([*lines, _summary(counts)], {"defaults": _by_word(counts), "listed": listed})


def merge(session: Session, files: Sequence[str], dry_run: bool) -> Told:
    """Do what the image asks of the home, or of *files* in it."""
    with _open(session, dry_run) as (upgrade, opening, _):
        only = [_below(file, upgrade) for file in files]
        try:
            asked = upgrade.merge(only=only, dry_run=dry_run)
        except AgentError as error:
            if error.problem.slug != "home.no-base":
                raise
            return Told(["nothing was done"], {"done": []}, (error.problem,))
        if not dry_run:
            homes.settle(opening)  # what it rests on from now on
    said = "would " if dry_run else ""
    lines = [f"{said}{_WOULD[verdict]:<11} {shown(path)}" for path, verdict in asked.items()]
    return Told(
        [*lines, _done(len(asked), dry_run)],
        {"done": [{"path": path, "verdict": v.value} for path, v in asked.items()]},
    )


def reset(session: Session, files: Sequence[str], dry_run: bool) -> Told:
    """Bring back the image's defaults, all or *files*; what they replace goes into a backup."""
    with _open(session, dry_run) as (upgrade, opening, at):
        only = [_below(file, upgrade) for file in files]
        found = dict(upgrade.verdicts(at, None, closely=True))
        for one in only:
            if not any(is_within(path, [one]) for path in found):
                raise AgentError(_no_default(one))
        asked = [
            path
            for path, verdict in found.items()
            if verdict is not Verdict.SAME and (not only or is_within(path, only))
        ]
        problems: tuple[Problem, ...] = ()
        if only and not dry_run:
            upgrade.lay(at, asked)
        elif not dry_run:
            problems = _again(upgrade, at)
            homes.settle(opening)
        backup = _held(at.state, "backup")
    said = "would bring back" if dry_run else "brought back"
    lines = [f"{said} {shown(path)}" for path in asked]
    lines += [_done(len(asked), dry_run), f"backups: {_amount(backup)}"]
    return Told(lines, {"done": asked, "backup": backup}, problems)


def check(session: Session, verbose: bool) -> Told:
    """Read the whole home and compare it with what it was made from."""
    with _open(session) as (upgrade, _, at):
        base = Manifest.of(at.state, base_of(at.state))
        if base is None:
            return Told(["nothing was read"], {"found": {}}, (no_base(upgrade.seed.target),))
        counts: Counter[str] = Counter()
        lines, bad = [], []
        for path, word in verify(base, at.home):
            counts[word] += 1
            if word == DAMAGED:
                bad.append(path)
            if word == DAMAGED or (verbose and word != GIVEN):
                lines.append(f"{word:<9} {shown(path)}")
    lines.append(", ".join(f"{count} {word}" for word, count in counts.most_common()))
    problems = (_damaged(bad, upgrade.seed.target),) if bad else ()
    return Told(lines, {"found": dict(counts), "damaged": bad}, problems)


@contextmanager
def _open(session: Session, dry_run: bool = True) -> Iterator[tuple[HomeUpgrade, Opening, Places]]:
    """Open the home that the session's profile names; raises AgentError where there is none."""
    opening = session.open(dry_run=dry_run)
    upgrade = homes.of(opening)
    if upgrade is None or not upgrade.seed.is_made():
        raise AgentError(_no_home(opening))
    try:
        with upgrade.places() as at:
            yield upgrade, opening, at
    except OSError as error:
        raise AgentError(from_oserror(error, str(error.filename or ""), "home")) from error


def _again(upgrade: HomeUpgrade, at: Places) -> tuple[Problem, ...]:
    """Take the marker away, which stands for "fresh defaults", and do as the next boot would."""
    seed = upgrade.seed
    if not seed.was_made():
        marker.record(at.state, seed.boot_id, {})
    with at.state.folder(f"backup/{marker.now()[:10]}-{seed.boot_id}", 0o700) as backup:
        at.home.rename(seed.marker, seed.marker, backup)
    return run([seed], Report()).problems


def _texts(at: Places, path: str) -> Told:
    """Compare the image's *path* with the home's."""
    import difflib

    with Near(at.image) as new, Near(at.home) as mine:
        sides = {"image": new.look(path), "home": mine.look(path)}
        texts = {"image": at.image.read(path, _TEXT), "home": at.home.read(path, _TEXT)}
        lines, data = [], []
        for name, near in (("image", new), ("home", mine)):
            one = sides[name]
            sha256 = near.digest(path) if one and one.kind == "file" else ""
            about = f"{one.kind} {one.target or size(one.size)} {sha256}" if one else "is not there"
            lines.append(f"{name:<6} {shown(about.rstrip())}")
            data.append({"in": name, **(vars(one) if one else {}), "sha256": sha256})
    if not any(sides.values()):
        raise AgentError(_no_default(path))
    if all(text is not None and b"\0" not in text for text in texts.values()):
        old, own = ((text or b"").decode("utf-8", "surrogateescape") for text in texts.values())
        found = difflib.unified_diff(
            old.splitlines(), own.splitlines(), f"image/{path}", f"home/{path}", lineterm=""
        )
        lines = ["".join(c if c == "\t" else shown(c) for c in line) for line in found]
    return Told(lines or ["the same"], {"path": path, "versions": data})


def _below(file: str, upgrade: HomeUpgrade) -> str:
    """Return *file*, as a person names it, relative to the home."""
    for home in (upgrade.seed.target, upgrade.seed.source):
        file = file.removeprefix(f"{home.rstrip('/')}/")
    path = file.rstrip("/").removeprefix("./")
    if not is_below(path):
        what = f"`{shown(file)}` is not in the home"
        raise AgentError(Problem("usage", what, fix="name it as it stands in the home"))
    return path


def _held(state: SafeRoot, name: str) -> dict[str, Any]:
    """Count what a folder of ours holds."""
    found = {"folder": f"{state.path}/{name}", "files": 0, "bytes": 0}
    try:
        with state.folder(name) as folder:
            infos = [i for part in Walk(folder) for one in part for _, i in one.files]
            return found | {"files": len(infos), "bytes": sum(i.st_size for i in infos)}
    except OSError:
        return found


def _amount(held: dict[str, Any]) -> str:
    if not held["files"]:
        return "none"
    return f"{counted(held['files'], 'file')}, {size(held['bytes'])}, in {held['folder']}"


def _made(fields: dict[str, Any]) -> str:
    """Say what the marker says; it comes from the volume, so any value may be anything."""
    if not fields:
        return "not by this agent: a legacy marker, adopted"
    count, left_out = (fields.get(name) for name in ("files", "skipped_total"))
    words = [f"{fields.get('created')} from {fields.get('home')} ({fields.get('mode')})"]
    words += [f"{count} files"] * isinstance(count, int)
    words += [f"{left_out} left out"] * bool(isinstance(left_out, int) and left_out)
    return shown(", ".join(words))[:300]


def _summary(counts: Counter[Verdict]) -> str:
    words = [f"{counts[verdict]} {word}" for verdict, word in _WORDS.items() if counts[verdict]]
    return ", ".join(words) or "none"


def _by_word(counts: Counter[Verdict]) -> dict[str, int]:
    return {verdict.value: counts[verdict] for verdict in _WORDS}


def _done(count: int, dry_run: bool) -> str:
    return f"{counted(count, 'default')}{'. Nothing was written.' if dry_run else ''}"


def _no_home(opening: Opening) -> Problem:
    off = opening.profile.home.mode == "off"
    what = "there is no home on the volume"
    why = "`home.mode` is off" if off else "no boot has made one yet"
    return Problem("home.none", what, why, "`workspace-agent setup` makes it", "")


def _no_default(path: str) -> Problem:
    what = f"the image has no default `{shown(path)}`"
    return Problem("usage", what, fix="`workspace-agent home diff --all` lists them")


def _damaged(paths: Iterable[str], home: str) -> Problem:
    named = list(paths)
    what = f"{counted(len(named), 'file')} in the home " + ("is" if len(named) == 1 else "are")
    return Problem(
        "home.damaged",
        f"{what} damaged",
        "size and time are as they were, the content is not: "
        + ", ".join(shown(path) for path in named[:5]),
        "`workspace-agent home reset --file PATH` brings back the default; check the volume",
        home,
    )
