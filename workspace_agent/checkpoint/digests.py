"""Whether the files of a checkpoint are those that were written, at the speed of the memory.

A file's digest is the SHA-256 over the SHA-256s of its parts of 16 MiB: so several threads work on
one file, and one that grows is hashed while it does. hashlib and reads let other threads run.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from workspace_agent.host.crew import Crew, Pace
from workspace_agent.host.safe_root import FOLDER, SafeRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

CHUNK = 16 << 20

# What fits beside a core's own cache is hashed before it leaves that.
_PIECE = 1 << 20

# How often a growing file is looked at: at 2 GB/s it grows by a part meanwhile.
_EVERY = 0.01

# 4 GB that are not in memory: 17.5 s by CRIU alone, 8.5 s with two such readers beside it, 7.4 s
# with four or more; to read them first and restore then takes longer than both at once.
THREADS = 8

# Where every processor is busy, CRIU goes first: it is what the workload waits for.
_NICE = 10

# linux/fs.h: SYNC_FILE_RANGE_WRITE
_BEGIN = 2


@dataclass(frozen=True)
class Digest:
    """What a file was when it was written."""

    size: int
    sha256: str


class Follower:
    """Hashes the files in *folder*, and those in its folders, while others still append to them.

    Their way to the disk begins meanwhile, too, so that a sync has little left to do.
    """

    def __init__(self, folder: str) -> None:
        self._root = SafeRoot.at(folder)
        self._parts: dict[str, list[bytes]] = {}
        self._ended = threading.Event()
        self._begin = _write_back()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def finish(self, threads: int = THREADS) -> dict[str, Digest]:
        """Return the digest of every file by its name, now that nothing is written any more.

        Raises OSError, also for anything that is not a regular file.
        """
        self._ended.set()
        self._thread.join()
        try:
            return self._finished(threads)
        finally:
            self.stop()

    def stop(self) -> None:
        """Let go; a second time is no time."""
        self._ended.set()
        self._thread.join()
        if self._root.fd >= 0:
            os.close(self._root.fd)
        self._root.fd = -1

    def _finished(self, threads: int) -> dict[str, Digest]:
        sizes = dict(_files(self._root))
        for name, size in sizes.items():
            known = self._parts.setdefault(name, [])
            if size < len(known) * CHUNK:
                raise OSError(f"{name} became shorter while it was written")
            known += [b""] * (_count(size) - len(known))

        def hash_one(task: tuple[str, int]) -> None:
            name, number = task
            self._parts[name][number] = _hash(self._root, name, number)

        _together(hash_one, [(name, number) for name in sizes
                             for number, part in enumerate(self._parts[name]) if not part],
                  threads)  # fmt: skip
        return {name: Digest(size, _whole(self._parts[name])) for name, size in sizes.items()}

    def _follow(self) -> None:
        _give_way()
        while not self._ended.wait(_EVERY):
            with suppress(OSError):  # what is wrong with it, `finish` says
                for name, size in _files(self._root):
                    self._go_on(name, size)

    def _go_on(self, name: str, size: int) -> None:
        known = self._parts.setdefault(name, [])
        while (len(known) + 1) * CHUNK <= size and not self._ended.is_set():
            self._begin(self._root, name, len(known) * CHUNK)
            known.append(_hash(self._root, name, len(known)))


def verify(
    folder: str, expected: Mapping[str, Digest], threads: int = THREADS, but: Collection[str] = ()
) -> list[str]:
    """Read all files below *folder*, but those of the names *but*, and say what is wrong.

    Reads in parallel, and so brings them into memory faster than one reader can. Raises OSError.
    """
    wrong: list[str] = []
    with SafeRoot.at(folder) as root:
        found = {name: size for name, size in _files(root) if name not in but}
        wrong += [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
        wrong += [f"{name} is not a part of it" for name in sorted(found.keys() - expected.keys())]
        fit = {}
        for name, size in sorted(found.items(), key=lambda one: one[1]):
            if name in expected and expected[name].size == size:
                fit[name] = [b""] * _count(size)
            elif name in expected:
                wrong.append(f"{name} has {size} bytes, and not {expected[name].size}")

        def hash_one(task: tuple[str, int]) -> None:
            fit[task[0]][task[1]] = _hash(root, *task)

        _together(hash_one, ((name, n) for name, parts in fit.items() for n in range(len(parts))),
                  threads)  # fmt: skip
    return wrong + [f"{name} has other bytes than were written" for name, parts in fit.items()
                    if _whole(parts) != expected[name].sha256]  # fmt: skip


def _files(root: SafeRoot, below: str = "") -> Iterator[tuple[str, int]]:
    """List the files below *root*, with their sizes; raises OSError for anything else."""
    folder = root.open(below, FOLDER)
    try:
        for name in sorted(os.listdir(folder)):
            path = f"{below}/{name}" if below else name
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                yield from _files(root, path)
            elif stat.S_ISREG(info.st_mode):
                yield path, info.st_size
            else:
                raise OSError(f"{path} is not a regular file")
    finally:
        os.close(folder)


def _count(size: int) -> int:
    return -(-size // CHUNK)


def _whole(parts: list[bytes]) -> str:
    return sha256(b"".join(parts)).hexdigest()


def _hash(root: SafeRoot, name: str, number: int) -> bytes:
    """Return the digest of one part; each opens the file for itself, or the kernel reads ahead of
    nobody.
    """
    fd = root.open(name, os.O_RDONLY)
    try:
        digest, buffer = sha256(), bytearray(_PIECE)
        view, at = memoryview(buffer), number * CHUNK
        end = at + CHUNK
        while at < end and (got := os.preadv(fd, [view[: min(_PIECE, end - at)]], at)):
            digest.update(view[:got])
            at += got
        return digest.digest()
    finally:
        os.close(fd)


def _together(
    act: Callable[[tuple[str, int]], None], tasks: Iterable[tuple[str, int]], threads: int
) -> None:
    def behind(task: tuple[str, int]) -> None:
        _give_way()
        act(task)

    crew = Crew(Pace(threads), lambda: None)
    try:
        crew.run(behind if threads > 1 else act, tasks)
    finally:
        crew.close()


def _give_way() -> None:
    """Let CRIU go before this thread, where there is not a processor for each of us."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)  # of the thread alone, in Linux


def _write_back() -> Callable[[SafeRoot, str, int], None]:
    """Return what lets the kernel begin to write one part of a file, and does not wait for it."""
    import ctypes

    call = getattr(ctypes.CDLL(None), "sync_file_range", None)

    def begin(root: SafeRoot, name: str, at: int) -> None:
        fd = root.open(name, os.O_RDONLY)
        try:
            if call:
                call(fd, ctypes.c_longlong(at), ctypes.c_longlong(CHUNK), _BEGIN)
        finally:
            os.close(fd)

    return begin
