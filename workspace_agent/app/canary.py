"""The watcher watches itself: once an hour it makes a file, and looks how long it takes to see it.

The file is empty, has a name of the agent's, and is gone at once; its folder keeps its times.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from workspace_agent.host.safe_root import FOLDER

if TYPE_CHECKING:
    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.watch.inventory import Inventory

EVERY = 3600.0

# One that was not seen for so long was missed.
_LATEST = 120.0

# Programs look into these, and act on what they find.
_NOT_IN = ("git", "hidden", "keys", "cache")


class Canary:
    """Makes the file below *root* and hears of what is found (`is_it`)."""

    def __init__(self, root: SafeRoot) -> None:
        self._root = root
        self._due = time.monotonic() + EVERY / 60
        self._path, self._made = "", 0.0
        self._last: float | None = None
        self._seen = self._missed = 0

    def is_it(self, path: str) -> bool:
        """Say whether *path* is the file, and take it away then."""
        if path != self._path:
            return False
        self._last, self._seen = time.monotonic() - self._made, self._seen + 1
        self._remove()
        return True

    def on_time(self, now: float, inventory: Inventory) -> None:
        """Make it, if it is time to; or give one up that was not seen."""
        if self._path and now - self._made > _LATEST:
            self._missed += 1
            self._remove()
        if now >= self._due:
            self._due = now + EVERY
            places = [path for path, one in inventory.folders.items()
                      if path and one.sums and one.ground.whole not in _NOT_IN]  # fmt: skip
            if places:
                self._make(random.choice(places))

    def state(self) -> dict[str, object]:
        """Return how it went so far; the latency is in seconds."""
        return {"seen": self._seen, "missed": self._missed, "latency": self._last}

    def _make(self, folder: str) -> None:
        name = f".workspace-agent-{os.urandom(4).hex()}.lock"  # an ending that nobody keeps
        self._path, self._made = f"{folder}/{name}", time.monotonic()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with suppress(OSError):
            info = os.lstat(folder)
            os.close(self._root.open(self._path[1:], flags, 0o600))
            self._settle(folder, info)
            return
        self._path = ""  # a folder that is not ours to write

    def _remove(self) -> None:
        folder = self._path.rpartition("/")[0]
        with suppress(OSError):
            info = os.lstat(folder)
            self._root.remove(self._path[1:])
            self._settle(folder, info)
        self._path = ""

    def _settle(self, folder: str, info: os.stat_result) -> None:
        fd = self._root.open(folder[1:], FOLDER)
        try:
            os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))
        finally:
            os.close(fd)
