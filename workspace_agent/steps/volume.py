"""The volume: which one, and is it fit to keep anything."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass

from workspace_agent.host import files
from workspace_agent.host.room import room
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.outcome import Blocked, Check, Ok, Todo
from workspace_agent.model.problem import Problem
from workspace_agent.model.recipe import matches
from workspace_agent.model.words import size
from workspace_agent.steps.trouble import from_oserror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workspace_agent.host.room import Room
    from workspace_agent.host.safe_root import SafeRoot

    Mounts = Mapping[str, tuple[str, str, bool]]


@dataclass(frozen=True)
class Choice:
    """The volume of this boot; *survives* says whether it outlives the container."""

    path: str
    survives: bool
    kind: str

    @property
    def note(self) -> Problem | None:
        """What a user of a volume that does not survive has to be told."""
        if self.survives:
            return None
        return Problem(
            "volume.absent",
            f"no volume is mounted: {self.path} ends with this container",
            "none of the volume's candidates is a mount point",
            "mount persistent storage at /workspace, or set WORKSPACE_VOLUME to where it is",
            self.path,
        )


def choose(
    candidates: Sequence[str], explicit: str, mounts: Mounts, container: bool, cwd: str
) -> Choice:
    """Return the first real mount of *candidates*; *explicit* (WORKSPACE_VOLUME) goes before all.

    Without one a plain folder serves: in a container the first candidate without a wildcard,
    which ends with the container; elsewhere `workspace-volume` in *cwd*.
    """
    if explicit:
        path = os.path.normpath(os.path.join(cwd, explicit))
        point = _mount_of(path, mounts)
        kind = mounts[point][0] if point != "/" else "plain folder"
        return Choice(path, point != "/" or not container, kind)
    for candidate in candidates:
        for point in sorted(mounts):
            if point.count("/") == candidate.count("/") and matches(point, candidate):
                return Choice(point, True, mounts[point][0])
    if not container:
        return Choice(os.path.join(cwd, "workspace-volume"), True, "plain folder")
    plain = next((c for c in candidates if "*" not in c), "/workspace")
    return Choice(plain, False, "plain folder")


@dataclass(frozen=True)
class VolumeReady:
    """Make the folders on the volume that everything else stands in.

    *trouble* is what PID 1 already knows of the volume; it is then not touched.
    """

    path: str
    kind: str
    folders: tuple[str, ...]
    private: tuple[str, ...]
    trouble: Problem | None = None
    name: str = "volume.ready"
    needs: tuple[str, ...] = ()

    def check(self) -> Check:
        """Read the folder, its room and its rights."""
        if self.trouble:
            return Blocked(self.trouble)
        left = self._room()
        if isinstance(left, Problem):
            return Blocked(left)
        missing = tuple(p for p in (self.path, *self._all) if not os.path.isdir(p))
        if missing or left is None:
            return Todo(f"{len(missing)} folders to make", missing)
        if not files.exists(self._identity):
            return Todo("the volume has no identity yet", (self._identity,))
        return Ok(f"{self.path}, {self.kind}, {size(left.free)} free")

    def apply(self, tell: Callable[[str], None]) -> None:
        """Make what is missing; a folder on the volume is not made through a link."""
        from workspace_agent.host.safe_root import SafeRoot  # a warm boot makes nothing

        os.makedirs(self.path, exist_ok=True)
        with SafeRoot.at(self.path) as volume:
            for folder in self.private:
                _make(volume, folder, 0o700)
            _identify(volume, os.path.relpath(self._identity, self.path))
            for folder in self.folders:
                if not os.path.isdir(folder):  # a link of the user's own to a folder serves
                    _make(volume, folder, 0o755)

    @property
    def _identity(self) -> str:
        return f"{self.private[0]}/{layout.VOLUME_IN_STATE}"

    @property
    def _all(self) -> tuple[str, ...]:
        return (*self.private, *self.folders)

    def _room(self) -> Room | Problem | None:
        """Return what is left there, why that is no use, or None where there is nothing yet."""
        try:
            if not stat.S_ISDIR(os.stat(self.path).st_mode):
                why, fix = "it is not a folder", "remove it, or mount a volume there"
                what = f"{self.path} cannot be the volume"
                return Problem("volume.not-a-folder", what, why, fix, self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return from_oserror(error, self.path, "looking at the volume")
        there = [folder for folder in self.private if files.exists(folder)]
        for folder in there:
            if not files.is_folder(folder):
                what, why = f"{folder} is not a folder of ours", "it is a link, or a file"
                return Problem("volume.state-in-the-way", what, why, "remove it", folder)
        for folder in (self.path, *there):
            if not _writable(folder):
                return from_oserror(_refusal(folder), folder, "writing to the volume")
        left = room(self.path)
        return self._full(left) or left

    def _full(self, left: Room) -> Problem | None:
        if left.inodes == 0:
            what, why = "the volume is full", "no inode is free: it holds too many files"
            return Problem("volume.full", what, why, "delete files, or enlarge it", self.path)
        if left.free == 0:
            fix = "delete something there, or enlarge the volume"
            return Problem("volume.full", "the volume is full", "no byte is free", fix, self.path)
        return None


def identity(path: str) -> str:
    """Return the uuid of the volume at *path*; empty when it has none, or one we cannot read."""
    text = files.read(f"{layout.state(path)}/{layout.VOLUME_IN_STATE}", 1 << 16) or b""
    if not text.startswith(b'{"format": 1,'):
        return ""
    import re  # for one word: a pattern spares the json package's 6 ms

    found = re.search(rb'"uuid": "([0-9a-f-]{36})"', text)
    return found[1].decode() if found else ""


def _identify(volume: SafeRoot, below: str) -> None:
    """Give the volume a name of its own, once and for all: whatever is there stays."""
    import uuid

    folder, _, name = below.rpartition("/")
    with volume.folder(folder) as state:
        if state.look(name) is None:
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            text = {"format": 1, "uuid": str(uuid.uuid4()), "created": created, "lineage": []}
            with suppress(FileNotFoundError):  # swept by the next lines of another pod
                state.create(name, dumps(text) + "\n", durable=True)
        for left in state.names():
            if left.startswith(f"{name}.") and left.endswith(".new"):
                state.remove(left)


def _make(volume: SafeRoot, path: str, mode: int) -> None:
    below = os.path.relpath(path, volume.path)
    if below.startswith(".."):
        os.makedirs(path, mode, exist_ok=True)
        return
    with volume.folder(below, mode):
        pass


def _writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _refusal(folder: str) -> OSError:
    return OSError(errno.EROFS if room(folder).read_only else errno.EACCES, "")


def _mount_of(path: str, mounts: Mounts) -> str:
    while path not in mounts and path != "/":
        path = os.path.dirname(path)
    return path
