"""Let a new container go on with a checkpoint: all of it, or nothing.

Whatever fails is taken back: no process of it is left, and the container's layer is as it was.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from threading import Thread

from workspace_agent.checkpoint import artifact, criu, journal, stdio
from workspace_agent.checkpoint.digests import Digest, verify
from workspace_agent.checkpoint.tree import (
    STOPPED,
    ZOMBIE,
    numbers,
    processes,
    settled,
    task,
    ticks,
    tree,
    with_threads,
)
from workspace_agent.checkpoint.unpack import unpack
from workspace_agent.host import command, files
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.model.problem import AgentError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workspace_agent.checkpoint.artifact import Version
    from workspace_agent.checkpoint.roots import Roots
    from workspace_agent.checkpoint.tree import Task
    from workspace_agent.host.safe_root import SafeRoot

# How long a killed process may take to be gone.
_DEATH = 10.0

# Beside CRIU, which reads, too: of 4 GB from a disk, 2 were done after 4.3 s, 4 after 5.4, 8 after
# 7.8 and 16 after 8.1, where CRIU alone took 4.2 to 7.
READERS = 2

# PID 1 reaps those of an attempt before this one.
_BURIAL = 2.0

_SLICE = 0.001

# PID 1 hears so often that something moves; to ask for that moves some bytes, too.
_PULSE, _LEAST = 0.25, 4096


@dataclass(frozen=True)
class Terms:
    """How *version*, in the open folder *folder*, is restored as children of process *agent*.

    It fails when nothing moves for *patience* seconds. *stopped* hears of its first process before
    that runs; *roots* is where files outside the volume belong.
    """

    criu: criu.Criu
    version: Version
    folder: SafeRoot
    runtime: str
    agent: int
    timeout: float
    patience: float
    stopped: Callable[[int], None]
    roots: Callable[[], Roots]
    threads: int = READERS
    tell: Callable[[str], None] = lambda _: None


@dataclass
class Restored:
    """The workload's process, and how long each part took."""

    pid: int = 0
    secs: dict[str, float] = field(default_factory=dict)


def restore(terms: Terms) -> Restored:
    """Restore the tree and let it run; raises AgentError, and then nothing of it is left.

    What was put into the layer is not forgotten yet: `clean` takes all of it back until `keep`.
    """
    clean(terms.runtime, terms.roots)  # after one that was killed
    found, began = Restored(), time.monotonic()
    wanted, since = terms.version.manifest["numbers"], ticks()
    note = {"numbers": wanted, "since": since}
    files.commit(f"{terms.runtime}/{layout.RESTORING}", dumps(note))
    try:
        _unpack(terms)
        found.secs["carry"] = _since(began)
        checking = _Checking(terms, artifact.IMAGES)
        root = _run(terms, checking)
        asleep = terms.version.manifest["asleep"]
        tasks = settled(lambda: _come(set(wanted), since), asleep)
        found.secs["criu"] = _since(began) - found.secs["carry"]
        checking.finish()
        found.secs["digests"] = _since(began) - found.secs["criu"] - found.secs["carry"]
        _compare(terms, root, tasks)
        terms.stopped(root)
        _wake(terms, root, tasks)
        found.pid = root
    except BaseException:
        clean(terms.runtime, terms.roots)
        raise
    return found


def clean(runtime: str, roots: Callable[[], Roots]) -> None:
    """Take back all that a restore has done here, whoever it was and wherever it ended."""
    note = table(files.read(f"{runtime}/{layout.RESTORING}"))
    if note:
        _kill(set(note["numbers"]), note["since"], os.fsencode(_pidfile(runtime)))
        files.remove(f"{runtime}/{layout.RESTORED}")
        with suppress(FileNotFoundError):
            for name in os.listdir(f"{runtime}/{layout.CONTROL}"):  # else it thinks it is restored
                files.remove(f"{runtime}/{layout.CONTROL}/{name}")
    if files.exists(f"{runtime}/{layout.UNDO}"):
        with roots() as found:
            journal.undo(f"{runtime}/{layout.UNDO}", found)
    files.remove(f"{runtime}/{layout.RESTORING}")


def keep(runtime: str, roots: Callable[[], Roots]) -> None:
    """Leave it there, now that PID 1 knows of it: the workload runs."""
    files.remove(f"{runtime}/{layout.RESTORING}")
    if files.exists(f"{runtime}/{layout.UNDO}"):
        with roots() as found:
            journal.commit(f"{runtime}/{layout.UNDO}", found)


def occupied(version: Version) -> list[Task]:
    """Return the processes here that have a number which the checkpoint needs."""
    wanted = set(version.manifest["numbers"])
    limit = time.monotonic() + _BURIAL
    while True:
        found = [one for one in map(with_threads, processes()) if wanted & numbers([one])]
        if any(one.state != ZOMBIE for one in found) or not found or time.monotonic() > limit:
            return found
        time.sleep(_SLICE)


def _come(wanted: set[int], since: int) -> list[Task]:
    """Return what has come back: these numbers were free before.

    It need not be one tree: a process whose session's leader is dead is PID 1's child now. One that
    somebody came in with by exec has no parent here, and is not of it.
    """
    return [with_threads(one) for one in processes()
            if one.pid in wanted and one.parent and one.started >= since
            and one.state != ZOMBIE]  # fmt: skip


def _kill(wanted: set[int], since: int, pidfile: bytes) -> None:
    """End what has taken one of these numbers *since* that time, in `ticks`, and the CRIU at it.

    CRIU goes on without us: it names *pidfile*. A zombie is over: PID 1 takes it away when it has
    time to.
    """
    limit = time.monotonic() + _DEATH
    while (rest := [*_named(pidfile), *_come(wanted, since)]) and time.monotonic() < limit:
        for one in rest:
            with suppress(OSError):
                os.kill(one.pid, signal.SIGKILL)
        time.sleep(_SLICE)  # they are PID 1's children, which reaps them


def _named(pidfile: bytes) -> list[Task]:
    def names(one: Task) -> bool:
        words = (files.read(f"/proc/{one.pid}/cmdline") or b"").split(b"\0")
        return one.state != ZOMBIE and pidfile in words

    return [*filter(names, processes())]


def _pidfile(runtime: str) -> str:
    return f"{runtime}/{layout.RESTORING_PID}"


class _Checking(Thread):
    """Reads a part of the version beside CRIU: it is verified, and CRIU finds it in memory."""

    def __init__(self, terms: Terms, part: str) -> None:
        super().__init__(daemon=True)
        self._terms, self._part = terms, part
        self._wrong: list[str] = []
        self.start()

    def run(self) -> None:
        """Read it all."""
        terms = self._terms
        try:
            self._wrong = wrong(terms.version, terms.folder, terms.threads, self._part)
        except Exception as error:
            self._wrong = [str(error)]

    def finish(self) -> None:
        """Raise AgentError unless every byte is as it was written."""
        read = 0
        while self.is_alive():
            self.join(_PULSE)
            now = int((files.read("/proc/self/io") or b"rchar: 0").split()[1])
            if now - read > _LEAST:  # else PID 1 shall think that the volume hangs
                self._terms.tell("the checkpoint is read")
            read = now
        self.look()

    def look(self) -> None:
        """Raise AgentError for what was found so far."""
        if self._wrong:
            raise AgentError(damaged(self._terms.version, self._wrong))


def wrong(version: Version, folder: SafeRoot, threads: int, part: str = "") -> list[str]:
    """Say which files in *folder* are not as they were written; with *part* only of those below it.

    Raises OSError.
    """
    written = {name: Digest(one["size"], one["sha256"])
               for name, one in version.manifest["files"].items()}  # fmt: skip
    asked = {name: one for name, one in written.items() if name.startswith(part)}
    others = (written.keys() - asked.keys()) | {artifact.MANIFEST, artifact.SIGNATURE}
    return verify(f"/proc/self/fd/{folder.fd}", asked, threads, others)


def damaged(version: Version, wrong: Sequence[str]) -> Problem:
    """Say which files of a version are not as they were written."""
    return Problem(
        "checkpoint.damaged",
        "a checkpoint is damaged, and was not used",
        f"not as it was written: {', '.join(wrong[:5])}",
        f"`workspace-agent artifacts prune --damaged`, or remove {version.where}",
        version.where,
    )


def _unpack(terms: Terms) -> None:
    """Put the files outside the volume where they were, before anybody looks for them."""
    _Checking(terms, artifact.CARRIED).finish()
    fd = terms.folder.open(artifact.CARRIED, os.O_RDONLY)
    try:
        with terms.roots() as roots:
            unpack(fd, roots, f"{terms.runtime}/{layout.UNDO}", terms.tell)
    finally:
        os.close(fd)


def _run(terms: Terms, checking: _Checking) -> int:
    """Run CRIU, and return the first process, which is stopped as all are."""
    pidfile = _pidfile(terms.runtime)
    files.remove(pidfile)  # CRIU does not replace it, and says so at the very end

    def tell(word: str) -> None:
        checking.look()  # it may wait for ever for what is missing
        terms.tell(word)

    with ExitStack() as stack:
        images = stack.enter_context(terms.folder.folder(artifact.IMAGES))
        inherit = stdio.opened(terms.agent, terms.version.manifest["stdio"])
        for fd in inherit:
            stack.callback(os.close, fd)
        done = command.run(
            terms.criu.restore(pidfile, inherit), log=f"{terms.criu.work}/criu.out",
            env={"PATH": os.defpath}, timeout=terms.timeout, tell=tell,
            silence=terms.patience, moved=lambda: sum(one.resident for one in processes()),
            cwd=f"/proc/{os.getpid()}/fd/{images.fd}", pass_fds=tuple(inherit),
        )  # fmt: skip
    if done.code:
        if not done.timed_out:
            checking.finish()  # what is damaged fails in ways of its own
        raise AgentError(criu.failed("restore", f"{terms.criu.work}/{criu.RESTORE_LOG}", done.tail))
    root = (files.read(pidfile) or b"").strip()
    return int(root) if root.isdigit() else 0


def _compare(terms: Terms, root: int, tasks: Sequence[Task]) -> None:
    """Raise AgentError unless these *tasks* were frozen, and *root* is our agent's child."""
    wanted = set(terms.version.manifest["numbers"])
    zombies = {one.pid for one in tree(root)} - {one.pid for one in tasks}
    here, first = numbers(tasks) | zombies, next((one for one in tasks if one.pid == root), None)
    if first is None or root != terms.version.manifest["root"]:
        why = f"process {terms.version.manifest['root']} did not come back"
    elif here != wanted:
        why = f"process numbers differ: {sorted(here ^ wanted)[:8]}"
    elif first.parent != terms.agent:
        why = f"its parent is {first.parent}, and not the agent"
    else:
        return
    raise AgentError(_not_restored(terms, why))


def _not_restored(terms: Terms, why: str) -> Problem:
    fix = "`workspace-agent artifacts show` has the details"
    return Problem("checkpoint.not-restored", "the processes are not as they were", why, fix,
                   terms.version.where)  # fmt: skip


def _wake(terms: Terms, root: int, tasks: Sequence[Task]) -> None:
    """Let them run; raises AgentError unless they do."""
    still = {one.pid for one in tasks} - set(terms.version.manifest["asleep"])
    limit = time.monotonic() + _DEATH
    for pid in still:
        with suppress(OSError):
            os.kill(pid, signal.SIGCONT)
    while time.monotonic() < limit:
        still = {pid for pid in still if (now := task(pid)) and now.state == STOPPED}
        if not still:
            break
        time.sleep(_SLICE)
    now = task(root)
    if still or now is None or now.state == ZOMBIE:
        why = f"process {min(still)} does not run" if still else "its first process ended at once"
        raise AgentError(_not_restored(terms, why))


def _since(began: float) -> float:
    return round(time.monotonic() - began, 4)
