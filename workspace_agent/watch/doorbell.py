"""The doorbell: inotify says where it is worth to look. What is at risk a scan says, never this.

No inotify library is exact, and each is allowed to fail: watches and instances are shared with
other containers of the machine, a queue overflows, a thread of watchdog's dies of a rename. Then
fewer folders ring, or none, and `state` and `why` say so.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from contextlib import suppress

from workspace_agent.watch.roots import MOST_FOLDERS, MOST_ROOTS, folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

# A root that has grown beyond this is let go.
_TOO_MANY = 2 * MOST_FOLDERS

# More folders than this are not worth a list: one scan of everything is cheaper.
_MOST_DIRTY = 1000

# What is found dead or short this often, without having been whole in between, is let go.
_MOST_RESTARTS = 3

# Folders made, moved and deleted between two checks; watchdog walks and remembers each of them.
# Past this it is a storm: everywhere rings, and the watches are made anew when it is over.
_STORM = 20_000

# linux/inotify.h: CLOSE_WRITE, CREATE, MOVED_TO, DELETE, DELETE_SELF, IGNORED, ISDIR.
_CLOSED, _CREATED, _MOVED_TO, _DELETED = 0x08, 0x0100, 0x80, 0x0200
_ENDED, _FOLDER = 0x0400 | 0x8000, 0x40000000

# A pause after a small read: the queue gathers meanwhile, and 100,000 files cost a sixth.
_BREATH, _SMALL = 0.05, 40_000

_GROWN = "too many folders to watch"

_REASONS = {
    errno.ENOSPC: "this machine's inotify watches are used up",
    errno.EMFILE: "this machine's inotify instances are used up",
    errno.ENOENT: "it is gone",
    errno.ENOTDIR: "it is gone",
}


class Doorbell:
    """Rings for each folder below *roots* in which something changed since the last `take`.

    *ring* gets the folder, or "" for everywhere, on a thread of watchdog's; it must be quick.
    """

    def __init__(
        self, roots: Sequence[str], ring: Callable[[str], None], most: int = MOST_ROOTS
    ) -> None:
        self._roots, self._ring = list(roots[:most]), ring
        self._lock = threading.Lock()
        self._dirty: set[str] = set()
        self._observer: Any = None
        self._watches: dict[str, Any] = {}  # root: what watchdog calls its watch
        self._restarts: dict[str, int] = {}
        self._lost: dict[str, str] = dict.fromkeys(roots[most:], "one root too many")
        self._short: set[str] = set()  # roots that were watched too little when last counted
        self._turn = self._storm = 0

    @property
    def state(self) -> str:
        """Return `on`, `fewer` or `off`."""
        return ("fewer" if self._lost else "on") if self._watches else "off"

    @property
    def why(self) -> str:
        """Return a sentence for what does not ring; empty when all does."""
        if not self._lost:
            return "" if self._watches else "no folder is watched"
        return "; ".join(f"{root or 'inotify'}: {why}" for root, why in self._lost.items())

    def start(self) -> None:
        """Begin to listen; never raises."""
        try:
            import logging

            from watchdog.observers.inotify import InotifyObserver
            from watchdog.observers.inotify_c import Inotify

            # watchdog drops the kernel's record of an overflow, and its own queues have no limit.
            Inotify._parse_event_buffer = staticmethod(self._parsed)  # type: ignore[assignment]
            logging.getLogger("watchdog").setLevel(logging.CRITICAL)
            self._observer = InotifyObserver()
            self._observer.start()
        except Exception as error:  # a foreign module in an image of somebody's
            self._observer, self._lost[""] = None, _reason(error)
            return
        for root in self._roots:
            self._add(root)

    def take(self) -> set[str]:
        """Return the folders that rang since the last call; "" among them means everywhere."""
        with self._lock:
            taken, self._dirty = self._dirty, set()
        return taken

    def check(self) -> None:
        """Find what died or watches too little, start it again or let it go; for every minute.

        Whether each folder is watched is looked up for one root a call, in turn: that lists it.
        """
        alive = bool(self._observer) and self._observer.is_alive()
        if self._observer and not alive:
            self._lost[""] = "watchdog's thread ended"
            self.close()
        stormy, self._storm = self._storm > _STORM, 0
        turn = self._turn % len(self._watches) if self._watches else 0
        self._turn += 1
        for n, root in enumerate(list(self._watches)):
            why = "its folders change too fast" if stormy else self._trouble(root, n == turn)
            if why:
                self._again(root, why)

    def close(self) -> None:
        """Stop to listen."""
        if self._observer:
            for root in list(self._watches):
                self._remove(root)
            self._observer.stop()
        self._observer = None

    def dispatch(self, event: Any) -> None:
        """Take an event of watchdog's."""
        for path in (event.src_path, event.dest_path):
            if path:
                self._note(os.path.dirname(path))

    def _note(self, folder: str) -> None:
        with self._lock:
            if folder in self._dirty or "" in self._dirty:
                return
            if len(self._dirty) >= _MOST_DIRTY:
                folder = ""
            if not folder:
                self._dirty.clear()
            self._dirty.add(folder)
        self._ring(folder)

    def _parsed(self, buffer: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield what watchdog needs of a *buffer* of the kernel's: folders, and where files are.

        A move comes as an end and a beginning: of moves watchdog keeps a record for ever, and a
        folder that comes from elsewhere it would not watch.
        """
        if len(buffer) < _SMALL:
            time.sleep(_BREATH)
        at, rang = 0, set()
        while at + 16 <= len(buffer):
            watch, mask, _, length = struct.unpack_from("iIII", buffer, at)
            name = buffer[at + 16 : at + 16 + length].rstrip(b"\0")
            at += 16 + length
            if watch == -1:  # the queue overflowed
                self._note("")
            elif mask & _ENDED:
                yield watch, mask, 0, name
            elif not mask & _FOLDER:
                if watch not in rang:
                    rang.add(watch)
                    yield watch, _CLOSED, 0, name
            elif self._storm > _STORM:
                self._note("")
            else:
                self._storm += 1
                made = mask & (_CREATED | _MOVED_TO)
                yield watch, _FOLDER | (_CREATED if made else _DELETED), 0, name

    def _add(self, root: str) -> None:
        before = _instances()
        try:
            from watchdog import events

            wanted = [
                events.FileCreatedEvent, events.FileClosedEvent, events.FileMovedEvent,
                events.FileDeletedEvent, events.DirCreatedEvent, events.DirMovedEvent,
                events.DirDeletedEvent,
            ]  # fmt: skip
            self._watches[root] = self._observer.schedule(
                self, root, recursive=True, event_filter=wanted
            )
        except Exception as error:
            self._lost[root] = _reason(error)
            for fd in _instances() - before:  # watchdog leaves it open, with all its watches
                with suppress(OSError):
                    os.close(fd)

    def _remove(self, root: str) -> None:
        watch = self._watches.pop(root)
        with suppress(Exception):  # it may be half dead
            self._observer.unschedule(watch)

    def _again(self, root: str, why: str) -> None:
        self._remove(root)
        self._note("")  # what happened meanwhile nobody has seen
        self._restarts[root] = self._restarts.get(root, 0) + 1
        if self._restarts[root] > _MOST_RESTARTS or why == _GROWN:
            self._lost[root] = why
        else:
            self._add(root)

    def _trouble(self, root: str, count: bool) -> str:
        """Return what is wrong with the watch of *root*; "" when nothing is."""
        try:
            emitter = self._observer._emitter_for_watch[self._watches[root]]
            reader = emitter._inotify
            if not (emitter.is_alive() and reader and reader.is_alive()):
                return "its thread ended"
            return self._shortage(root, reader._inotify.fd) if count else ""
        except Exception as error:  # another watchdog than we know
            return _reason(error)

    def _shortage(self, root: str, fd: int) -> str:
        there = folders(root, _TOO_MANY)
        if there > _TOO_MANY:
            return _GROWN
        with open(f"/proc/self/fdinfo/{fd}", "rb") as lines:
            watched = lines.read().count(b"inotify wd:")
        if watched >= there:
            self._short.discard(root)
            self._restarts.pop(root, None)
        elif root in self._short:
            return f"only {watched} of {there} folders are watched"
        else:
            self._short.add(root)  # it may be a moment behind: counted again the next time
        return ""


def _instances() -> set[int]:
    """Return which of our file descriptors are inotify's."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:inotify":
                found.add(int(name))
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "watchdog is not installed"
    code = error.errno if isinstance(error, OSError) else None
    return _REASONS.get(code or 0) or str(error) or type(error).__name__
