"""One life of a container, as lines that are only ever appended."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.rescue.lines import Back, Header, Left, Mark, Saved, encode
from workspace_agent.rescue.packs import Packs
from workspace_agent.rescue.store import Content, merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.model.atrisk import Entry
    from workspace_agent.rescue.lines import Line
    from workspace_agent.rescue.saving import Limits, Outcome
    from workspace_agent.rescue.store import Store

# A run has this many lines written at once.
_AT_ONCE = 256

# A data file of which less than this part is of use is written anew.
_LIVE = 0.25


class Run:
    """The run *name* of *store*; *own* is what it says, *known* what the chain says with it.

    Nothing is written before there is something to write. Methods that write raise OSError when
    the volume refuses; what was written before stays valid.
    """

    def __init__(
        self, store: Store, name: str, header: Header, min_free: int = 0, most: int = 0
    ) -> None:
        self.store, self.name, self.header = store, name, header
        self.min_free, self.most = min_free, most
        self._length = self.length()  # before it is read: what comes later is not known
        self._is_cut = name in store.runs()  # its last line may be half of one
        parts = store.parts()
        self.own = parts.get(name) or (store.read(name) if self._is_cut else Content())
        self.known = merged(parts)
        self.packs = Packs(store.data, name)
        self.firsts: dict[tuple[int, int], Saved] = {}  # of hard links: by device and inode
        self._fd = -1
        self._is_wanted = False  # the marker of all owners is not known to be there
        self._outdated = True  # some of a data file may be of no use

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.packs.close()
        if self._fd >= 0:
            os.close(self._fd)

    def save(
        self,
        top: SafeRoot,
        entries: Sequence[Entry],
        limits: Limits | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Outcome:
        """Save *entries* of the container's root *top*, in this order.

        Never raises for a volume that refuses: the outcome has the problem.
        """
        from workspace_agent.rescue import saving

        return saving.Saving(self, top, limits or saving.Limits(), tell).all(entries)

    def length(self) -> int:
        """Return how long it is: longer than this process made it, somebody else wrote."""
        info = self.store.runs_at.look(f"{self.name}.jsonl")
        return info.st_size if info else 0

    def gone(self, paths: Iterable[str]) -> None:
        """Note that the user removed *paths*, so that they stay away."""
        self.write([Mark("gone", path) for path in paths if path in self.known.saved])

    def left(self, entries: Iterable[tuple[Entry, str]]) -> None:
        """Note what was seen and not saved, and why, unless that is known."""
        lines = (Left(entry.path, entry.kind, entry.size, why) for entry, why in entries)
        self.write([one for one in lines if self.own.left.get(one.path) != one])

    def carry(self, lines: Content) -> None:
        """Copy lines of earlier runs, whose bytes stay where they are."""
        rest = [one for path, one in lines.saved.items() if path not in self.own.saved
                and path not in self.own.gone]  # fmt: skip
        undone = [Back(one.path, "undone") for one in rest if one.path in lines.undone]
        self.write([*rest, *undone])

    def took(self) -> None:
        """Note that from here on this run alone counts."""
        self.write([Mark("took")])

    def end(self, reason: str) -> None:
        """Note that the run ended in good order; a boot has to come only if there is something."""
        self.write([Mark("end", reason)])
        others = set(self.store.top.names()) - {layout.RESCUE_WANTED, self.store.owner}
        if not self.known.saved and not others:
            self.store.top.remove(layout.RESCUE_WANTED)
            self._is_wanted = False

    def write(self, lines: Sequence[Line]) -> None:
        """Append *lines*, durably; the bytes that they name are durable already."""
        rest = iter(lines)
        while part := list(islice(rest, _AT_ONCE)):
            text = b"\n" if self._is_cut else b""
            text += encode(self.header) if self.own.header == Header() else b""
            text += b"".join(map(encode, part))
            if not self._is_wanted and any(isinstance(line, Saved) for line in part):
                # Whoever has nothing but this marker to go by must not find lines without it.
                self.store.top.create(layout.RESCUE_WANTED, "", durable=True)
                self._is_wanted = True
            fd = self._opened()
            self._is_cut = True
            files.write_all(fd, text)
            os.fsync(fd)
            self._is_cut = False
            self._length += len(text)
            self.own.header = self.header
            for line in part:
                self._outdated |= isinstance(line, Mark | Saved)
                self.own.add(line)
                self.known.add(line)

    def _opened(self) -> int:
        if self._fd < 0:
            self._fd = self.store.open_run(self.name)
            files.sync_dir("", self.store.runs_at.fd)
        return self._fd

    def compact(self) -> None:
        """Move what is of use out of this run's data files of which little is, and remove those.

        Only in the newest run, to which nobody else wrote: others may need what this one does not,
        or be about to name a file. Where the volume refuses, all stays.
        """
        alone = self.store.runs()[-1:] == [self.name] and self.length() == self._length
        if not self._outdated or not alone:
            return
        self._outdated = False
        self.firsts.clear()
        live: dict[str, dict[int, list[Saved]]] = {}
        for one in self.own.saved.values():
            live.setdefault(one.file, {}).setdefault(one.at, []).append(one)
        # Bytes are added to the one, and the lines of the others are not to be written again.
        fixed = {self.packs.name, *(back.old.file for back in self.own.backs.values() if back.old)}
        try:
            for name in (self.own.files | self.packs.made) - fixed:
                info = self.store.data.look(name) if name.startswith(f"{self.name}-") else None
                found = live.get(name, {})
                of_use = sum(same[0].stored for same in found.values())
                if info and of_use < info.st_size * _LIVE and self._move(found):
                    self.packs.drop(name)
        except OSError:
            self.packs.close()

    def _move(self, found: Mapping[int, Sequence[Saved]]) -> bool:
        """Give lines their bytes in another file; says whether all of them have them."""
        lines: list[Saved] = []
        for same in found.values():
            data = self.bytes_of(same[0])
            if data is None:
                return False
            file, at = self.packs.put(data)
            lines += [replace(one, file=file, at=at) for one in same]
        self.packs.sync()
        self.write(lines)
        return True

    def bytes_of(self, saved: Saved) -> bytes | None:
        """Return the stored bytes of something small; None where they are not there."""
        with suppress(OSError):
            fd = self.store.data.open(saved.file, os.O_RDONLY)
            try:
                os.lseek(fd, saved.at, os.SEEK_SET)
                data = os.read(fd, saved.stored)
            finally:
                os.close(fd)
            return data if len(data) == saved.stored else None
        return None
