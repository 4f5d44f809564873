"""A home beside the image's defaults and the base that it was made from. Only reads."""

from __future__ import annotations

import errno

from workspace_agent.steps.entry import Near
from workspace_agent.steps.manifest import Manifest, defaults
from workspace_agent.steps.threeway import Verdict, judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.steps.entry import Entry

# What `verify` says of an object.
GIVEN, CHANGED, GONE, DAMAGED = "as given", "changed", "gone", "damaged"


def compare(
    base: Manifest | None,
    image: SafeRoot,
    home: SafeRoot,
    exclude: Sequence[str] = (),
    prune: Collection[tuple[int, int]] = (),
    *,
    closely: bool = False,
) -> Iterator[tuple[str, Verdict]]:
    """Yield the path and the verdict of every default, those of the *base* first.

    In the home it costs one request each, and content is read only where size or time differ from
    the record; *closely* it is read everywhere. Raises OSError.
    """
    with Near(image) as new, Near(home) as mine:
        for was in base or ():
            yield was.path, judge(*_versions(was.path, was, new, mine, closely))
        for entry, _ in defaults(image, exclude, prune):
            path = entry.path
            if base is not None and path in base:
                continue
            verdict = judge(*_versions(path, None, new, mine, closely), known=base is not None)
            if base is not None and verdict is Verdict.NEW and _is_shut(path, base, mine):
                verdict = Verdict.DELETED
            yield path, verdict


def verify(base: Manifest, home: SafeRoot) -> Iterator[tuple[str, str]]:
    """Yield the path of every default of the *base*, and what became of it; all content is read."""
    with Near(home) as mine:
        for was in base:
            yield was.path, _became(was, mine)


def _became(was: Entry, mine: Near) -> str:
    now = mine.look(was.path)
    if now is None:
        return GONE
    if (now.kind, now.target) != (was.kind, was.target) or now.size != was.size:
        return CHANGED
    try:
        same = now.kind != "file" or mine.digest(was.path) == was.sha256
    except OSError as error:
        return DAMAGED if error.errno == errno.EIO else CHANGED
    if same:
        return GIVEN
    # A program that changes a file changes its time as well; a bad disk does not.
    return DAMAGED if now.mtime_ns == was.mtime_ns else CHANGED


def _versions(
    path: str, was: Entry | None, new: Near, mine: Near, closely: bool
) -> tuple[object, object, object]:
    """Return values for the three versions of *path* that are equal when the contents are."""
    entries = (was, new.look(path), mine.look(path))
    sizes = [one.size for one in entries if one is not None and one.kind == "file"]
    seen: dict[tuple[int, int], str] = {}
    found: list[object] = []
    for one, near in zip(entries, (None, new, mine), strict=True):
        if one is None or one.kind != "file":
            found.append(one and (one.kind, one.target))
            continue
        stamp = one.size, one.mtime_ns
        if closely or stamp not in seen:
            alone = sizes.count(one.size) == 1
            seen[stamp] = one.sha256 if near is None or alone else _content(near, path)
        found.append(("file", one.size, seen[stamp]))
    return found[0], found[1], found[2]


def _content(near: Near, path: str) -> str:
    try:
        return near.digest(path)
    except OSError:
        return f"unreadable in {id(near)}"  # so it is like nothing else, and stays


def _is_shut(path: str, base: Manifest, mine: Near) -> bool:
    """Say whether the user has removed the folder that *path* would be in, or put a file there."""
    while path := path.rpartition("/")[0]:
        there = mine.look(path)
        if there is not None:
            return there.kind != "folder"
        if path in base:
            return True
    return False
