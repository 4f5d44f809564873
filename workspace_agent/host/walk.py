"""A tree, listed a bounded part at a time: ten million files need no more memory than ten thousand.

Every folder is opened beneath the one root, nothing is followed, and nothing but folders is
opened at all.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from dataclasses import dataclass, field

from workspace_agent.host.safe_root import FOLDER, SafeRoot
from workspace_agent.model.recipe import matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

# What one part holds at most: entries for the memory, folders for the descriptors, of which each
# takes three (its source, its listing, its target).
_ENTRIES, _FOLDERS = 20_000, 2000

# Sockets and pipes are of a process that is gone, and a mount is there again in the next pod.
_SPECIAL, _ELSEWHERE = "a special file", "on another device"
NOT_MISSED = (_SPECIAL, _ELSEWHERE)

# What else is open: two or three files of each of 64 threads, and a boot's own.
_EACH, _OWN = 3, 40
_OTHERS = 64 * _EACH + _OWN

# No file is to blame for these, and the next one would meet the same.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclass(eq=False)
class Folder:
    """One folder on the way: *files* and *folders* are what this part of its listing found.

    *source* is open while the part is in use, -1 where it cannot be; *ended* says that the
    listing is complete. *target* is for whoever copies.
    """

    below: str
    info: os.stat_result
    above: Folder | None = None
    source: int = -1
    target: int = -1
    files: list[tuple[str, os.stat_result]] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    ended: bool = False
    refused: bool = False
    listing: Iterator[os.DirEntry[str]] | None = None

    @property
    def name(self) -> str:
        """Its own name."""
        return self.below.rpartition("/")[2]

    @property
    def depth(self) -> int:
        """How many folders are above it."""
        return self.below.count("/") + 1 if self.below else 0

    def path(self, name: str) -> str:
        """Return the path of *name* in it, below the root."""
        return f"{self.below}/{name}" if self.below else name


class Walk:
    """What there is to keep below *source*: an iterator of parts, each a list of folders.

    A folder comes before those in it. Names that match a glob of *exclude*, folders in *prune*
    (device, inode) and, where *only* is given, everything else are passed over; other devices,
    special files and what cannot be listed are told to *skip* (path, reason).
    """

    def __init__(
        self,
        source: SafeRoot,
        *,
        prune: Collection[tuple[int, int]] = (),
        exclude: Sequence[str] = (),
        only: Collection[str] | None = None,
        skip: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._source, self._prune, self._exclude, self._skip = source, prune, exclude, skip
        self._only = None if only is None else _with_folders(only)
        self._choosy = bool(exclude) or only is not None
        top = os.fstat(source.fd)
        self._device = top.st_dev
        self._pending = [Folder("", top)]
        self._open: set[Folder] = set()
        self._most = _folders_at_once()

    def __iter__(self) -> Iterator[list[Folder]]:
        try:
            while self._pending:
                part = self._part()
                yield part
                for folder in part:
                    folder.files, folder.folders = [], []
                    if folder.ended:
                        self._close(folder)
        finally:
            for folder in tuple(self._open):
                self._close(folder)

    def _close(self, folder: Folder) -> None:
        if folder in self._open:
            self._open.remove(folder)
            os.close(folder.source)
            folder.source = -1

    @property
    def complete(self) -> bool:
        """Whether the last part was the last."""
        return not self._pending

    def _part(self) -> list[Folder]:
        part: list[Folder] = []
        room = _ENTRIES
        while self._pending and room > 0 and len(part) < self._most:
            folder = self._pending.pop()
            room -= self._list(folder, room)
            part.append(folder)
            if not folder.ended:
                self._pending.append(folder)  # below those in it, or all of these would wait
            self._pending.extend(reversed(folder.folders))
        return part

    def _list(self, folder: Folder, room: int) -> int:
        folder.files, folder.folders = [], []
        try:
            if folder.listing is None:
                folder.source = self._source.open(folder.below, FOLDER)
                self._open.add(folder)
                folder.listing = os.scandir(folder.source)
            for count, entry in enumerate(folder.listing, 1):
                self._sort(folder, entry)
                if count >= room:
                    return count
        except OSError as error:
            self._skip(folder.below, reason(error))
        folder.ended = True
        return len(folder.files) + len(folder.folders) + 1

    def _sort(self, folder: Folder, entry: os.DirEntry[str]) -> None:
        if self._choosy and not self._is_wanted(folder.path(entry.name)):
            return
        try:
            info = entry.stat(follow_symlinks=False)
        except OSError as error:
            self._skip(folder.path(entry.name), reason(error))
            return
        kind = stat.S_IFMT(info.st_mode)
        if kind in (stat.S_IFREG, stat.S_IFLNK):
            folder.files.append((entry.name, info))
        elif kind != stat.S_IFDIR:
            self._skip(folder.path(entry.name), _SPECIAL)
        elif info.st_dev != self._device:
            self._skip(folder.path(entry.name), _ELSEWHERE)
        elif (info.st_dev, info.st_ino) not in self._prune:
            folder.folders.append(Folder(folder.path(entry.name), info, folder))

    def _is_wanted(self, path: str) -> bool:
        if self._only is not None and path not in self._only:
            return False
        return not any(matches(path, glob) for glob in self._exclude)


def reason(error: OSError) -> str:
    """Say why something is left out; raises *error* where it says nothing about that thing."""
    if error.errno in _OURS:
        raise error
    return os.strerror(error.errno or 0)


def _with_folders(paths: Collection[str]) -> set[str]:
    """Return *paths* and every folder on the way to them."""
    found = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return found


def threads_at_once() -> int:
    """Return for how many threads there are descriptors."""
    return max(1, (_others() - _OWN) // _EACH)


def _folders_at_once() -> int:
    """Return how many folders may be open at once."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _FOLDERS
    return max(1, min(_FOLDERS, (limit - _others()) // 3))


def _others() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OTHERS if limit == resource.RLIM_INFINITY else min(limit * 2 // 3, _OTHERS)
