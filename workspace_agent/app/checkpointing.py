"""`checkpoint`: freeze the running workload, by hand or because its pod ends."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from workspace_agent.app import carrying, checkpoints, notices, rescue_verbs, trial
from workspace_agent.app.checkpoints import Bench
from workspace_agent.app.session import Session, Told, running
from workspace_agent.checkpoint import artifact, dump, freezing, machine, tries
from workspace_agent.checkpoint.contract import Attempt
from workspace_agent.checkpoint.lint import Finding, findings
from workspace_agent.checkpoint.powers import against_dump
from workspace_agent.checkpoint.tree import tree
from workspace_agent.host import files
from workspace_agent.host.guarded import Guardian
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.model.problem import AgentError, ImpossibleError, Problem
from workspace_agent.model.words import counted, duration, size
from workspace_agent.supervise import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workspace_agent.checkpoint.artifact import Shelf
    from workspace_agent.checkpoint.tree import Task

# What the end of a pod needs beside the checkpoint itself: the workload's own end, ours. And what
# a checkpoint that is late has, to say so itself.
_RESERVE = 2.0

_DIED = Problem(
    "checkpoint.died",
    "the checkpoint was not finished",
    "whoever made it was killed",
    "the workload goes on; make another one",
)


@dataclass(frozen=True)
class Wish:
    """What somebody asks of a checkpoint; *grace* is what is left of the pod's, -1 for no end."""

    leave_running: bool = False
    label: str = ""
    timeout: float = 0.0
    grace: float = -1.0
    wait_ready: bool = False


@dataclass(frozen=True)
class Workload:
    """The workload that runs here, and what its checkpoints are made with."""

    bench: Bench
    root: int
    agent: int

    def lint(self) -> list[Finding]:
        """Say everything that is to be said before it is frozen; touches nothing."""
        wish, stops = self.bench.profile.checkpoint, against_dump(self.bench.rights)
        try:
            self.bench.secret()
        except AgentError as error:
            stops.append(error.problem)
        return [*(Finding(one, stops=True) for one in stops),
                *findings(tree(self.root), self.bench.rights, floor=wish.floor, tcp=wish.tcp,
                          volume=self.bench.facts.volume.path)]  # fmt: skip


def found(session: Session) -> Workload:
    """Return the workload that runs here; raises AgentError where there is none, or no CRIU."""
    opening = session.open(strict=False)
    agent = session.read(layout.AGENT) or {}
    argv = tuple(agent.get("argv") or ())
    root, why, fix = agent.get("workload"), "no agent runs here", "`workspace-agent run -- CMD`"
    if numbers.is_placeholder(argv):
        root = checkpoints.successor(session.runtime)
        why, fix = "this container waits for one itself", "do it where the workload runs"
    if not running(agent) or not root:
        what = "there is no workload to checkpoint"
        raise AgentError(Problem("checkpoint.no-workload", what, why, fix))
    if not checkpoints.is_on(opening.profile, opening.facts):
        raise ImpossibleError(checkpoints.off(opening.profile))
    bench = Bench(opening.profile, opening.facts, checkpoints.command_of(argv))
    return Workload(bench, root, agent["pid"])


def dry_run(session: Session) -> Told:
    """Say what a checkpoint would take, and what is in its way; touches nothing."""
    workload = found(session)
    tasks, said = tree(workload.root), workload.lint()
    stops = [one.problem for one in said if one.stops]
    warnings = [one.problem for one in said if not one.stops]
    lines = [
        f"  {counted(len(tasks), 'process', 'processes')}, at most {size(dump.needed(tasks))}",
        *(f"  stops  {one.what}: {one.why}" for one in stops),
        *(f"  note   {one.what}: {one.why}" for one in warnings),
        "a checkpoint is not possible now" if stops else "a checkpoint is possible",
    ]
    data = {"processes": len(tasks), "bytes": dump.needed(tasks), "possible": not stops,
            "notes": [one.to_json() for one in warnings]}  # fmt: skip
    return Told(lines, data, stops)


def checkpoint(session: Session, wish: Wish, tell: Callable[[str], None]) -> Told:
    """Make a checkpoint; raises AgentError where there is none, and the workload runs on."""
    workload = found(session)
    _be_alone(workload.bench.facts.runtime)
    _undo(workload)  # one that was killed together with its guardian
    watch = _Stillness(workload.bench)
    secs = wish.timeout or workload.bench.profile.checkpoint.timeout
    guardian = Guardian(partial(_undo, workload), watch.is_stuck, secs=secs + _RESERVE)
    answer = guardian.run(partial(_answer, workload, wish, tell))
    if answer is None:
        raise AgentError(_DIED)
    said = table(answer)
    if "slug" in said:
        kind = ImpossibleError if said.pop("impossible") else AgentError
        raise kind(Problem(**said))
    how = "it runs on" if wish.leave_running else "it has ended; the next pod goes on with it"
    lines = [f"  {name:<9} {duration(secs)}" for name, secs in said["secs"].items()]
    lines += [f"checkpoint {said['version']} of {size(said['bytes'])}: {how}"]
    return Told(lines, said, [Problem(**one) for one in said["problems"]])


def before_stop(session: Session, secs: float, tell: Callable[[str], None]) -> Told:
    """Freeze the workload if that fits into *secs*; else keep what is outside the volume."""
    began = time.monotonic()
    opening = session.open(strict=False)
    if not checkpoints.is_on(opening.profile, opening.facts):
        return rescue_verbs.now(session, secs, tell)
    if opening.profile.checkpoint.mode != "auto":
        return rescue_verbs.now(session, secs, tell)
    try:
        return checkpoint(session, Wish(timeout=secs, grace=secs), tell)
    except AgentError as error:
        why = error.problem
    left = max(1.0, secs - (time.monotonic() - began))
    told = rescue_verbs.now(session, left, tell)
    lines = [*f"no checkpoint: {why.what}\n{why.why}".splitlines(), *told.lines]
    return Told(lines, {**told.data, "checkpoint": why.to_json()}, told.problems)


# A kernel without memory and an operator end a workload that is not done; a fault of its own does.
_NOT_DONE = (128 + signal.SIGKILL, 128 + signal.SIGTERM)


def ended(session: Session, code: int) -> Told:
    """Have no container go on with a workload that ended by itself, with *code*.

    A checkpoint with a label is for many, and stays.
    """
    bench = found(session).bench
    with bench.shelf() as shelf:
        name = shelf.current()
        stays = not name or code in _NOT_DONE or bool(shelf.read(name).manifest.get("label"))
        if not stays:
            shelf.choose("")
            checkpoints.note(shelf, what="ended", version=name, code=code)
    checkpoints.settle_wanted(bench.facts)
    how = "stays" if stays else "is spent: the workload ended by itself"
    return Told([f"checkpoint {name} {how}"] if name else [], {"version": name})


def _answer(workload: Workload, wish: Wish, tell: Callable[[str], None]) -> bytes:
    """Make it, and say how that went as JSON."""
    os.umask(0o077)
    try:
        return dumps(make(workload, wish, tell)).encode()
    except AgentError as error:
        impossible = isinstance(error, ImpossibleError)
        return dumps({**error.problem.to_json(), "impossible": impossible}).encode()


def make(workload: Workload, wish: Wish, tell: Callable[[str], None]) -> dict[str, Any]:
    """Make a checkpoint, and note in the ledger how it went; raises AgentError."""
    said = workload.lint()
    if stops := [one.problem for one in said if one.stops]:
        raise ImpossibleError(_refused(stops))
    left = [one.problem for one in said if one.problem.slug == "checkpoint.left-tree"]
    bench = workload.bench
    with bench.shelf(make=True) as shelf:
        began = time.monotonic()
        if wish.grace >= 0:
            _fits(workload, shelf, wish.grace)
        artifact.want(bench.facts.volume.path, True)  # before there is one: or it might be missed
        about: dict[str, Any] = {"what": "dump", "grace": wish.grace, "label": wish.label}
        try:
            made = dump.make(_terms(workload, shelf, wish, left, tell))
        except AgentError as error:
            secs = round(time.monotonic() - began, 3)
            with suppress(OSError):
                checkpoints.settle_wanted(bench.facts)
            checkpoints.note(shelf, **about, state="failed", why=error.problem.what, secs=secs)
            raise
        done = {"version": made.name, "bytes": made.bytes}
        return {**done, "secs": made.secs, "workload": shelf.workload,
                "problems": [one.to_json() for one in (*made.problems, *left)]}  # fmt: skip


def _terms(
    workload: Workload, shelf: Shelf, wish: Wish, left: Sequence[Problem],
    tell: Callable[[str], None],
) -> dump.Terms:  # fmt: skip
    bench = workload.bench
    profile, facts = bench.profile, bench.facts
    timeout = wish.timeout or profile.checkpoint.timeout
    patience = max(1.0, timeout - _RESERVE) if wish.grace >= 0 else timeout

    def published(made: dump.Made) -> None:
        """Whatever is to be done before the workload ends: nobody is there afterwards."""
        files.commit(f"{facts.runtime}/{layout.CHECKPOINTED}", f"{made.name}\n")
        checkpoints.note(shelf, what="dump", grace=wish.grace, label=wish.label, state="done",
              version=made.name, bytes=made.bytes, secs=sum_of(made.secs))  # fmt: skip
        with suppress(OSError):  # what is old does no harm
            busy = tries.under_way(shelf.ledger())
            shelf.prune(profile.checkpoint.keep, profile.checkpoint.most, busy=busy)

    def listed() -> tuple[Sequence[str], Sequence[str]]:
        found = carrying.listed(facts)
        return found.paths, found.deleted

    def of_machine(tasks: Sequence[Task]) -> dict[str, Any]:
        return {**bench.here(), **machine.of_tree(tasks), "at_term": wish.grace >= 0}

    return dump.Terms(
        criu=bench.tool(), shelf=shelf, contract=replace(bench.contract(), timeout=patience),
        runtime=facts.runtime,
        root=workload.root, agent=workload.agent,
        generation=checkpoints.generation(facts.runtime), facts=of_machine,
        listed=listed, roots=partial(carrying.roots, facts),
        trial=partial(trial.run, workload.bench, workload.agent),
        about={"label": wish.label, "left": [one.what for one in left],
               "argv": list(bench.argv), "volume": facts.volume.path,
               "environment": checkpoints.environment(bench.environ()),
               "age": checkpoints.age(facts.runtime, workload.root)},
        outside=_outside(workload), timeout=timeout,
        leave_running=wish.leave_running, wait_ready=wish.wait_ready, published=published,
        tell=tell,
    )  # fmt: skip


def sum_of(secs: dict[str, float]) -> float:
    """Return how long all stages took; `frozen` is the time of others."""
    return round(sum(one for name, one in secs.items() if name != "frozen"), 3)


def _fits(workload: Workload, shelf: Shelf, grace: float) -> None:
    """Raise AgentError unless a checkpoint fits into the *grace*, by what earlier ones took."""
    need = dump.needed(tree(workload.root)) + _outside(workload)
    rate = checkpoints.rate(shelf.ledger(), "dump")
    secs = need / rate
    if secs > grace - _RESERVE:
        why = f"{size(need)} at {size(int(rate))}/s take {duration(secs)}, and there are" \
              f" {duration(max(0.0, grace - _RESERVE))}"  # fmt: skip
        raise AgentError(Problem("checkpoint.no-time", "there is no time for a checkpoint", why,
                                 "a longer grace, or `--leave-running` now"))  # fmt: skip


def _outside(workload: Workload) -> int:
    """Return how many bytes are to be carried along, as the watcher saw it last."""
    found = notices.seen(workload.bench.facts.runtime).get("bytes", 0)
    return found if isinstance(found, int) else 0


def _undo(workload: Workload) -> None:
    """Let the workload go on after whoever made a checkpoint of it was killed."""
    runtime = workload.bench.facts.runtime
    note = freezing.read(runtime)
    if note is None:
        return
    if note.is_there():  # else it is in the checkpoint, and PID 1 has to know
        files.remove(f"{runtime}/{layout.FROZEN}")
    note.wake()
    workload.bench.contract().resumed(Attempt(note.nonce, note.generation), _DIED)
    freezing.forget(runtime)
    # Last: the volume may be what killed it.
    with suppress(AgentError), workload.bench.shelf() as shelf:
        shelf.discard(note.version)
        checkpoints.note(shelf, what="dump", state="failed", why=_DIED.why)


class _Stillness:
    """Whether a checkpoint hangs while the workload is stopped for it."""

    def __init__(self, bench: Bench) -> None:
        self._runtime, self._patience = bench.facts.runtime, bench.profile.volume.deadline
        self._since, self._moved = time.monotonic(), -1

    def is_stuck(self, worker: int) -> bool:
        """Say whether nothing has moved for as long as a volume may be silent."""
        note = freezing.read(self._runtime)
        moved = sum(map(_io, [one.pid for one in tree(worker)]))
        if note is None or not note.is_stopped() or moved != self._moved:
            self._since, self._moved = time.monotonic(), moved
        return time.monotonic() - self._since > self._patience


def _io(pid: int) -> int:
    """Return how many bytes a process has read and written, and what it holds in memory."""
    words = (files.read(f"/proc/{pid}/io") or b"").split()
    return sum(int(word) for word in words[1:8:2])


def _be_alone(runtime: str) -> None:
    """Be the only one who makes a checkpoint here, until we end; raises AgentError.

    PID 1 waits for that end before its own, so that somebody hears of our exit code.
    """
    fd = os.open(f"{runtime}/{layout.FREEZE_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise AgentError(Problem("checkpoint.busy", "another checkpoint is being made",
                                 "", "wait for its end")) from error  # fmt: skip


def _refused(stops: Sequence[Problem]) -> Problem:
    """Say all that is in the way in one problem."""
    first = stops[0]
    if len(stops) == 1:
        return first
    why = "\n".join(f"{one.what}: {one.why}" if one.why else one.what for one in stops)
    fix = "\n".join(dict.fromkeys(one.fix for one in stops if one.fix))
    what = f"a checkpoint is not possible, for {len(stops)} reasons"
    return replace(first, what=what, why=why, fix=fix)
