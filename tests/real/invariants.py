"""What must hold of a volume after any boot, however it ended, and the homes to try it on.

I1  a marker means that every default is there, whole, or is listed as skipped or kept
I2  every byte that the user ever had has a name, at every instant
I3  nothing is written but the home, the state folder and the boot's own folders
I4  a boot that finds the marker changes nothing
I5  after any crash the next boot is enough, and leaves no litter
I7  a boot that is not right says why, with a problem that has a name
I8  the image's home is never changed
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from faults import Ended

STATE, MARKER = ".workspace-agent", ".packet-init"

# What a boot makes on a volume.
OURS = {"home", STATE, "bin", "pip-packages"}

# A killed boot leaves a stage, as large as the home: the next has to remove it. Of a file that was
# being replaced a draft of some hundred bytes may stay.
LITTER = "stage-"

# A row that carries one of these has found no words for what happened.
SPEECHLESS = {"step.crashed", "step.failed", "step.not-done"}

# path -> (kind, content, mode); a folder has no content.
Tree = dict[str, tuple[str, bytes, int]]


def listing(folder: Path) -> Tree:
    """Return everything below *folder*."""
    found: Tree = {}
    for here, names, leaves in os.walk(os.fsencode(folder)):
        for name in names + leaves:
            path = os.path.join(here, name)
            found[os.fsdecode(os.path.relpath(path, os.fsencode(folder)))] = _object(path)
    return found


def _object(path: bytes) -> tuple[str, bytes, int]:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "link", os.readlink(path), 0
    if stat.S_ISREG(mode):
        return "file", Path(os.fsdecode(path)).read_bytes(), stat.S_IMODE(mode)
    return ("folder" if stat.S_ISDIR(mode) else "special"), b"", stat.S_IMODE(mode)


@dataclass
class World:
    """An image's home *source*, the folder *back* behind a volume, and what was there before.

    *user* is what the user had in the home: path -> bytes; *wins* the names among those that are
    defaults as well and must stay as they are. *pristine* is copied to *back* before each try.
    *told* are the problems that even a boot that does all it can will tell of.
    """

    name: str
    source: Path
    back: Path
    pristine: Path
    user: Mapping[str, bytes] = field(default_factory=dict)
    wins: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.defaults = listing(self.source)
        self.foreign = self._foreign(self.pristine)

    def reset(self) -> None:
        """Make the volume what it was before the boot."""
        for inside in self.back.iterdir():
            shutil.rmtree(inside)
        subprocess.run(["cp", "-a", f"{self.pristine}/.", self.back], check=True)

    def judged(self, ended: Ended) -> Ended:
        """Return *ended* as one that ended well, if all it told is what it has to tell."""
        slugs = _slugs(ended)
        return replace(ended, code=0) if ended.code == 3 and slugs <= self.told else ended

    def wrong(self, phase: str, ended: Ended) -> str:
        """Say what does not hold; an empty text when all does."""
        return "; ".join(list(self._violations(phase, ended))[:5])

    def _violations(self, phase: str, ended: Ended) -> Iterator[str]:
        found = listing(self.back)
        home = {path[5:]: what for path, what in found.items() if path.startswith("home/")}
        if MARKER in home:
            yield from self._incomplete(home)
        yield from self._lost(found, home)
        yield from self._strayed(home)
        yield from self._silent(ended, whole=MARKER in home)
        if phase == "recovered":
            yield from self._unsettled(found, home)

    def _incomplete(self, home: Tree) -> Iterator[str]:
        skipped, kept = _listed(home[MARKER][1])
        if not kept <= self.wins:
            yield f"I1 the marker says that {sorted(kept - self.wins)} were kept"
        for path, (kind, content, mode) in self.defaults.items():
            if _below(path, skipped - self.wins) or _below(path, self.wins):
                continue  # that the user's stayed is for `_lost`
            if path not in home:
                yield f"I1 {path!r} is missing under a marker"
            elif home[path][:2] != (kind, content):
                yield f"I1 {path!r} differs under a marker: {home[path][:2]}"
            elif kind != "folder" and home[path][2] != mode:
                yield f"I1 {path!r} has mode {home[path][2]:o} under a marker"

    def _lost(self, found: Tree, home: Tree) -> Iterator[str]:
        backup = f"{STATE}/backup/"
        kept = {(path.split("/", 3)[3], what[1]) for path, what in found.items()
                if path.startswith(backup) and path.count("/") > 2}  # fmt: skip
        for path, content in self.user.items():
            here = home.get(path, ("", b"", 0))[1] == content and path in home
            if not here and (path in self.wins or path not in self.defaults):
                yield f"I2 the user's {path!r} was touched"
            elif not here and (path, content) not in kept:
                yield f"I2 the user's {path!r} has no name any more"

    def _strayed(self, home: Tree) -> Iterator[str]:
        if self._foreign(self.back) != self.foreign:
            yield "I3 something outside of the home was written"
        for path in home.keys() - self.defaults.keys() - self.user.keys() - {MARKER}:
            if not any(own.startswith(f"{path}/") for own in self.user):
                yield f"I3 {path!r} is nobody's"
        if listing(self.source) != self.defaults:
            yield "I8 the image's home was changed"

    def _silent(self, ended: Ended, *, whole: bool) -> Iterator[str]:
        if ended.code not in (0, 3):
            if ended.code != -9:
                yield f"I7 the boot ended with {ended.code}: {ended.out[-300:]}"
            return
        slugs = _slugs(ended)
        if ended.code == 0 and not whole:
            yield "I7 the boot says that all is well, and there is no marker"
        if slugs & SPEECHLESS:
            yield f"I7 {slugs}: {ended.out[-300:]}"

    def _unsettled(self, found: Tree, home: Tree) -> Iterator[str]:
        if MARKER not in home:
            yield "I5 there is no marker after the recovery"
        names = {path.split("/")[1] for path in found if path.startswith(f"{STATE}/")}
        if litter := [name for name in names if name.startswith(LITTER)]:
            yield f"I5 left in the state folder: {sorted(litter)}"

    def _foreign(self, volume: Path) -> Tree:
        return {path: what for path, what in listing(volume).items()
                if path.split("/")[0] not in OURS}  # fmt: skip


def _slugs(ended: Ended) -> set[str]:
    rows = json.loads(ended.out) if ended.out.startswith("[{") else []
    return {row["problem"]["slug"] for row in rows if row["problem"]}


def _listed(marker: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """Return what the marker says was skipped, and of what the user's was kept."""
    if not marker:
        return frozenset(), frozenset()  # the bash baseline's
    said = json.loads(marker)
    return frozenset(path for path, _ in said["skipped"]), frozenset(said["kept"])


def _below(path: str, some: Collection[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in some)


def image_home(folder: Path, *, special: bool = True) -> Path:
    """Make a small home with what homes have and copiers stumble over."""
    (folder / ".config/tool").mkdir(parents=True)
    (folder / ".ssh").mkdir(mode=0o700)
    (folder / "empty").mkdir()
    for name, text in {
        ".profile": "# read by login shells\n" * 40,
        ".bashrc": "alias ll='ls -l'\n" * 30,
        ".config/tool/settings": "[tool]\nfast = yes\n",
        ".ssh/config": "Host *\n",
        "hollow": "",
        "-rf": "a name\n",
    }.items():
        (folder / name).write_text(text)
    (folder / ".ssh/config").chmod(0o600)
    (folder / ".profile").chmod(0o755)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).write_bytes(bytes(70_000))
    (folder / "profile").symlink_to(".profile")
    (folder / "dangling").symlink_to("/nowhere")
    os.link(folder / ".bashrc", folder / "second name")
    if special:
        os.mkfifo(folder / "fifo")
    return folder
