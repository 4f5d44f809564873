"""Checkpoints on the volume: one folder for each workload, in it one for each version.

checkpoints/wanted                      a boot has something to restore
checkpoints/ID/current                  the version to restore: a name, and nothing else
checkpoints/ID/versions/NAME/           whole once it has this name: it was made as tmp-NAME
    MANIFEST.json, MANIFEST.hmac, carried.tar, criu/
checkpoints/ID/attempts.jsonl           what was tried, and what came of it

`current` is a file and no link: beneath open folders no link on the volume is followed.
"""

from __future__ import annotations

import hmac
import os
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256

from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.model.problem import AgentError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

SCHEMA = 1

MANIFEST, SIGNATURE = "MANIFEST.json", "MANIFEST.hmac"
IMAGES, CARRIED, LEDGER, CURRENT = "criu", "carried.tar", "attempts.jsonl", "current"

_ID, _NAME = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_VERSIONS, _STAGE, _SUM = "versions", "tmp-", "sum"
_AT = f"{layout.STATE}/{layout.CHECKPOINTS_IN_STATE}"

# The numbers of a tree of some thousand threads, and the digests of its images.
_LARGEST = 16 << 20

# The ledger is read whole.
_LEDGER_MOST = 1 << 20

# A stage nobody has written to for so long was left by a pod that died.
_STALE = 3600.0

# One that was tried has been verified: there is no state between being made and ready.
CREATING, READY, FAILED = "Creating", "Ready", "Failed"
SUPERSEDED, SPENT = "Superseded", "Spent"


@dataclass(frozen=True)
class Version:
    """One checkpoint: its *manifest* as it was written, and *where* it is."""

    workload: str
    name: str
    manifest: dict[str, Any]
    where: str


def name(now: float | None = None) -> str:
    """Return the name of a new version; later ones sort behind earlier ones."""
    at = time.time() if now is None else now
    parts = int(at % 1 * 0x1000)  # of a second: two may be made within one
    return (
        time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)) + f"-{parts:03x}{os.urandom(2).hex()[:3]}"
    )


def is_name(text: str) -> bool:
    """Say whether *text* may name a version."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class Shelf:
    """All versions of one workload, in the open folder *top*; *secret* signs their manifests."""

    top: SafeRoot
    workload: str
    secret: bytes = field(default=b"", repr=False)

    def names(self) -> list[str]:
        """List the versions, the newest last."""
        with suppress(OSError), self.top.folder(_VERSIONS) as versions:
            return sorted(filter(_NAME.fullmatch, versions.names()))
        return []

    def stages(self) -> list[str]:
        """List the versions that are being made, or were when their pod died."""
        names = (one.removeprefix(_STAGE) for one in self.top.names() if one.startswith(_STAGE))
        return sorted(filter(_NAME.fullmatch, names))

    def current(self) -> str:
        """Return the name of the version that is to be restored; "" for none.

        A name that is none is returned as one that nobody can `read`.
        """
        text = self.top.read(CURRENT)
        name = (text or b"").decode("ascii", "replace").strip()
        return name if is_name(name) or text is None else "?"

    def read(self, name: str) -> Version:
        """Return a version; raises AgentError unless it is whole, of our schema, and signed."""
        where = f"{self.top.path}/" + (f"{_VERSIONS}/{name}" if is_name(name) else CURRENT)
        text = self.top.read(f"{_VERSIONS}/{name}/{MANIFEST}", _LARGEST) if is_name(name) else None
        found = decoded(text or b"")
        if text is None or found is None:
            raise AgentError(_broken(where, "there is no manifest that can be read"))
        if self.secret:
            sign = self.top.read(f"{_VERSIONS}/{name}/{SIGNATURE}") or b""
            if not hmac.compare_digest(sign.strip(), self.sign(text)):
                raise AgentError(_unsigned(where))
        if (found["id"], found["version"]) != (self.workload, name):
            raise AgentError(_broken(where, "its manifest is another version's"))
        return Version(self.workload, name, found, where)

    def sign(self, text: bytes) -> bytes:
        """Return what proves that whoever wrote *text* has the secret."""
        return hmac.new(self.secret, text, sha256).hexdigest().encode()

    @contextmanager
    def stage(self, name: str) -> Iterator[SafeRoot]:
        """Have an empty folder for the version *name*; it is gone afterwards unless published."""
        below = f"{_STAGE}{name}"
        with self.top.folder(below, 0o700) as folder:
            os.fchmod(folder.fd, 0o700)
            try:
                yield folder
            finally:
                self.top.remove_tree(below)

    def publish(self, name: str, stage: SafeRoot, manifest: dict[str, Any]) -> None:
        """Make what is in *stage* the current version; raises OSError, and then it is none."""
        said = {"schema": SCHEMA, "id": self.workload, "version": name, **manifest}
        text = sealed(said)
        if self.secret:
            stage.commit(SIGNATURE, self.sign(text), durable=True)
        stage.commit(MANIFEST, text, durable=True)
        self.accept(name, stage)
        self.choose(name)

    def accept(self, name: str, stage: SafeRoot) -> None:
        """Give what is in *stage*, with a manifest of its own, its place; raises OSError."""
        with self.top.folder(_VERSIONS, 0o700) as versions:
            self.top.rename(f"{_STAGE}{name}", name, versions)
            os.fsync(versions.fd)

    def discard(self, name: str) -> None:
        """Remove the stage of the version *name*, which was not published."""
        if is_name(name):
            self.top.remove_tree(f"{_STAGE}{name}")

    def choose(self, name: str) -> None:
        """Make the version *name* the one that is restored; "" for none."""
        if name:
            self.top.commit(CURRENT, f"{name}\n", durable=True)
        else:
            self.top.remove(CURRENT)

    def take_back(self, name: str, before: str) -> None:
        """Have it that *name* was never published, and *before* was current; what fails, stays."""
        with suppress(OSError):
            if name in self.names():
                self.remove(name)
                self.choose(before)

    def note(self, **what: object) -> None:
        """Add a line to the ledger, durably; raises OSError."""
        line = dumps({"at": round(time.time(), 3), **what}).encode() + b"\n"
        fd = self.top.open(LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, line)
            os.fsync(fd)
        finally:
            os.close(fd)

    def ledger(self) -> list[dict[str, Any]]:
        """Return the lines of the ledger that can be read, the newest last."""
        text = self.top.read(LEDGER, _LEDGER_MOST) or b""
        return [found for line in text.splitlines() if (found := table(line))]

    def prune(
        self, keep: int, most: int = 0, *, busy: Collection[str] = (), dry_run: bool = False
    ) -> list[str]:
        """Remove the oldest versions, but *keep* and the current one, and what dead pods left.

        More go while all together take over *most* bytes; those that are *busy* stay. Returns the
        names of what went.
        """
        current, names = self.current(), self.names()
        sizes = {one: self._size(one) for one in names}
        gone = []
        for one in names[:-1]:
            over = most and sum(sizes.values()) > most
            if one not in (current, *busy) and (over or len(sizes) > keep):
                if not dry_run:
                    self.remove(one)
                del sizes[one]
                gone.append(one)
        return gone if dry_run else gone + self._sweep()

    def remove(self, name: str) -> None:
        """Remove a version: first its manifest, so that it is none any more."""
        if name == self.current():
            self.choose("")
        self.top.remove(f"{_VERSIONS}/{name}/{MANIFEST}")
        self.top.remove_tree(f"{_VERSIONS}/{name}")

    def _size(self, name: str) -> int:
        with suppress(AgentError):
            return int(self.read(name).manifest.get("bytes", 0))
        return 0

    def _sweep(self) -> list[str]:
        """Remove stages that nobody works on any more."""
        gone = []
        for one in self.top.names():
            info = self.top.look(one) if one.startswith(_STAGE) else None
            if info and time.time() - max(info.st_mtime, self._touched(one)) > _STALE:
                self.top.remove_tree(one)
                gone.append(one)
        return gone

    def _touched(self, stage: str) -> float:
        with suppress(OSError), self.top.folder(f"{stage}/{IMAGES}") as folder:
            times = (info.st_mtime for one in folder.names() if (info := folder.look(one)))
            return max(times, default=0.0)
        return 0.0


# What a manifest has to have, and of which type.
_FIELDS: dict[str, type] = {
    "id": str, "version": str, "made": float, "generation": int, "root": int, "numbers": list,
    "processes": int, "threads": int, "asleep": list, "stdio": dict, "tcp": str,
    "unprivileged": bool, "contract": list, "facts": dict, "identity": dict, "carried": dict,
    "files": dict, "bytes": int, "secs": dict, "trial": str,
}  # fmt: skip


def sealed(manifest: dict[str, Any]) -> bytes:
    """Return the text of a manifest with a digest of itself, as its files have theirs."""
    digest = sha256(dumps(manifest).encode()).hexdigest()
    return dumps({**manifest, _SUM: digest}).encode()


def decoded(text: bytes) -> dict[str, Any] | None:
    """Return the manifest that *text* is; None where it is none of our schema."""
    found = table(text)
    said = {name: value for name, value in found.items() if name != _SUM}
    good = text == sealed(said) and found.get("schema") == SCHEMA
    good = good and all(isinstance(found.get(name), kind) for name, kind in _FIELDS.items())
    files = found["files"].values() if good else ()
    good = good and all(isinstance(n, int) for n in (*found["numbers"], *found["asleep"]))
    good = good and all(isinstance(one, dict) and {"size", "sha256"} <= one.keys() for one in files)
    return found if good and _ID.fullmatch(found["id"]) and is_name(found["version"]) else None


@contextmanager
def shelf(
    volume: str, workload: str, secret: bytes = b"", *, make: bool = False
) -> Iterator[Shelf]:
    """Open the folder of *workload*; raises OSError where there is none, or it is not private."""
    mode = 0o700 if make else None
    with SafeRoot.at(volume) as root, root.folder(_AT, mode) as top:
        _private(top)
        with top.folder(workload, mode) as mine:
            _private(mine)
            yield Shelf(mine, workload, secret)


def workloads(volume: str) -> list[str]:
    """List the workloads that have checkpoints."""
    with suppress(OSError), SafeRoot.at(volume) as root, root.folder(_AT) as top:
        return sorted(filter(_ID.fullmatch, top.names()))
    return []


def want(volume: str, wanted: bool) -> None:
    """Tell boots whether there is anything to restore; raises OSError."""
    with SafeRoot.at(volume) as root, root.folder(_AT) as top:
        if not wanted:
            top.remove(layout.CHECKPOINTS_WANTED)
        elif top.look(layout.CHECKPOINTS_WANTED) is None:
            top.commit(layout.CHECKPOINTS_WANTED, "", durable=True)


def _private(folder: SafeRoot) -> None:
    """Refuse a folder that others may write to, or that is somebody else's: T14, T15."""
    info = os.fstat(folder.fd)
    if info.st_mode & 0o077 or info.st_uid not in (0, os.geteuid()):
        raise AgentError(
            Problem(
                "checkpoint.not-private",
                "checkpoints are not used: others can reach their folder",
                "they hold all of the workload's memory, and whoever writes there runs code in it",
                f"chmod 700 {folder.path}, and see whose it is",
                folder.path,
            )
        )


def _broken(where: str, why: str) -> Problem:
    fix = "`workspace-agent artifacts list` names the others; this one can be removed"
    return Problem("checkpoint.broken", "a checkpoint cannot be used", why, fix, where)


def _unsigned(where: str) -> Problem:
    return Problem(
        "checkpoint.unsigned",
        "a checkpoint is not signed with this pod's secret",
        "`checkpoint.secret` is set, and its signature is missing or another one's",
        "make a new one here, or mount the secret that it was signed with",
        where,
    )
