"""What a scan found, as sums for each folder: no file is remembered, and none needs to be.

Whether a file is new since the last look is told by its ctime alone.
"""

from __future__ import annotations

from stat import S_ISREG

from workspace_agent.model.atrisk import Entry
from workspace_agent.watch import kinds
from workspace_agent.watch.classify import Classifier, Ground

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from workspace_agent.watch.layer import Layer

# So long after the start of the workload nothing that is new is the boot's own, in ns.
_SETTLED = 10**9


class Folder:
    """One folder of the layer: its times, what it is, and {kind: [files, bytes on disk]}."""

    __slots__ = ("ground", "seen", "sums", "times", "used")

    def __init__(self, times: tuple[int, int], ground: Ground, seen: int) -> None:
        self.times, self.ground, self.seen = times, ground, seen
        self.sums: dict[str, list[int]] = {}
        self.used = 0

    @property
    def is_precious(self) -> bool:
        """Say whether a file in it would be missed."""
        return any(kinds.KINDS[kind].value >= kinds.PRECIOUS for kind in self.sums)


class Inventory:
    """Hears of folders (`visit`), and keeps the sums; *take* hears of files.

    Of those only that changed from `fresh` (ns) on, and are not the boot's own. *is_ignored* says
    of a path that its owner does not want to hear of it.
    """

    def __init__(
        self,
        layer: Layer,
        classifier: Classifier,
        take: Callable[[Entry], None] = lambda _: None,
        is_ignored: Callable[[str], bool] | None = None,
    ) -> None:
        self.layer, self.fresh = layer, 0
        self.folders: dict[str, Folder] = {}
        self.sums: dict[str, list[int]] = {}
        self.used = 0
        self._classifier, self._take, self._is_ignored = classifier, take, is_ignored
        self._pass = 0

    def at(self, layer: Layer) -> None:
        """Take what is known of the layer now: after a clock was set back, old times are new."""
        if layer is not self.layer:
            self.layer, self.fresh = layer, min(self.fresh, layer.born)

    def begin(self) -> None:
        """Hear that a pass over everything begins."""
        self._pass += 1

    def end(self) -> None:
        """Hear that it is complete: a folder that was not met is gone."""
        for path in [p for p, one in self.folders.items() if one.seen != self._pass]:
            self._count(self.folders.pop(path), -1)

    def drop(self, path: str) -> None:
        """Forget the folder *path*, which is gone, and all below it."""
        for one in [p for p in self.folders if p == path or p.startswith(f"{path}/")]:
            self._count(self.folders.pop(one), -1)

    def visit(
        self,
        path: str,
        info: os.stat_result,
        found: Sequence[tuple[str, os.stat_result]],
        below: Sequence[str] | None,
    ) -> None:
        """Hear what is in one folder; or more of the same one, where *below* is None."""
        old = self.folders.get(path)
        if below is not None or old is None:
            ground = self._ground(path, found, below or ())
            folder = Folder((info.st_mtime_ns, info.st_ctime_ns), ground, self._pass)
        else:
            ground, folder = old.ground, old
        if old:
            self._count(old, -1)
        since, fresh, is_news = self.layer.since, self.fresh, self.layer.is_news
        settled = since + _SETTLED
        kind_of, table = self._classifier.kind, kinds.KINDS
        for name, one in found:
            blocks = one.st_blocks * 512
            folder.used += blocks
            changed = one.st_ctime_ns
            if changed < since or (changed < settled and not is_news(path, name, changed)):
                continue
            kind = kind_of(ground, name, one)
            if self._is_ignored and self._is_ignored(f"{path}/{name}"):
                kind = "hidden"
            sums = folder.sums.get(kind)
            if sums is None:
                sums = folder.sums[kind] = [0, 0]
            sums[0] += 1
            sums[1] += blocks
            if changed >= fresh:
                self._take(Entry.of(f"{path}/{name}", kind, table[kind].value, one))
        self.folders[path] = folder
        self._count(folder, 1)

    def _ground(
        self, path: str, found: Sequence[tuple[str, os.stat_result]], below: Sequence[str]
    ) -> Ground:
        above = self.folders.get(path.rpartition("/")[0]) if path else None
        data = sum(
            name.rpartition(".")[2].lower() in kinds.DATA for name, one in found
            if S_ISREG(one.st_mode)
        ) if len(found) >= kinds.DATA_FILES else 0  # fmt: skip
        names = (
            {*below, *(name for name, _ in found)} if len(found) < kinds.DATA_FILES else {*below}
        )
        return self._classifier.ground(above.ground if above else Ground(), path, names, data)

    def _count(self, folder: Folder, sign: int) -> None:
        self.used += sign * folder.used
        for kind, (count, size) in folder.sums.items():
            sums = self.sums.setdefault(kind, [0, 0])
            sums[0] += sign * count
            sums[1] += sign * size
