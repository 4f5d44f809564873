"""The home on the volume: the image's defaults, copied once, whole or not at all."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field

from workspace_agent.host.room import room
from workspace_agent.host.syncing import syncfs
from workspace_agent.model import layout
from workspace_agent.model.outcome import Blocked, Check, Ok, Todo
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A person's home outside a container is copied only if it is as small as an image's:
# nobody who tries the agent on a laptop means to copy 100 GB of it.
SMALL_ENTRIES, SMALL_BYTES = 2000, 64 << 20

# Each piece of a copy is a request there, and in-kernel copying makes small ones.
_REQUESTS = ("fuse", "virtiofs", "9p")


@dataclass(frozen=True)
class HomeSeed:
    """Copy *source* to *target* once; the marker, inside the stage, appears with the tree.

    *state* is the agent's folder at the volume's root, *kind* the volume's file system. With
    *skeleton* a source that is not small is left alone and that folder is copied instead. *image*
    is a name of the image that somebody has told, *threads* is 0 for as many as it takes. *moved*
    are globs of what a boot changes in *source* itself: the image is not known by that.
    """

    source: str
    target: str
    marker: str
    state: str
    prune: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    skeleton: str = ""
    boot_id: str = ""
    min_free: int = 0
    threads: int = 0
    kind: str = ""
    image: str = ""
    moved: tuple[str, ...] = ()
    name: str = "home.seed"
    needs: tuple[str, ...] = ("volume.ready",)
    sync: Callable[[int], None] = field(default=syncfs, compare=False)

    def check(self) -> Check:
        """Look at the marker, which alone decides: four requests where names are far away."""
        if not self.below:
            return Blocked(self._elsewhere())
        if self._is_blocked():
            return Blocked(self._in_the_way())
        if self.is_made():
            return Ok() if self.was_made() else Todo("a marker that is not on record is adopted")
        if problem := self._unusable() or self._no_room():
            return Blocked(problem)
        if not os.path.isdir(self.target):
            return Todo(f"first boot: {self.source} is copied")
        if self.was_made():
            return Todo("the marker was removed: fresh defaults, your versions in a backup")
        return Todo("the marker is missing: defaults that are not there are added")

    def apply(self, tell: Callable[[str], None]) -> Problem | None:
        """Make the home, or wait for another pod that is at it."""
        from workspace_agent.steps.seeding import seed  # threads, locks: a warm boot makes nothing

        return seed(self, tell)

    def tidy(self) -> bool:
        """Remove what killed boots left, once the home is made; beside the workload.

        Says whether a later boot has nothing to do.
        """
        from workspace_agent.host.safe_root import SafeRoot
        from workspace_agent.steps.stage import tidy

        try:
            with (
                SafeRoot.at(self.volume) as volume,
                volume.folder(os.path.basename(self.state)) as state,
            ):
                return not self.is_made() or tidy(state, self.boot_id)
        except OSError:
            return True  # what cannot be removed stays

    @property
    def volume(self) -> str:
        """The volume's root."""
        return os.path.dirname(self.state)

    @property
    def below(self) -> str:
        """The home's path on the volume; "" when it is not there."""
        inside = self.target.startswith(f"{self.volume}/")
        return self.target[len(self.volume) + 1 :].strip("/") if inside else ""

    @property
    def record(self) -> str:
        """The name of this home's record in the state: a volume may have several homes."""
        below = self.below.replace("%", "%25").replace("/", "%2F")
        return layout.SEEDED_IN_STATE + (f"-{below}" if below != "home" else "")

    def is_made(self) -> bool:
        """Say whether the marker is there, whatever it is; raises OSError when nobody can know."""
        return _stands(f"{self.target}/{self.marker}")

    def was_made(self) -> bool:
        """Say whether a home was made here once: a missing marker then means "again"."""
        return _stands(f"{self.state}/{self.record}")

    def pruned(self) -> set[tuple[int, int]]:
        """Return the folders, by device and inode, that are no part of the image's home."""
        found = set()
        for path in (*self.prune, self.target, self.state):
            with suppress(OSError):
                info = os.stat(path)
                found.add((info.st_dev, info.st_ino))
        return found

    @property
    def in_kernel(self) -> bool:
        """Whether the kernel copies to this volume in pieces that are large enough."""
        return not self.kind.startswith(_REQUESTS)

    def _is_blocked(self) -> bool:
        try:
            return not stat.S_ISDIR(os.lstat(self.target).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _no_room(self) -> Problem | None:
        free = room(self.volume).free if self.min_free else 0
        if free >= self.min_free:
            return None
        return full(self.target, f"{size(free)} free, {size(self.min_free)} wanted")

    def _unusable(self) -> Problem | None:
        why = unusable(self.source)
        if not why:
            return None
        fix = "set HOME to the image's home folder"
        return Problem("home.unusable", "the image's home cannot be copied", why, fix, self.source)

    def _in_the_way(self) -> Problem:
        return Problem(
            "home.in-the-way",
            f"{self.target} is not a folder",
            "a home there would be somewhere else, or nowhere",
            "move it away; the next boot makes the home",
            self.target,
        )

    def _elsewhere(self) -> Problem:
        return Problem(
            "home.elsewhere",
            "the home is not on the volume",
            f"{self.target} is not below {self.volume}, and a home is published by one rename",
            "set `home.path` to a folder on the volume",
            self.target,
        )


def _stands(path: str) -> bool:
    """Say whether something has this name. A home that cannot be looked into is not a made one."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def full(where: str, why: str) -> Problem:
    """Say that a home does not fit."""
    what = "the volume is too full for a home"
    fix = "delete something there, or enlarge the volume (`volume.min_free` stays free)"
    return Problem("volume.full", what, why, fix, where)


def unusable(home: str) -> str:
    """Say why *home* cannot be a source; an empty text when it can."""
    if not home:
        return "HOME is not set, and this user has no passwd entry"
    if not home.startswith("/"):
        return f"HOME is {home}, which is not an absolute path"
    if os.path.normpath(home) in ("/", "//"):
        return "HOME is the root folder"
    if not os.path.isdir(home):
        return f"{home} is not a folder"
    if not os.access(home, os.R_OK | os.X_OK):
        return f"this user may not read {home}"
    return ""


def is_small(home: str) -> bool:
    """Say whether *home* is as small as an image's; stops counting when it is not."""
    entries = total = 0
    for folder, _, names in os.walk(home):
        entries += 1 + len(names)
        for name in names:
            if entries > SMALL_ENTRIES or total > SMALL_BYTES:
                return False
            try:
                info = os.lstat(f"{folder}/{name}")
            except OSError:
                continue  # gone while we count
            total += info.st_size if stat.S_ISREG(info.st_mode) else 0
    return entries <= SMALL_ENTRIES and total <= SMALL_BYTES
