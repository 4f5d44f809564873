"""What was saved, on the volume: for each owner its runs, and the bytes that their lines name.

<state>/rescue/wanted                           some owner has something to put back
<state>/rescue/<owner>/runs/<run>.jsonl         one for each life of a container; append-only
<state>/rescue/<owner>/data/<run>-<number>      bytes of many small files, or of a large one

Bytes are durable before the lines that name them. One process at a time writes a run.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field

from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model import layout
from workspace_agent.rescue import lines
from workspace_agent.rescue.lines import Back, Header, Left, Saved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workspace_agent.rescue.lines import Line
    from workspace_agent.rescue.run import Run

_LINES = ".jsonl"


@dataclass
class Content:
    """What lines add up to: the newest for each path counts.

    *undone* are paths that the user took back once, *files* all that any line names. *unread*
    lines could not be read. *known* is False for a run of a newer agent.
    """

    header: Header = field(default_factory=Header)
    saved: dict[str, Saved] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    backs: dict[str, Back] = field(default_factory=dict)
    left: dict[str, Left] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    took: bool = False
    end: str = ""
    unread: int = 0
    known: bool = True

    def add(self, line: Line) -> None:
        """Take the next *line* into account."""
        if isinstance(line, Saved):
            self.saved[line.path] = line
            self.files.add(line.file)
            self.gone.discard(line.path)
            self.undone.discard(line.path)
            self.left.pop(line.path, None)
        elif isinstance(line, Back):
            self.backs[line.path] = line
            (self.undone.add if line.how == "undone" else self.undone.discard)(line.path)
        elif isinstance(line, Left):
            self.left[line.path] = line
        elif isinstance(line, Header):
            self.header, self.known = line, line.schema == lines.SCHEMA
        elif line.word == "gone":
            self.saved.pop(line.text, None)
            self.gone.add(line.text)
        else:
            self.took |= line.word == "took"
            self.end = line.text

    def over(self, newer: Content) -> None:
        """Lay the lines of a *newer* run over these."""
        for path in newer.gone:
            self.saved.pop(path, None)
        self.saved |= newer.saved
        self.gone = (self.gone - newer.saved.keys()) | newer.gone
        self.undone = (self.undone - newer.saved.keys()) | newer.undone
        self.left |= newer.left

    def named(self) -> set[str]:
        """Return the data files that it needs."""
        olds = (back.old for back in self.backs.values() if back.old)
        return {one.file for one in (*self.saved.values(), *olds) if one.file}


@dataclass(frozen=True)
class Store:
    """What was saved for one owner, in a folder named *owner* in *top*."""

    top: SafeRoot
    runs_at: SafeRoot
    data: SafeRoot
    owner: str

    def runs(self) -> list[str]:
        """List the runs, the newest last."""
        names = (
            name.removesuffix(_LINES) for name in self.runs_at.names() if name.endswith(_LINES)
        )
        return sorted(name for name in names if lines.RUN.fullmatch(name))

    def read(self, run: str) -> Content:
        """Return what *run* says; raises OSError where it cannot be read."""
        found = Content()
        with os.fdopen(self.runs_at.open(run + _LINES, os.O_RDONLY), "rb") as file:
            for _ in range(lines.MOST):
                text = file.readline(lines.LONGEST + 1)
                if not text:
                    break
                line = lines.decode(text) if text.endswith(b"\n") else None
                if line:
                    found.add(line)
                elif text != b"\n":
                    found.unread += 1
                while text and not text.endswith(b"\n"):
                    text = file.readline(lines.LONGEST)
        return found if found.known else Content(known=False)

    def parts(self) -> dict[str, Content]:
        """Return the runs that a boot looks at: the newest, and older ones down to one that took.

        The newest comes first.
        """
        found: dict[str, Content] = {}
        for run in reversed(self.runs()):
            found[run] = self.read(run)
            if found[run].took:
                break
        return found

    def chain(self) -> Content:
        """Return what those runs add up to."""
        return merged(self.parts())

    def begin(self, run: str, header: Header, *, min_free: int = 0, most: int = 0) -> Run:
        """Begin *run*, or go on with it.

        Nothing is saved that leaves less than *min_free* bytes on the volume, or makes the
        owner's files more than *most* bytes, if that is given.
        """
        from workspace_agent.rescue.run import Run  # sqlite, hashes: a look needs none of it

        return Run(self, run, header, min_free, most)

    def open_run(self, run: str) -> int:
        """Open *run* for more lines."""
        return self.runs_at.open(run + _LINES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def used(self) -> int:
        """Return how many bytes the owner's files take."""
        found = ((root, name) for root in (self.runs_at, self.data) for name in root.names())
        return sum(info.st_blocks * 512 for root, name in found if (info := root.look(name)))

    def prune(self, keep: int = 3, *, dry_run: bool = False) -> list[str]:
        """Remove runs that a boot has looked at, but the newest *keep*, and bytes nobody names.

        Returns what went, or would in a *dry_run*. Raises OSError where a run cannot be read: what
        it names stays.
        """
        runs = self.runs()
        read = {run: self.read(run) for run in runs}
        if not all(content.known for content in read.values()):
            return []
        took = max((n for n, run in enumerate(runs) if read[run].took), default=0)
        old = runs[: min(took, max(0, len(runs) - keep))]
        named = set[str]().union(*(read[run].named() for run in runs if run not in old))
        # What the newest run does not name may be about to be.
        spare = [
            name for name in sorted(self.data.names())
            if name not in named and runs and not name.startswith(f"{runs[-1]}-")
        ]  # fmt: skip
        for run in () if dry_run else old:
            self.runs_at.remove(run + _LINES)
        for name in () if dry_run else spare:
            self.data.remove(name)
        return old + spare


def merged(parts: Mapping[str, Content]) -> Content:
    """Return what runs, the newest first, add up to."""
    found = Content(known=all(part.known for part in parts.values()))
    for part in reversed(list(parts.values())):
        found.over(part)
    return found


@contextmanager
def opened(volume: str, owner: str, *, make: bool = False) -> Iterator[Store]:
    """Open the store of *owner* on *volume*; raises OSError where there is none to be opened."""
    mode = 0o700 if make else None
    with (
        SafeRoot.at(volume) as root,
        root.folder(f"{layout.STATE}/{layout.RESCUE_IN_STATE}", mode) as top,
        top.folder(f"{_name(owner)}/runs", mode) as runs,
        top.folder(f"{_name(owner)}/data", mode) as data,
    ):
        yield Store(top, runs, data, _name(owner))


def _name(owner: str) -> str:
    """Return the name of the owner's folder: another one for each owner."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else f"%{ord(c):x}%"
                   for c in owner)  # fmt: skip
    return f"%{safe}" if safe in ("", ".", "..", layout.RESCUE_WANTED) else safe
