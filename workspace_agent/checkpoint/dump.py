"""Make a checkpoint: the workload is told, frozen, written down, and goes on or ends.

Until the version is published, whatever fails leaves the workload running and the volume as it was.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

from workspace_agent.checkpoint import artifact, carried, criu, freezing, identity, stdio
from workspace_agent.checkpoint.contract import Attempt
from workspace_agent.checkpoint.digests import Follower
from workspace_agent.checkpoint.freezing import Note
from workspace_agent.checkpoint.regular import forget_links
from workspace_agent.checkpoint.tree import STOPPED, numbers, settled, tree
from workspace_agent.host import command, files
from workspace_agent.host.room import room
from workspace_agent.host.syncing import syncfs
from workspace_agent.model import layout
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import duration, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from workspace_agent.checkpoint.artifact import Shelf
    from workspace_agent.checkpoint.contract import Contract
    from workspace_agent.checkpoint.roots import Roots
    from workspace_agent.checkpoint.tree import Task
    from workspace_agent.host.safe_root import SafeRoot

# What a file system needs beside the bytes that are written.
_MARGIN = 1.1


@dataclass(frozen=True)
class Terms:
    """How a checkpoint of the tree of *root* is made, whose stdio is that of process *agent*.

    *listed* names what is carried along, below *roots*: paths, and those that were deleted.
    *trial* restores a version beside the workload; it returns how that went, and raises AgentError
    where it failed. *outside* are about the bytes that are carried along, *facts* are the
    machine's, *about* is what else the manifest says. *published* hears of a version before the
    workload ends.
    """

    criu: criu.Criu
    shelf: Shelf
    contract: Contract
    runtime: str
    root: int
    agent: int
    generation: int
    facts: Callable[[Sequence[Task]], dict[str, Any]]
    listed: Callable[[], tuple[Sequence[str], Sequence[str]]]
    roots: Callable[[], Roots]
    trial: Callable[[int, Sequence[Task]], str]
    about: dict[str, Any]
    outside: int
    timeout: float
    published: Callable[[Made], None]
    leave_running: bool = False
    wait_ready: bool = False
    tell: Callable[[str], None] = lambda _: None


@dataclass
class Made:
    """A version that was made: its *name*, its *bytes*, and how long each stage took."""

    name: str
    bytes: int = 0
    secs: dict[str, float] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done within."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.secs[name] = round(self.secs.get(name, 0) + time.monotonic() - began, 4)


def needed(tasks: Sequence[Task]) -> int:
    """Return how many bytes the images of *tasks* may take at most."""
    return sum(one.resident for one in tasks)


def make(terms: Terms) -> Made:
    """Make a checkpoint; raises AgentError, and then the workload runs on as if there was none.

    Unless the workload is left running it has ended afterwards.
    """
    made = Made(artifact.name())
    attempt = Attempt(os.urandom(16).hex(), terms.generation)
    _has_room(terms)
    before = terms.shelf.current()
    root, *_ = tasks = tree(terms.root)
    asleep = tuple(one.pid for one in tasks if one.state == STOPPED)
    note = Note(root.pid, root.started, made.name, attempt.nonce, attempt.generation, asleep)
    note.write(terms.runtime)
    try:
        try:
            with made.stage("before"):
                asked = terms.contract.before(attempt, wait_ready=terms.wait_ready)
            _write(terms, made, note, asked)
        except BaseException as error:
            _thaw(terms, note)
            terms.shelf.take_back(made.name, before)
            made.problems += terms.contract.resumed(attempt, _problem(error))
            raise AgentError(_problem(error)) from error
        if terms.leave_running:
            made.problems += terms.contract.resumed(attempt, None)
    finally:
        freezing.forget(terms.runtime)
    return made


def _write(terms: Terms, made: Made, note: Note, asked: Sequence[str]) -> None:
    """Write the version, publish it, and end the workload unless that is left running."""
    with terms.shelf.stage(made.name) as stage, stage.folder(artifact.IMAGES, 0o700) as images:
        follower = Follower(f"/proc/self/fd/{stage.fd}")
        try:
            with made.stage("frozen"):
                with made.stage("criu"):
                    _dump(terms, images)
                    tasks = settled(lambda: tree(terms.root), note.asleep)
                manifest = {**_manifest(terms, note, tasks), "contract": list(asked)}
                with made.stage("carry"):
                    manifest["carried"] = _carry(terms, stage)
                with made.stage("trial"):  # its files are as they were in this moment only
                    manifest["trial"] = terms.trial(stage.fd, tasks)
                if terms.leave_running:
                    note.wake()
            with made.stage("digests"):
                manifest["files"] = {name: one.__dict__ for name, one in follower.finish().items()}
                made.bytes = sum(one["size"] for one in manifest["files"].values())
                manifest["facts"]["needs_memory"] = made.bytes - manifest["carried"]["bytes"]
            with made.stage("sync"):
                syncfs(stage.fd)  # the manifest is only true of bytes that stay
            if not terms.leave_running:  # PID 1 has to know why its child will have ended
                files.commit(f"{terms.runtime}/{layout.FROZEN}", f"{terms.root}\n")
            with made.stage("publish"):
                terms.shelf.publish(made.name, stage, {**manifest, "bytes": made.bytes,
                                                       "secs": made.secs})  # fmt: skip
        except BaseException:
            _thaw(terms, note)  # first: what follows may wait for a volume that hangs
            follower.stop()
            raise
    terms.published(made)
    if not terms.leave_running:
        note.kill()


def _thaw(terms: Terms, note: Note) -> None:
    files.remove(f"{terms.runtime}/{layout.FROZEN}")
    note.wake()


def _dump(terms: Terms, images: SafeRoot) -> None:
    forget_links(tree(terms.root))
    argv = terms.criu.dump(terms.root, stdio.terminals(stdio.outside(terms.agent)))
    log = f"{terms.criu.work}/{criu.DUMP_LOG}"
    done = command.run(
        argv, log=f"{terms.criu.work}/criu.out", env={"PATH": os.defpath}, timeout=terms.timeout,
        cwd=f"/proc/{os.getpid()}/fd/{images.fd}", tell=terms.tell,
    )  # fmt: skip
    if done.code:
        late = f"it took longer than {duration(terms.timeout)}" if done.timed_out else ""
        raise AgentError(criu.failed("dump", log, late or done.tail))


def _manifest(terms: Terms, note: Note, tasks: Sequence[Task]) -> dict[str, Any]:
    return {
        "made": round(time.time(), 3), "generation": note.generation, "nonce": note.nonce,
        "root": terms.root, "numbers": sorted(numbers(tasks)),
        "processes": len(tasks), "threads": sum(len(one.threads) for one in tasks),
        "asleep": list(note.asleep),
        "stdio": stdio.outside(terms.agent), "tcp": terms.criu.tcp,
        "unprivileged": terms.criu.unprivileged,
        "facts": terms.facts(tasks), "identity": identity.observe(), **terms.about,
    }  # fmt: skip


def _carry(terms: Terms, stage: SafeRoot) -> dict[str, Any]:
    """Take along what is outside the volume; the tree is stopped, so it is all of one moment."""
    paths, deleted = terms.listed()
    out = stage.open(artifact.CARRIED, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with terms.roots() as roots:
            packed = carried.pack(paths, deleted, roots, out, terms.tell)
    finally:
        os.close(out)
    return {"files": packed.files, "bytes": packed.bytes, "deleted": len(deleted),
            "left": [list(one) for one in packed.left[:100]]}  # fmt: skip


def _has_room(terms: Terms) -> None:
    tasks = tree(terms.root)
    if not tasks:
        raise AgentError(Problem("checkpoint.no-workload", "there is no workload to checkpoint"))
    need, free = int((needed(tasks) + terms.outside) * _MARGIN), room(terms.shelf.top.path).free
    if need > free:
        why = f"it may take {size(need)}, and the volume has {size(free)}"
        fix = "make room on the volume; `workspace-agent artifacts prune` removes old ones"
        what = "there is no room for a checkpoint"
        raise AgentError(Problem("checkpoint.no-room", what, why, fix, terms.shelf.top.path))


def _problem(error: BaseException) -> Problem:
    if isinstance(error, AgentError):
        return error.problem
    if isinstance(error, SystemExit):
        return Problem("checkpoint.stopped", "the checkpoint was stopped before it was made",
                       "it took longer than there was time, or somebody ended it",
                       "give it more time, or the pod a longer grace")  # fmt: skip
    if isinstance(error, OSError):
        why = f"{error.filename or 'the volume'}: {os.strerror(error.errno or 0)}"
        return Problem("checkpoint.not-written", "the checkpoint could not be written", why,
                       "make room on the volume, or make it writable",
                       str(error.filename or ""))  # fmt: skip
    return Problem("checkpoint.not-written", "the checkpoint could not be written",
                   f"{type(error).__name__}: {error}", "please report this")  # fmt: skip
