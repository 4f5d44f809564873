"""doctor --for checkpoint: what may be done here, the proof of it, and the running workload."""

from __future__ import annotations

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from workspace_agent.app import checkpoints
from workspace_agent.app import session as sessions
from workspace_agent.checkpoint import lint, powers, probe, tree
from workspace_agent.checkpoint.criu import Criu
from workspace_agent.model import layout
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workspace_agent.app.session import Session
    from workspace_agent.checkpoint.lint import Finding
    from workspace_agent.checkpoint.powers import Powers


@dataclass(frozen=True)
class Ability:
    """What stands against a *dump* and against a *restore*, and what was *found* in the workload.

    *proof* says what was tried.
    """

    may: Powers
    dump: Sequence[Problem]
    restore: Sequence[Problem]
    proof: str
    found: Sequence[Finding]
    workload: int

    def lines(self) -> list[str]:
        """Return the table for people."""
        held = powers.names(self.may.effective & powers.ASKED_FOR)
        mode = "all rights" if powers.is_full(self.may) else "least rights: criu --unprivileged"
        rows = [("criu", ".".join(map(str, self.may.criu)) or "none"), ("mode", mode),
                ("capabilities", " ".join(held) or "none of those that matter"),
                ("seccomp", "a filter" if self.may.seccomp else "no filter"),
                ("dump", _verdict(self.dump)), ("restore", _verdict(self.restore)),
                ("proof", self.proof)]  # fmt: skip
        named = f"process {self.workload}" if self.workload else "none runs here"
        rows.append(("workload", named if self.found or not self.workload else f"{named}: clean"))
        rows += [("stops" if f.stops else "note", f"{f.problem.what}: {f.problem.why}")
                 for f in self.found]  # fmt: skip
        return [f"  {name:<13} {text}" for name, text in rows]

    def to_json(self) -> dict[str, object]:
        """Return it as JSON-ready values."""
        found = [{"stops": one.stops, **one.problem.to_json()} for one in self.found]
        return {"dump": not self.dump, "restore": not self.restore, "proof": self.proof,
                "full": powers.is_full(self.may), "workload": self.workload,
                "findings": found}  # fmt: skip


def examine(session: Session) -> Ability:
    """Look and try; leaves nothing behind."""
    opening = session.open(strict=False, dry_run=True)
    wanted = opening.profile.checkpoint
    may = powers.read(wanted.criu)
    dump, restore = powers.against_dump(may), powers.against_restore(may)
    tool = Criu(wanted.criu, unprivileged=not powers.is_full(may))
    proof = "none: neither is possible" if restore else ""
    if not dump:
        proof = _round_trip(tool, dump, restore)
    elif not restore:
        proof = _numbers(restore)
    agent = session.read(layout.AGENT)
    root = (
        int(agent["workload"]) if agent and sessions.running(agent) and "workload" in agent else 0
    )
    found = lint.findings(
        tree.tree(root), may, floor=wanted.floor, tcp=wanted.tcp, volume=opening.facts.volume.path
    )
    if wanted.mode == "off":
        found.insert(0, lint.Finding(checkpoints.off(opening.profile), stops=False))
    return Ability(may, dump, restore, proof, found, root)


def _round_trip(tool: Criu, dump: list[Problem], restore: list[Problem]) -> str:
    with TemporaryDirectory(prefix="workspace-agent-") as folder:
        trip = probe.round_trip(tool, folder)
    if trip.restored:
        return f"a process was dumped and restored in {duration(trip.secs)}"
    if not trip.dumped:
        dump.append(_not_proven("dumped", trip.why))
    elif not restore:
        restore.append(_not_proven("restored", trip.why))
    return f"a process was {'dumped, and not restored' if trip.dumped else 'not dumped'}"


def _numbers(restore: list[Problem]) -> str:
    if probe.gives_numbers():
        return "a process was given its number, as a restore does"
    restore.append(_not_proven("restored", "the kernel does not let a process have its number"))
    return "a process was not given its number"


def _not_proven(verb: str, why: str) -> Problem:
    return Problem(
        "checkpoint.round-trip", f"a process that does nothing was not {verb}", why,
        "ask who runs the machine about its security modules (AppArmor, SELinux, gVisor)",
    )  # fmt: skip


def _verdict(reasons: Sequence[Problem]) -> str:
    return "no: " + "; ".join(one.why for one in reasons) if reasons else "yes"
