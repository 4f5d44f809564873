"""`restore` and `placeholder`: a container that goes on with a workload after it was started."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

from workspace_agent.app import checkpoints, reviving
from workspace_agent.app.checkpoints import Bench
from workspace_agent.app.reviving import Revive
from workspace_agent.app.session import Session, Told, running
from workspace_agent.checkpoint import artifact, powers
from workspace_agent.host import files
from workspace_agent.host.guarded import Guardian
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.model.outcome import Skip
from workspace_agent.model.problem import AgentError, ImpossibleError, Problem
from workspace_agent.supervise import numbers, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from workspace_agent.checkpoint.artifact import Version

# Between two looks for a checkpoint that somebody else makes.
_LOOK = 0.5

_DIED = Problem("checkpoint.died", "the checkpoint was not restored",
                "whoever restored it was killed", "try it again in a fresh container")  # fmt: skip


def restore(session: Session, which: str, dry_run: bool, tell: Callable[[str], None]) -> Told:
    """Go on with the checkpoint *which* here, or with the newest of this container's workload."""
    step = _step(session, which)
    if step.workload not in artifact.workloads(step.bench.facts.volume.path):
        raise AgentError(_nothing(step.bench.facts.volume.path))
    with step.bench.shelf(step.workload) as shelf:
        name = step.wanted or shelf.current()
        if not name:
            raise AgentError(_nothing(step.bench.facts.volume.path))
        version = shelf.read(name)
    if dry_run:
        return _dry(step, version)
    _must_be_free(session)
    made = _guarded(step, tell)
    if made is None:
        raise AgentError(_DIED)
    said = table(made)
    if "slug" in said:
        raise AgentError(Problem(**said))
    problems = [Problem(**one) for one in said["problems"]]
    return Told([f"process {said['pid']} goes on, from {version.name}"], said, problems)


def _guarded(step: Revive, tell: Callable[[str], None]) -> bytes | None:
    undo = partial(reviving.clean, step.bench.facts)
    return Guardian(undo, adopt=False).run(partial(_answer, step, tell))


def _answer(step: Revive, tell: Callable[[str], None]) -> bytes:
    try:
        problem = step.apply(tell)
    except AgentError as error:
        return dumps(error.problem.to_json()).encode()
    succeed(step.bench.facts.runtime, step.pid)
    step.keep()
    problems = [problem.to_json()] if problem else []
    return dumps({"pid": step.pid, "problems": problems}).encode()


def succeed(runtime: str, pid: int) -> None:
    """Tell PID 1 which process has taken the place of its placeholder."""
    files.commit(f"{runtime}/{layout.SUCCESSOR}", f"{pid}\n")


def _dry(step: Revive, version: Version) -> Told:
    reasons = step.reasons(version, step.bench.here())
    lines = [f"  {one}" for one in reasons]
    lines += ["it would not be restored" if reasons else f"{version.name} would be restored"]
    problems = [reviving.unfit(version, reasons)] if reasons else []
    return Told(lines, {"version": version.name, "reasons": reasons}, problems)


def _step(session: Session, which: str) -> Revive:
    opening = session.open(strict=False)
    if not checkpoints.is_on(opening.profile, opening.facts):
        raise ImpossibleError(checkpoints.off(opening.profile))
    agent = session.read(layout.AGENT) or {}
    argv = tuple(agent.get("argv") or ())
    argv = checkpoints.command_of(argv)
    bench = Bench(opening.profile, opening.facts, argv)
    workload, version = found(opening.facts.volume.path, which)
    parent = agent["pid"] if running(agent) else 1
    env = session.workload_environ() or dict(session.environ)
    return Revive(bench, parent, env, version, workload or bench.workload())


def found(volume: str, which: str) -> tuple[str, str]:
    """Return workload and version of what somebody calls *which*; raises AgentError."""
    workload, _, name = which.rpartition("/")
    for one in artifact.workloads(volume) if which else ():
        if which == one:
            return one, ""
        with artifact.shelf(volume, one) as shelf:
            if workload in ("", one) and name in shelf.names():
                return one, name
    if which:
        raise AgentError(_nothing(volume, which))
    return "", ""


def _must_be_free(session: Session) -> None:
    """Raise AgentError where another workload runs: its child's place cannot be taken."""
    agent = session.read(layout.AGENT) or {}
    argv = agent.get("argv") or ()
    taken = agent.get("workload")
    if numbers.is_placeholder(argv):
        taken = checkpoints.successor(session.runtime)
    if running(agent) and taken:
        raise AgentError(Problem(
            "checkpoint.not-free", "a workload runs here already",
            f"process {taken} is this container's",
            "restore in a container that runs `workspace-agent placeholder`"))  # fmt: skip


def placeholder(
    session: Session, secs: float, which: str, argv: Sequence[str], tell: Callable[[str], None]
) -> int:
    """Wait for a checkpoint of *argv*, or for *which*, and go on with it; returns the exit code.

    After *secs*, or where it cannot be restored, *argv* is started afresh; 0 waits for ever. A
    container that may not restore leaves that to the node's agent (`nsrestore`).
    """
    until = time.monotonic() + secs if secs else None
    runtime, floor = session.runtime, 0
    while not files.exists(f"{runtime}/{layout.SUCCESSOR}"):
        waits = "waiting for a checkpoint"
        try:
            step = _step(session, which)
            floor = step.bench.profile.checkpoint.floor
            if powers.against_restore(step.bench.rights):
                waits = "waiting for the node's agent: this container may not restore by itself"
            elif not isinstance(step.check(), Skip):
                if _tried(step, tell):
                    return 0
                if step.bench.profile.checkpoint.fallback == "fail":
                    return 1
                return _cold(runtime, floor, argv)
        except ImpossibleError as error:
            _say(error.problem.lines("problem"))
            return _cold(runtime, floor, argv)
        except AgentError:  # the one that is wanted is not there yet
            pass
        tell(waits)
        if until is not None and time.monotonic() > until:
            return _cold(runtime, floor, argv)
        time.sleep(_LOOK)
    return 0


def _tried(step: Revive, tell: Callable[[str], None]) -> bool:
    made = _guarded(step, tell)
    said = table(made) if made else _DIED.to_json()
    if "slug" in said:
        _say(Problem(**said).lines("problem"))
    else:
        _say([f"process {said['pid']} goes on"])
    return "pid" in said


def _say(lines: Iterable[str]) -> None:
    """Write into the pod's log."""
    os.write(2, os.fsencode("".join(f"workspace-agent: {line}\n" for line in lines)))


def _cold(runtime: str, floor: int, argv: Sequence[str]) -> int:
    """Start *argv* afresh as PID 1's next child."""
    if not argv:
        _say(["there is no command to start afresh"])
        return 1
    numbers.reach(floor - 1)
    started = spawn.spawn(argv, os.environ, ())
    if started.error:
        _say([f"{argv[0]} cannot be started"])
        return 127
    _say([f"process {started.pid} is started afresh"])
    succeed(runtime, started.pid)
    return 0


def _nothing(volume: str, which: str = "") -> Problem:
    what, why = "nothing of this workload is frozen", f"there is no checkpoint of it on {volume}"
    if which:
        what, why = f"there is no checkpoint {which}", f"no workload or version on {volume} is that"
    return Problem("checkpoint.nothing", what, why,
                   "`workspace-agent artifacts list` shows what there is", volume)  # fmt: skip
