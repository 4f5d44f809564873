"""Which files are of this container alone: told by two instants, without privilege or events.

An overlay's root was born when its upper layer was made, and copies every folder up before
anything in it can change. So what has a ctime before that instant is the image's, and a folder
with such a ctime has nothing of the container's below it. A ctime cannot be set by anybody.
"""

from __future__ import annotations

import os
import time

from workspace_agent.host import files
from workspace_agent.host.statx import born_ns
from workspace_agent.model import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

EXACT, NO_PRUNE, SINCE_START = "exact", "no-prune", "since-start"

# The clock that inodes get their times from; `time` has no name for it (linux/time.h).
_COARSE = 5

# An inode's clock ticks every 4 or 10 ms.
_TICK = 10_000_000

# A clock that is corrected moves by less.
_STEP_NS = 10**9

_REDIRECT = "/sys/module/overlay/parameters/redirect_dir"


class Layer:
    """The container's own layer, in ns since 1970.

    What changed from *born* on is in it; what changed before *since* was the boot's doing. Only a
    *pruned* scan may pass over a folder that did not change. *ahead* is how far the clock was ahead
    of that since the machine's start.
    """

    __slots__ = ("ahead", "born", "mode", "pruned", "since", "why")

    def __init__(
        self, mode: str, born: int, since: int, pruned: bool = True, why: str = "", ahead: int = 0
    ) -> None:
        self.mode, self.born, self.since = mode, born, since
        self.pruned, self.why, self.ahead = pruned, why, ahead

    def is_news(self, folder: str, name: str, changed: int) -> bool:
        """Say whether the file *name* in *folder* was changed by anybody but the boot.

        What the boot writes last may have the time of the start: there the system is its own.
        """
        own = folder == "/etc" or folder.startswith("/etc/") or name.endswith(".pth")
        return changed >= self.since + (_TICK if own else 0)

    def at(self, ahead: int) -> Layer:
        """Return what holds now that the clock is *ahead*: once it was set back, files that are
        made now have times from before the layer was born.
        """
        back = self.ahead - ahead
        if back <= _STEP_NS:
            return self
        why = f"the clock was set back by {back // 10**9} s: files of the image may count as yours"
        born = min(self.born, ahead + time.monotonic_ns() - _STEP_NS)
        return Layer(self.mode, born, min(self.since, born), self.pruned, why, ahead)


def ahead_ns() -> int:
    """Return how far the clock is ahead of that since the machine's start."""
    return time.time_ns() - time.monotonic_ns()


def now_ns() -> int:
    """Return the time that a file gets which is made now."""
    return time.clock_gettime_ns(_COARSE)


def mountinfo() -> str:
    """Return the mounts of this process, as the kernel says them."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as handle:
        return handle.read()


def probe(runtime: str, *, note: bool = True) -> Layer:
    """Find out how the layer of this container can be told; *runtime* is the agent's folder.

    When its first workload was started is noted in the layer itself, unless *note* is False.
    """
    kind, options = root_mount(mountinfo())
    started = _started(runtime)
    mode, born, why = decide(kind, options, born_ns("/"), started, _redirects(options))
    return Layer(mode, born, _since(born, started, note), mode != NO_PRUNE, why, ahead_ns())


def decide(
    kind: str, options: Collection[str], born: int, started: int, redirects: bool
) -> tuple[str, int, str]:
    """Return the mode for a root of this *kind*, from when on files count, and what to know.

    *born* is 0 where the root has no birth; *started* is when the workload was started.
    """
    if kind != "overlay":
        return NO_PRUNE, started, f"the root is {kind or 'unknown'}: every folder has to be read"
    if not born:
        return (
            SINCE_START,
            started,
            "the root has no birth: what is older than the start is not seen",
        )
    if redirects:
        return (
            EXACT,
            born,
            "redirect_dir is on: a renamed folder of the image is not seen",
        )
    return EXACT, born, ""


def root_mount(text: str) -> tuple[str, frozenset[str]]:
    """Return the kind of file system at the root, and its options."""
    found: tuple[str, frozenset[str]] = ("", frozenset())
    for line in text.split("\n"):
        head, dash, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if dash and len(fields) > 5 and fields[4] == "/" and len(rest) > 2:
            found = rest[0], frozenset(rest[2].split(","))
    return found


def _redirects(options: Collection[str]) -> bool:
    for option in options:
        if option.startswith("redirect_dir="):
            return option == "redirect_dir=on"
    return (files.read(_REDIRECT) or b"N")[:1] in b"Yy"


def _started(runtime: str) -> int:
    """Return when the workload of this boot was started."""
    from workspace_agent.model.jsontext import table

    found = table(files.read(f"{runtime}/{layout.AGENT}")).get("since")
    return found if isinstance(found, int) and 0 < found <= time.time_ns() else now_ns()


def _since(born: int, started: int, note: bool) -> int:
    """Return when the first workload of this layer was started: a container may be restarted.

    What an image brings along is older than the layer.
    """
    path = layout.began(os.geteuid())
    try:
        info = os.lstat(path)
        text = files.read(path) or b""
        if info.st_ctime_ns >= born and info.st_uid == os.geteuid() and text.strip().isdigit():
            return min(int(text), started)
    except OSError:
        pass
    if not note:
        return started
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        files.commit(path, f"{started}\n")
    except OSError:
        pass  # a read-only root: nothing can be written outside either
    return started
