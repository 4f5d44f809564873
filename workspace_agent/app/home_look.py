"""What `workspace-agent home` finds: status, diff, verify. Writes nothing."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workspace_agent.app import homes
from workspace_agent.app.session import Told
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.host.walk import Walk
from workspace_agent.model import layout
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, shown, size
from workspace_agent.steps import compare, marker
from workspace_agent.steps.entry import Near
from workspace_agent.steps.manifest import is_below
from workspace_agent.steps.places import Places, places
from workspace_agent.steps.threeway import Verdict
from workspace_agent.steps.trouble import from_oserror
from workspace_agent.steps.upgrade import HomeUpgrade, no_base

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workspace_agent.app.engine import Opening
    from workspace_agent.app.session import Session

# A marker has a list of what was left out; a text that is compared is read whole.
_MARKER, _TEXT = 256 << 10, 1 << 20

# Of what a marker says a line shows so many characters; each may take four.
_SHORT = 90

# What stands after a count, in the order in which it matters.
_WORDS = {
    Verdict.CONFLICT: "changed on both sides",
    Verdict.CHANGED: "changed in the image",
    Verdict.NEW: "new in the image",
    Verdict.GONE: "gone from the image",
    Verdict.UNKNOWN: "not as in the image",
    Verdict.YOURS: "changed by you",
    Verdict.DELETED: "deleted by you",
    Verdict.SAME: "the same",
}
_ORDER = list(_WORDS)
_QUIET = (Verdict.YOURS, Verdict.DELETED, Verdict.SAME)


def status(session: Session) -> Told:
    """Say where the home comes from, and what has become of its defaults."""
    with opened(session) as (upgrade, _, at):
        base, image, known = at.base(), at.fingerprint(), at.known()
        data: dict[str, Any] = {
            "home": upgrade.seed.target,
            "marker": marker.parsed(at.home.read(upgrade.seed.marker, _MARKER)) or None,
            "base": base if known else None,
            "image": image,
            "defaults": _by_word(Counter(v for _, v in at.verdicts(known))),
            "backup": amount(at.state, layout.BACKUP_IN_STATE),
            "beside": amount(at.state, layout.BESIDE_IN_STATE),
        }
    rows = {
        "home": shown(upgrade.seed.target),
        "made": _made(data["marker"] or {}),
        "this image": f"{image}, {'whose defaults it has' if image == base else 'another one'}",
        "base": data["base"] or "not known: your changes cannot be told from the image's",
        "defaults": _summary(data["defaults"]),
        "backups": held(data["backup"]),
        "put beside": held(data["beside"]),
    }
    return Told([f"{name:<12} {text}" for name, text in rows.items()], data)


def diff(session: Session, file: str, everything: bool) -> Told:
    """List the defaults that are not the same, or compare the image's *file* with the home's."""
    with opened(session) as (upgrade, _, at):
        if file:
            return _texts(at, below(file, upgrade))
        found = list(at.verdicts(at.known()))
    counts = _by_word(Counter(verdict for _, verdict in found))
    rows = sorted((_ORDER.index(v), path, v.value) for path, v in found)
    listed = [row[1:] for row in rows if everything or _ORDER[row[0]] not in _QUIET]
    lines = [f"{word:<9} {shown(path)}" for path, word in listed]
    return Told([*lines, _summary(counts)], {"defaults": counts, "listed": as_data(listed)})


def verify(session: Session, verbose: bool) -> Told:
    """Read the whole home and compare it with what it was made from."""
    with opened(session, blind=True) as (upgrade, _, at):
        base = at.known()
        if base is None:
            return Told(["nothing was read"], {}, (no_base(upgrade.seed.target),))
        found = [
            (path, word) for path, word in compare.verify(base, at.home) if word != compare.GIVEN
        ]
        counts = {compare.GIVEN: base.count - len(found)} | Counter(word for _, word in found)
    damaged = [path for path, word in found if word == compare.DAMAGED]
    lines = [f"{word:<9} {shown(p)}" for p, word in found if verbose or word == compare.DAMAGED]
    lines.append(", ".join(f"{count} {word}" for word, count in counts.items()))
    problems = (_damaged(damaged, upgrade.seed.target),) if damaged else ()
    return Told(lines, {"found": counts, "listed": as_data(found)}, problems)


@contextmanager
def opened(
    session: Session, *, dry_run: bool = True, blind: bool = False
) -> Iterator[tuple[HomeUpgrade, Opening, Places]]:
    """Open the home that the session's profile names; raises AgentError where there is none."""
    opening = session.open(dry_run=dry_run)
    upgrade = homes.of(opening)
    if upgrade is None or not upgrade.seed.is_made():
        why = "no boot has made one yet" if upgrade else "`home.mode` is off"
        fix = "`workspace-agent setup` makes it"
        raise AgentError(Problem("home.none", "there is no home on the volume", why, fix))
    try:
        with places(upgrade.seed, blind=blind) as at:
            yield upgrade, opening, at
    except OSError as error:
        raise AgentError(from_oserror(error, str(error.filename or ""), "home")) from error


def below(file: str, upgrade: HomeUpgrade) -> str:
    """Return *file*, as a person names it, relative to the home."""
    for home in (upgrade.seed.target, upgrade.seed.source):
        file = file.removeprefix(f"{home.rstrip('/')}/")
    path = file.rstrip("/").removeprefix("./")
    if not is_below(path):
        what = f"`{shown(file)}` is not in the home"
        raise AgentError(Problem("usage", what, fix="name it as it stands in the home"))
    return path


def no_default(path: str) -> Problem:
    """Say that *path* is no default of this image."""
    fix = "`workspace-agent home diff --all` lists them"
    return Problem("usage", f"the image has no default `{shown(path)}`", fix=fix)


def as_data(rows: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return *rows* of path and word for programs."""
    return [{"path": path, "is": word} for path, word in rows]


def amount(state: SafeRoot, name: str) -> dict[str, Any]:
    """Count what a folder of ours holds."""
    found: dict[str, Any] = {"folder": f"{state.path}/{name}", "files": 0, "bytes": 0}
    try:
        with state.folder(name) as folder:
            for one in (one for part in Walk(folder) for one in part):
                found["files"] += len(one.files)
                found["bytes"] += sum(info.st_size for _, info in one.files)
    except OSError:
        return found
    return found


def held(found: dict[str, Any]) -> str:
    """Say what `amount` has found."""
    if not found["files"]:
        return "none"
    return f"{counted(found['files'], 'file')}, {size(found['bytes'])}, in {found['folder']}"


def _texts(at: Places, path: str) -> Told:
    """Compare the image's *path* with the home's."""
    import difflib

    lines, texts = [], []
    data: dict[str, Any] = {}
    for name, root in (("image", at.image), ("home", at.home)):
        with Near(root) as near:
            one = near.look(path)
            sha256 = near.digest(path) if one and one.kind == "file" else ""
        data[name] = {**vars(one), "sha256": sha256} if one else None
        about = f"{one.kind} {one.target or size(one.size)} {sha256}" if one else "is not there"
        lines.append(f"{name:<6} {shown(about.rstrip())}")
        texts.append(root.read(path, _TEXT))
    if not any(data.values()):
        raise AgentError(no_default(path))
    if all(text is not None and b"\0" not in text for text in texts):
        old, own = ((text or b"").decode("utf-8", "surrogateescape").splitlines() for text in texts)
        names = (f"image/{path}", f"home/{path}")
        found = list(difflib.unified_diff(old, own, *names, lineterm=""))
        lines = ["\t".join(map(shown, line.split("\t"))) for line in found] or ["the same"]
    return Told(lines, {"path": path, **data})


def _made(fields: dict[str, Any]) -> str:
    """Say what the marker says; it comes from the volume, so any value may be anything."""
    if not fields:
        return "not by this agent: a legacy marker, adopted"
    count, left_out = (fields.get(name) for name in ("files", "skipped_total"))
    words = [f"{fields.get('created')} from {fields.get('home')} ({fields.get('mode')})"]
    words += [f"{count} files"] if isinstance(count, int) else []
    words += [f"{left_out} left out"] if left_out and isinstance(left_out, int) else []
    return shown(", ".join(words)[:_SHORT])


def _by_word(counts: Counter[Verdict]) -> dict[str, int]:
    return {verdict.value: counts[verdict] for verdict in _WORDS}


def _summary(counts: dict[str, int]) -> str:
    words = [f"{counts[v.value]} {word}" for v, word in _WORDS.items() if counts[v.value]]
    return ", ".join(words) or "none"


def _damaged(paths: Sequence[str], home: str) -> Problem:
    names = ", ".join(map(shown, paths[:5]))
    return Problem(
        "home.damaged",
        f"{counted(len(paths), 'file')} in the home {'is' if len(paths) == 1 else 'are'} damaged",
        f"size and time are as they were, the content is not: {names}",
        "`workspace-agent home reset --file PATH` brings back the default; check the volume",
        home,
    )
