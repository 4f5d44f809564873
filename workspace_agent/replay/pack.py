"""An environment as parts that can be unpacked side by side, and back.

Folders and links are a list of their own: folders are made before the parts, links after them,
so that no part can be led outside by a link that another one made.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import time
from contextlib import ExitStack, suppress
from shutil import which

from workspace_agent.host.files import write_all
from workspace_agent.host.flow import Flow
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.replay import tarball
from workspace_agent.replay.store import TREE, Part
from workspace_agent.replay.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from workspace_agent.host.safe_root import SafeRoot

# A piece of a read or a write: one request on most file servers, and many on none.
_PIECE = 1 << 20

# So much of a part is asked for ahead of what is read: over a far volume, requests then overlap.
_AHEAD = 8 << 20

# A restore that has read nothing for so long reads from a volume that hangs.
_SILENT = 20.0

# How often to look how far the unpackers are.
_LOOK = 0.02

# What is said where the disk is to blame that is unpacked to; anything else is about the part.
_OF_THE_DISK = ("No space left", "quota", "Read-only", "Permission denied", "not permitted",
                "put/output error", "Cannot allocate", "Too many open")  # fmt: skip

_PACKERS = {"zstd": ("zstd", "-q", "-3", "-T1", "-c"), "gzip": ("gzip", "-1", "-c")}
_UNPACKERS = {"zstd": ("zstd", "-q", "-dc"), "gzip": ("gzip", "-dc")}


def count() -> int:
    """Return how many parts serve this machine, and the next one of its kind."""
    return max(2, min(8, 2 * len(os.sched_getaffinity(0))))


def codec() -> str:
    """Return the best packer that is installed."""
    return "zstd" if _has_tar("zstd") else "gzip"


def pack(
    top: str, tree: Tree, into: SafeRoot, name: str, tell: Callable[[str], None]
) -> tuple[Part, ...]:
    """Write the *tree* of *top* into the folder *into*, packed by *name*; returns its parts.

    Raises OSError for the volume, AgentError for a tool that failed.
    """
    into.commit(TREE, tree.packed(), durable=True)
    done = []
    for number, paths in enumerate(tree.shares(count())):
        part = f"part-{number:02}"
        tell(f"packing the environment: {part}")
        done.append(_pack(top, paths, into, part, name, tell))
    return tuple(done)


def _pack(
    top: str,
    paths: Iterable[str],
    into: SafeRoot,
    part: str,
    name: str,
    tell: Callable[[str], None],
) -> Part:
    names = "".join(f"{path}\0" for path in paths).encode("utf-8", "surrogateescape")
    listing = into.path and f"{top}.{part}"
    sha256, size = hashlib.sha256(), 0
    with ExitStack() as stack:
        with open(listing, "wb") as handle:
            handle.write(names)
        stack.callback(os.unlink, listing)
        flow = stack.enter_context(Flow(_packers(name, top, listing)))
        fd = into.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        stack.callback(os.close, fd)
        while piece := flow.read(_PIECE):
            sha256.update(piece)
            size += len(piece)
            write_all(fd, piece)
            tell(f"packing the environment: {part}, {size >> 20} MiB")
        os.fsync(fd)
        if not flow.ended_well():
            raise AgentError(_broken("packing", flow.why))
    return Part(part, size, sha256.hexdigest())


def restore(
    source: SafeRoot,
    parts: Sequence[Part],
    name: str,
    top: str,
    tell: Callable[[str], None],
) -> None:
    """Unpack *parts* from the folder *source* into the folder *top*, side by side.

    The unpackers read the parts themselves. Raises OSError and AgentError; then what is in *top*
    is worth nothing.
    """
    tree = Tree.unpacked(source.read(TREE, 16 << 20))
    if tree is None:
        raise AgentError(damaged(TREE))
    for path in sorted(tree.folders):
        with suppress(FileExistsError):  # in place, folders are shared
            os.mkdir(f"{top}/{path}")
    with ExitStack() as stack:
        flows: list[_Unpacking] = []
        for part in parts:
            flow = _Unpacking(source, part, name, top)
            stack.enter_context(flow)
            flows.append(flow)
        tell("restoring the environment")
        _watch(flows, tell)
        for flow, part in zip(flows, parts, strict=True):
            if not flow.ended_well() or flow.why:  # tar only warns of a name that leads outside
                raise AgentError(flow.problem(part))
    for path, target in tree.links.items():
        with suppress(FileNotFoundError):
            os.unlink(f"{top}/{path}")
        os.symlink(target, f"{top}/{path}")


class _Unpacking(Flow):
    """One part on its way into the folder *top*."""

    def __init__(self, source: SafeRoot, part: Part, name: str, top: str) -> None:
        try:
            self._fd = source.open(part.name, os.O_RDONLY)
        except OSError as error:  # removed by another pod, or a link, or a socket
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                raise AgentError(damaged(part.name)) from error
            raise
        self.whole, self._asked = part.bytes, 0
        try:
            if os.fstat(self._fd).st_size != part.bytes:
                raise AgentError(damaged(part.name))
            super().__init__(_unpackers(name, top), stdin=self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        os.close(self._fd)

    def done(self) -> int:
        """Say how much is read: who unpacks shares our place in the file. Asks for what is next."""
        at = os.lseek(self._fd, 0, os.SEEK_CUR)
        if self._asked < min(at + _AHEAD, self.whole):
            os.posix_fadvise(self._fd, self._asked, 2 * _AHEAD, os.POSIX_FADV_WILLNEED)
            self._asked += 2 * _AHEAD
        return at

    def problem(self, part: Part) -> Problem:
        """Say why it did not end well: a packer notices damage, and the digest proves it."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        sha256 = hashlib.sha256()
        while piece := os.read(self._fd, _PIECE):
            sha256.update(piece)
        said = self.why
        is_ours = not said or any(word in said for word in _OF_THE_DISK)
        if sha256.hexdigest() != part.sha256 or not is_ours:
            return damaged(part.name)
        if "No space left" in said or "quota" in said:
            return no_room(said.splitlines()[0])
        return _broken("unpacking", said)


def _watch(flows: Sequence[_Unpacking], tell: Callable[[str], None]) -> None:
    """Wait for *flows*, but not for a volume that hangs: who reads it cannot be ended."""
    whole = sum(flow.whole for flow in flows)
    seen, since = -1, time.monotonic()
    while any(flow.is_alive() for flow in flows):
        done = sum(flow.done() for flow in flows)
        tell(f"restoring the environment: {done >> 20} of {whole >> 20} MiB")
        if done != seen:
            seen, since = done, time.monotonic()
        elif seen < whole and time.monotonic() - since > _SILENT:
            raise AgentError(HUNG)
        time.sleep(_LOOK)


def _packers(name: str, top: str, listing: str) -> list[tuple[str, ...]]:
    if not _has_tar(name):
        return [(sys.executable, "-I", "-S", tarball.__file__, "pack", name, top, listing)]
    tar = ("tar", "-c", "-f", "-", "-C", top, "--no-recursion", "--hard-dereference", "--owner=0",
           "--group=0", "--no-unquote", "--null", "-T", listing)  # fmt: skip
    return [tar, _PACKERS[name]]


def _unpackers(name: str, top: str) -> list[tuple[str, ...]]:
    if not _has_tar(name):
        return [(sys.executable, "-I", "-S", tarball.__file__, "unpack", name, top)]
    # Without times: nothing looks at them, not even the bytecode, and each costs a call.
    tar = ("tar", "-x", "-o", "-m", "--no-same-permissions", "-f", "-", "-C", top)
    return [_UNPACKERS[name], tar]


def _has_tar(name: str) -> bool:
    """Say whether there are GNU tar, whose options these are, and the packer *name*."""
    tar = which("tar")
    is_gnu = tar and os.path.basename(os.path.realpath(tar)) != "busybox"
    return bool(is_gnu and name in _PACKERS and which(name))


def damaged(name: str) -> Problem:
    """Say that a part is not what it was when it was written."""
    return Problem(
        "replay.damaged",
        f"the stored environment is damaged: {name}",
        "it is not there, or not what it was when it was written",
        "it is set aside, and built anew",
    )


HUNG = Problem(
    "volume.not-responding",
    "the volume does not answer; the packages are not brought back from it",
    f"no byte came for {_SILENT:.0f} s",
    "look at the volume's server or the node's mount; the next boot tries again",
)


def no_room(why: str, where: str = "") -> Problem:
    """Say that the container's disk is too small."""
    what = "the packages do not fit onto the container's disk"
    fix = "give the pod a larger disk, or take packages out"
    return Problem("replay.no-room", what, why, fix, where)


def _broken(doing: str, why: str) -> Problem:
    return Problem("replay.tool-failed", f"{doing} the environment failed", why, "", "")
