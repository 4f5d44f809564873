"""Environments on the volume: one folder of packed parts for each key, complete or not there.

<state>/replay/store/<profile>/<key>/manifest.json, tree.json.gz, part-00 ...
<state>/replay/current-<profile>    which one the last boot used, and the one before it
<state>/replay/failed-<profile>     the last build that failed, and when

A profile is an interpreter (`cp311-x86_64`), and the rule that chose the files, if any.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from workspace_agent.host import files
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.replay.mark import Mark, is_sane

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

FORMAT = 1

MANIFEST, TREE = "manifest.json", "tree.json.gz"

# A manifest names every package and every input line.
_LIMIT = 4 << 20

# How many environments of one interpreter are kept beside the one in use and the one before it.
_KEEP = 1

_PART = re.compile(r"part-[0-9]{2,4}")

# A failed build is not tried again at every boot; its reason may have gone by then.
RETRY_AFTER = 3600.0


@dataclass(frozen=True)
class Part:
    """One packed part: its file, its bytes as they lie there, and their digest."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an environment on the volume is: *mark* says what is in it, *facts* made its key."""

    mark: Mark
    facts: dict[str, Any]
    codec: str
    parts: tuple[Part, ...]
    files: int
    size: int
    made: str = ""
    format: int = FORMAT

    @property
    def packed(self) -> int:
        """How many bytes its parts have on the volume."""
        return sum(part.bytes for part in self.parts)

    def to_json(self) -> str:
        """Return the text of its file."""
        return dumps(asdict(self)) + "\n"

    @classmethod
    def parsed(cls, data: bytes | None) -> Manifest | None:
        """Return what *data* says, or None: it comes from the volume, and may be anything."""
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            found = table(data)
            mark, parts = Mark.parsed(found["mark"]), tuple(_part(one) for one in found["parts"])
            made = cls(**{**found, "mark": mark, "parts": parts})
            words = isinstance(made.codec, str) and isinstance(made.made, str)
            numbers = is_sane(made.files) and is_sane(made.size)
            if made.format == FORMAT and words and numbers and isinstance(made.facts, dict):
                return made
        return None


def _part(value: Mapping[str, Any]) -> Part:
    part = Part(**value)
    if not _PART.fullmatch(part.name) or type(part.bytes) is not int or not is_sane(part.bytes):
        raise ValueError
    return part


@dataclass(frozen=True)
class Store:
    """The environments of one *profile* in the open folder *root*."""

    root: SafeRoot
    profile: str

    def manifest(self, key: str) -> Manifest | None:
        """Return the manifest of *key*; None where there is none that can be used."""
        found = Manifest.parsed(self.root.read(f"{self.at(key)}/{MANIFEST}", _LIMIT))
        return found if found and found.mark.key == key else None

    def at(self, key: str) -> str:
        """Return where *key* lies, below the root."""
        return f"store/{self.profile}/{key}"

    def stored(self) -> list[str]:
        """List what is stored, the newest last."""
        try:
            with self.root.folder(f"store/{self.profile}") as folder:
                seen = [(info.st_mtime, n) for n in folder.names() if (info := folder.look(n))]
        except OSError:
            return []
        return [name for _, name in sorted(seen)]

    def publish(self, stage: str, key: str) -> None:
        """Give the finished folder *stage* its place, unless another pod was the first there."""
        with self.root.folder(f"store/{self.profile}", 0o700) as folder:
            try:
                self.root.rename(stage, key, folder)
            except OSError:
                # Another pod's, most likely; and a file server that was asked twice says so too.
                if self.manifest(key) is not None:
                    return
                self.discard(key)  # nobody can use what stands there
                self.root.rename(stage, key, folder)
            files.sync_dir("", folder.fd)

    def discard(self, key: str) -> None:
        """Take what cannot be used out of the way, and remove it."""
        name = _temporary()
        with suppress(OSError):
            self.root.rename(self.at(key), name)
        self.root.remove_tree(name)

    def current(self) -> dict[str, str]:
        """Return which key is `current` and which `previous`; {} when nobody knows."""
        found = _note(self.root.read(f"current-{self.profile}", 4096))
        return {name: str(value) for name, value in found.items() if name in _NAMES}

    def use(self, key: str) -> None:
        """Note that *key* is in use."""
        now = self.current()
        if now.get("current") != key:
            note = {"format": FORMAT, "current": key, "previous": now.get("current", "")}
            self.root.commit(f"current-{self.profile}", dumps(note) + "\n")

    def failed(self, key: str) -> str:
        """Return why the last build of *key* failed, if that was lately; else ""."""
        found = _note(self.root.read(f"failed-{self.profile}", 64 << 10))
        at = found.get("at")
        lately = isinstance(at, (int, float)) and 0 <= time.time() - at < RETRY_AFTER
        return str(found.get("why")) if found.get("key") == key and lately else ""

    def remember(self, key: str, why: str) -> None:
        """Note that a build of *key* failed; an empty *why* forgets it."""
        if why:
            note = {"format": FORMAT, "key": key, "why": why, "at": int(time.time())}
            self.root.commit(f"failed-{self.profile}", dumps(note) + "\n")
        elif self.root.look(f"failed-{self.profile}"):
            self.root.remove(f"failed-{self.profile}")

    def prune(self, keep: int = _KEEP) -> list[str]:
        """Remove what is neither in use nor among the newest *keep*; returns the keys."""
        gone = self.spare(keep)
        for key in gone:
            self.discard(key)
        return gone

    def spare(self, keep: int = _KEEP) -> list[str]:
        """Return what `prune` would remove."""
        inuse = set(self.current().values())
        rest = [key for key in self.stored() if key not in inuse]
        return rest[: max(0, len(rest) - keep)]

    def sweep(self) -> None:
        """Remove what killed boots left half done; only for who has the lease."""
        for name in self.root.names():
            if name.startswith(_TMP):
                self.root.remove_tree(name)

    @contextmanager
    def stage(self) -> Iterator[tuple[str, SafeRoot]]:
        """Make a private folder; yields its name and itself, and removes what is left of it."""
        name = _temporary()
        with self.root.folder(name, 0o700) as folder:
            try:
                yield name, folder
            finally:
                self.root.remove_tree(name)


_TMP, _NAMES = "tmp-", ("current", "previous")


def _temporary() -> str:
    return f"{_TMP}{os.urandom(8).hex()}"


@contextmanager
def opened(volume: str, profile: str, *, make: bool = False) -> Iterator[Store]:
    """Open the store on *volume*; raises OSError where there is none, and none is to be made."""
    below, mode = f"{layout.STATE}/{layout.REPLAY_IN_STATE}", 0o700 if make else None
    with SafeRoot.at(volume) as root, root.folder(below, mode) as at:
        yield Store(at, profile)


def _note(data: bytes | None) -> dict[str, Any]:
    found = table(data)
    return found if found.get("format") == FORMAT else {}
