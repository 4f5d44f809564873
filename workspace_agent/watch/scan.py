"""One pass over the container's own layer: a folder at a time, nothing kept, nothing followed."""

from __future__ import annotations

import errno
import os
from stat import S_IFDIR

from workspace_agent.host.safe_root import FOLDER, SafeRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator

    from workspace_agent.watch.layer import Layer

    Found = list[tuple[str, os.stat_result]]

    # Hears of a folder: its path, itself, what is in it but folders, and the folders in it; None
    # instead of those is for more of the folder that it has just heard of.
    Visit = Callable[[str, os.stat_result, Found, list[str] | None], None]

_KIND = 0o170000

# A folder can have a million files: so many are told of at once.
_PART = 20_000

# Neither means anything: a mount is not of the layer, and what is gone is gone.
_PASSED = frozenset({errno.EXDEV, errno.ENOENT, errno.ELOOP, errno.ENOTDIR})


class Scan:
    """Goes through *layer* below *root*, and calls *visit* for each folder that is in it.

    *passed* are absolute paths that are not looked at: other mounts, and what is the agent's own.
    `listed` and `looked` count folders and their entries, `unreadable` what we may not list.
    """

    def __init__(self, root: SafeRoot, layer: Layer, passed: Collection[str], visit: Visit) -> None:
        self._root, self._layer, self._visit = root, layer, visit
        self._passed = passed
        self._near = {path.rpartition("/")[0] for path in passed}
        self._last: SafeRoot | None = None
        self.listed = self.looked = self.unreadable = 0

    def run(self, tops: Iterable[str] = ("",)) -> None:
        """Go through *tops*, absolute paths of folders, and all below; "" is the root."""
        pending = list(tops)
        try:
            while pending:
                self._folder(pending.pop(), pending)
        finally:
            self._stay(None)

    def look(self, folders: Iterable[str], known: Container[str]) -> None:
        """Go through these *folders*, and through those in them that are not *known*."""
        for path in folders:
            below: list[str] = []
            self._folder(path, below)
            self.run(one for one in below if one not in known)

    def _folder(self, path: str, pending: list[str]) -> None:
        try:
            fd = self._open(path)
        except OSError as error:
            self._failed(error)
            return
        self._stay(SafeRoot(fd, path))
        folders: list[str] = []
        try:
            info = os.fstat(fd)
            names: list[str] | None = []
            for found, into in self._list(fd, path):
                folders += into
                if names is not None:
                    names = [one.rpartition("/")[2] for one in into]
                self._visit(path, info, found, names)
                names = None
        except OSError as error:
            self._failed(error)
        pending.extend(folders)

    def _list(self, fd: int, path: str) -> Iterator[tuple[Found, list[str]]]:
        """Yield the files and the folders of one folder, at least once."""
        born = self._layer.born
        least = born if self._layer.pruned else -1
        near = path in self._near
        found: Found = []
        folders: list[str] = []
        with os.scandir(fd) as listing:
            for entry in listing:
                self.looked += 1
                try:
                    info = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # gone since
                changed = info.st_ctime_ns
                if info.st_mode & _KIND == S_IFDIR:
                    if changed < least:
                        continue
                    into = f"{path}/{entry.name}"
                    if not (near and into in self._passed):
                        folders.append(into)
                elif changed >= born and not (near and f"{path}/{entry.name}" in self._passed):
                    found.append((entry.name, info))
                    if len(found) == _PART:
                        yield found, folders
                        found, folders = [], []
        self.listed += 1
        yield found, folders

    def _open(self, path: str) -> int:
        """Open a folder: from the one before, where it is in that, or deep trees take for ever."""
        above, _, name = path.rpartition("/")
        if self._last and self._last.path == above and name:
            return self._last.open(name, FOLDER)
        return self._root.open(path[1:], FOLDER)

    def _stay(self, last: SafeRoot | None) -> None:
        """Keep the folder *last* open, and no other."""
        if self._last:
            os.close(self._last.fd)
        self._last = last

    def _failed(self, error: OSError) -> None:
        if error.errno in (errno.EACCES, errno.EPERM):
            self.unreadable += 1
        elif error.errno not in _PASSED:
            raise error
