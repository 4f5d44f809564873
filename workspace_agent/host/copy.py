"""Copy one tree into a fresh folder: everything a home holds, nothing followed, nothing shared.

What a copy to a volume costs is round trips and the locks of folders, not bytes
(docs/decisions/0004): so every object takes as few requests as there can be, neighbours in time
are in different folders, and the largest folder begins first.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from time import monotonic

from workspace_agent.host import files
from workspace_agent.host.crew import Crew, Pace
from workspace_agent.host.safe_root import FOLDER, SafeRoot
from workspace_agent.host.transfer import (
    LeftOutError,
    Rights,
    Ways,
    copy_file,
    copy_link,
    dress_folder,
    is_whole,
    link,
    make_folder,
)
from workspace_agent.host.walk import Folder, Walk, threads_at_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

# More than these are counted, not named: a marker has to stay small.
NAMED = 200

# Large files share the volume's bandwidth: more than this many at once only wait for each other.
_LARGE, _LARGE_AT_ONCE = 8 << 20, 4

# A person reads progress, and PID 1 counts seconds.
_TELL = 0.1


@dataclass
class Copied:
    """What a copy did: *skipped* lists (path below the source, reason), the first NAMED of them.

    *reused* files were there from an earlier try. *threads* is how many were in use at the end.
    """

    files: int = 0
    bytes: int = 0
    reused: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    skipped_total: int = 0
    owners_kept: bool = True
    threads: int = 1

    def skip(self, path: str, why: str) -> None:
        """Note something that was left out."""
        self.skipped_total += 1
        if len(self.skipped) < NAMED:
            self.skipped.append((path, why))


def copy_tree(
    source: SafeRoot,
    target: SafeRoot,
    *,
    prune: Collection[tuple[int, int]] = (),
    exclude: Sequence[str] = (),
    only: Collection[str] | None = None,
    threads: int = 0,
    in_kernel: bool = True,
    resume: bool = False,
    fits: Callable[[int, int], None] = lambda *_: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Copied:
    """Copy what is in *source* into *target*, which is empty, or with *resume* an earlier try's.

    Modes (without set-id bits), times, attributes, holes, symbolic and hard links, and as root
    the owners are kept as far as the volume takes them. What `Walk` passes over and what cannot
    be read is left out and listed. *threads* is 0 for as many as the volume asks for;
    *in_kernel* False is for FUSE. *fits* hears the bytes and objects to come before the first
    write, and may raise. Raises OSError when the volume itself refuses.
    """

    def walk(skip: Callable[[str, str], None]) -> Walk:
        return Walk(source, prune=prune, exclude=exclude, only=only, skip=skip)

    with _Copy(target, Ways(in_kernel), Pace(threads), resume, tell) as job:
        for number, part in enumerate(tree := walk(job.skip)):
            if number == 0:
                whole = (part,) if tree.complete else walk(lambda *_: None)
                fits(*job.expect(whole))
            job.copy(part)
        return job.result()


class _Copy:
    """One copy under way."""

    def __init__(
        self,
        target: SafeRoot,
        ways: Ways,
        pace: Pace,
        resume: bool,
        tell: Callable[[str], None],
    ) -> None:
        self._target, self._ways, self._pace, self._resume = target, ways, pace, resume
        self._tell, self._told = tell, 0.0
        self._crew = Crew(pace, self._pulse, threads_at_once())
        self._rights = Rights()
        self._lock = threading.Lock()
        self._few, self._many = threading.Semaphore(_LARGE_AT_ONCE), nullcontext()
        self._done = Copied()
        self._total = self._objects = 0
        self._firsts: dict[tuple[int, int], tuple[str, int]] = {}
        self._open: set[Folder] = set()

    def __enter__(self) -> _Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self._crew.close()
        for folder in self._open:
            os.close(folder.target)

    def skip(self, path: str, why: str) -> None:
        """Note something that was left out."""
        with self._lock:
            self._done.skip(path, why)

    def expect(self, tree: Iterable[list[Folder]]) -> tuple[int, int]:
        """Return the bytes and the objects that *tree* takes."""
        size = objects = 0
        for part in tree:
            for folder in part:
                infos = [info for _, info in folder.files]
                size += sum(min(info.st_size, info.st_blocks * 512) for info in infos)
                objects += len(infos) + len(folder.folders)
                self._total += len(infos)
            self._say(f"{objects} objects to copy")
        return size, objects

    def copy(self, part: list[Folder]) -> None:
        """Copy one part of the tree: folders from the top, all else, and what waits for that."""
        for _, level in groupby(sorted(part, key=_depth), key=_depth):
            self._crew.run(self._make, level)
        again: list[tuple[Folder, str, os.stat_result]] = []
        self._crew.run(self._object, self._firsts_of(part, again))
        self._crew.run(self._link, again)
        self._crew.run(self._finish, [folder for folder in part if folder.ended])

    def result(self) -> Copied:
        """Return what was done."""
        self._done.owners_kept, self._done.threads = self._rights.kept, self._pace.threads
        return self._done

    def _make(self, folder: Folder) -> None:
        """Open the folder in the target, and make those in it."""
        folder.refused = folder.refused or bool(folder.above and folder.above.refused)
        if folder.refused:
            return
        if folder.target < 0:
            try:
                folder.target = self._target.open(folder.below, FOLDER)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                folder.refused = True  # as in the source, which has told so
                return
            with self._lock:
                self._open.add(folder)
        for inner in folder.folders:
            try:
                make_folder(folder.target, inner.name, inner.info)
            except LeftOutError as error:
                inner.refused = True
                self.skip(inner.below, str(error))

    def _firsts_of(
        self, part: list[Folder], again: list[tuple[Folder, str, os.stat_result]]
    ) -> Iterator[tuple[Folder, str, os.stat_result]]:
        """List what has to be copied; further names of a file are put off into *again*."""
        for folder, name, info in in_turn(part, self._is_together):
            if info.st_nlink > 1 and stat.S_ISREG(info.st_mode):
                key = (info.st_dev, info.st_ino)
                if key in self._firsts:
                    again.append((folder, name, info))
                    continue
                self._firsts[key] = (folder.path(name), info.st_nlink - 1)
            yield folder, name, info

    def _object(self, task: tuple[Folder, str, os.stat_result]) -> None:
        folder, name, info = task
        source, target = folder.source, folder.target
        reused = 0
        try:
            if self._resume and is_whole(target, name, info, source):
                reused = 1
            elif stat.S_ISLNK(info.st_mode):
                copy_link(source, target, name, info, self._rights)
            else:
                with self._few if info.st_size >= _LARGE else self._many:
                    info = copy_file(
                        source, target, name, info, self._ways, self._rights, self._moved
                    )  # fmt: skip
        except LeftOutError as error:
            self.skip(folder.path(name), str(error))
            return
        with self._lock:
            self._objects += 1
            self._done.reused += reused
            if stat.S_ISREG(info.st_mode):
                self._done.files += 1
                self._done.bytes += info.st_size

    def _link(self, task: tuple[Folder, str, os.stat_result]) -> None:
        """Give a file that was copied before its next name; without such links, a second copy."""
        folder, name, info = task
        if self._resume:
            files.remove(name, folder.target)
        try:
            linked = link(self._target, self._first(info), folder.target, name)
        except LeftOutError as error:
            self.skip(folder.path(name), str(error))
            return
        if not linked:
            self._object(task)

    def _first(self, info: os.stat_result) -> str:
        """Return the path of the copy of this very file; forgotten with the last of its names."""
        key = (info.st_dev, info.st_ino)
        with self._lock:
            first, left = self._firsts.pop(key)
            if left > 1:
                self._firsts[key] = (first, left - 1)
        return first

    def _finish(self, folder: Folder) -> None:
        if folder.target < 0:
            return
        dress_folder(folder.target, folder.source, folder.info, self._rights)
        with self._lock:
            self._open.discard(folder)
        os.close(folder.target)
        folder.target = -1

    def _is_together(self) -> bool:
        return self._pace.threads > 1

    def _moved(self) -> None:
        if self._crew.alone:
            self._pulse()
        else:
            self._crew.stir()

    def _pulse(self) -> None:
        now = monotonic()
        if now - self._told >= _TELL:
            self._told = now
            self._say(f"{self._objects} of {self._total} objects")

    def _say(self, text: str) -> None:
        self._tell(text)


def in_turn(
    part: Iterable[Folder], together: Callable[[], bool]
) -> Iterator[tuple[Folder, str, os.stat_result]]:
    """List the files of all folders, those of the fullest first; they are used up.

    One folder after the other, as a disk likes it, until many work *together*: then one of each
    in turn. Names in one folder are made one by one, by the kernel and by NFS: the fullest takes
    longest whatever else happens, and two neighbours in one folder wait for each other.
    """
    full = [folder for folder in part if folder.files and folder.target >= 0]
    full.sort(key=lambda folder: -len(folder.files))
    for folder in full:
        files = folder.files
        while files and not together():
            yield folder, *files.pop()
    while full := [folder for folder in full if folder.files]:
        for folder in full:
            yield folder, *folder.files.pop()


def _depth(folder: Folder) -> int:
    return folder.depth
