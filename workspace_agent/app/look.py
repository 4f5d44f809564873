"""Reading what a boot left: status. No lock, no agent needed."""

from __future__ import annotations

from typing import Any

from workspace_agent.app import checkpoints, homes, notices, private
from workspace_agent.app.session import Session, Told, running
from workspace_agent.host import files
from workspace_agent.host.asking import in_time
from workspace_agent.model import layout
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import counted, duration
from workspace_agent.supervise.numbers import is_placeholder

# What is asked of the volume is a convenience.
_PATIENCE = 2.0

_NO_BOOT = Problem(
    "agent.not-running",
    "no boot has left a report here",
    "no runtime folder with the agent's files was found",
    "start the container with entrypoint.sh, or run `workspace-agent setup`",
)


def status(session: Session, verbose: bool = False) -> Told:
    """Say what this boot's files say; *verbose* lists its steps, too."""
    boot, agent = session.read(layout.STATUS), session.read(layout.AGENT)
    if agent is not None:
        agent["running"] = running(agent)
    made = private_state(session)
    asked = (in_time(lambda: homes.notice(session), _PATIENCE) or "") if boot is not None else ""
    watch = notices.seen(session.runtime) if session.runtime else {}
    data = {"boot": boot, "agent": agent, "private": made, "defaults": asked, "watch": watch,
            "restored": session.read(layout.RESTORED),
            "checkpoint": _checkpoint(session)}  # fmt: skip
    if boot is None:
        return Told([f"private environment  {made}"], data, [_NO_BOOT])
    survives = "" if boot.get("survives", True) else " (ends with this container)"
    rows = [
        ("volume", f"{boot['volume']}{survives}"),
        ("home", boot.get("home") or "as in the image"),
        ("boot", f"{boot['status']}, {boot['path']} path, {duration(boot['secs'])}"),
        *([("defaults", asked)] if asked else []),
        ("workload", _workload(agent, session.runtime)),
        *_frozen(session),
        *notices.rows(watch),
        ("private environment", made),
    ]
    lines = [f"{name:<20} {text}" for name, text in rows]
    for step in boot["steps"] if verbose else []:
        lines.append(f"  {step['status']:<13} {step['name']:<14} {step['why']}")
    return Told(lines, data, [Problem(**one) for one in boot["problems"]])


def _frozen(session: Session) -> list[tuple[str, str]]:
    """Say where the workload comes from, and what is frozen of it."""
    rows = []
    if found := session.read(layout.RESTORED):
        count = counted(found["processes"], "process", "processes")
        rows.append(("restored", f"generation {found['generation']}, from {found['version']},"
                     f" {count} in {duration(sum(found['secs'].values()))},"
                     f" after a life of {duration(found['age'])}"))  # fmt: skip
    name = _checkpoint(session)
    return [*rows, *([("checkpoint", name)] if name else [])]


def _checkpoint(session: Session) -> str:
    """Return the name of the last checkpoint that was made here; "" for none."""
    found = files.read(f"{session.runtime}/{layout.CHECKPOINTED}") if session.runtime else None
    return (found or b"").decode().strip()


def private_state(session: Session) -> str:
    """Say how far the private environment is."""
    import time

    if private.is_whole(session.root):
        return "ready"
    state = session.read(private.STATE)
    if state is None:
        return "not made yet"
    if state["phase"] == "making":
        return f"being made for {duration(max(0.0, time.time() - state['since']))}"
    return f"{state['phase']}: {state['why']}"


def _workload(agent: dict[str, Any] | None, runtime: str) -> str:
    if agent is None:
        return "none: no agent has started one"
    if "exit_code" in agent:
        return f"ended with {agent['exit_code']}"
    word = "runs" if agent["running"] else "was left by an agent that is gone"
    pid = agent.get("workload", "?")
    if is_placeholder(agent.get("argv", ())):
        pid = checkpoints.successor(runtime) or f"{pid}, which waits for a checkpoint,"
    return f"process {pid} {word}"
