"""The step that lets the workload go on where an earlier container froze it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import partial
from threading import Thread

from workspace_agent.app import carrying, checkpoints
from workspace_agent.checkpoint import identity, machine, powers, restore, stdio, tries
from workspace_agent.checkpoint.contract import Attempt
from workspace_agent.host import files
from workspace_agent.host.alive import Sign
from workspace_agent.host.runtime import variables
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.outcome import Ok, Skip, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import duration, size
from workspace_agent.supervise import numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from workspace_agent.app.checkpoints import Bench
    from workspace_agent.app.facts import Facts
    from workspace_agent.checkpoint.artifact import Shelf, Version
    from workspace_agent.model.outcome import Check

# PID 1 takes silence for a hang.
_PULSE = 0.25

# Nobody minds so much more of a start.
_NO_MATTER = 10.0


@dataclass(frozen=True)
class Revive:
    """Restore the newest checkpoint of the workload of *bench* as a child of *agent*.

    *env* is what it would be started with now. *wanted* is a version that somebody asked for;
    then nothing that was tried before counts. *bury* has PID 1 reap what a failed one has left,
    *release* has it give up its terminal. What came of it is in `pid`.
    """

    bench: Bench
    agent: int
    env: Mapping[str, str]
    wanted: str = ""
    workload: str = ""
    bury: Callable[[], None] = lambda: None
    release: Callable[[], None] = lambda: None
    name: str = "checkpoint.restore"
    needs: tuple[str, ...] = ("volume.ready",)
    _pid: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The workload's process, once it is restored; else 0."""
        return self._pid[-1] if self._pid else 0

    def check(self) -> Check:
        """Look for a checkpoint of this workload."""
        if self.pid:
            return Ok(f"process {self.pid} goes on")
        try:
            with self.bench.shelf(self.workload) as shelf:
                version = self._chosen(shelf)
                if version is None:
                    return Skip("nothing is frozen")
                old = duration(max(0.0, time.time() - version.manifest["made"]))
                return Todo(f"go on with {version.name}, {size(version.manifest['bytes'])},"
                            f" {old} old")  # fmt: skip
        except AgentError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return Skip("nothing is frozen")
            return Todo(f"{error.problem.what}: {error.problem.why}")

    def apply(self, tell: Callable[[str], None]) -> Problem | None:
        """Restore it; raises AgentError, and then all is as if there was none."""
        with self.bench.shelf(self.workload) as shelf:
            name = self.wanted or shelf.current()
            if not name:
                return None
            try:
                return self._try(shelf, shelf.read(name), tell)
            except AgentError as error:
                older = [one for one in shelf.names() if one < name]
                wish = self.bench.profile.checkpoint.fallback
                if wish != "older" or self.wanted or not older:
                    raise
                self.bury()
                return self._try(shelf, shelf.read(older[-1]), tell) or error.problem

    def _chosen(self, shelf: Shelf) -> Version | None:
        name = self.wanted or shelf.current()
        return shelf.read(name) if name else None

    def _try(self, shelf: Shelf, version: Version, tell: Callable[[str], None]) -> Problem | None:
        began, here = time.monotonic(), self.bench.here()
        host = machine.fingerprint(here)
        why = "" if self.wanted else tries.against(shelf.ledger(), version.name, host)
        if why:
            raise AgentError(_not_again(version, why))
        manifest = version.manifest
        kinds = tuple(map(str, manifest["contract"]))
        attempt = Attempt(os.urandom(16).hex(), manifest["generation"] + 1, kinds)
        about: dict[str, Any] = {"what": "restore", "version": version.name, "host": host,
                                 "nonce": attempt.nonce, "on": here["host"]}  # fmt: skip
        slower = [] if self.wanted else _slower(version, shelf.ledger())
        if reasons := [*self.reasons(version, here), *slower]:
            checkpoints.note(shelf, **about, state="refused", why="; ".join(reasons))
            raise AgentError(unfit(version, reasons))
        sign = Sign()
        try:
            # Before the act: who dies in it has tried.
            shelf.note(**about, state="claimed", sign=sign.text)
            restored, problems = self._restored(shelf, version, attempt, tell)
        except AgentError as error:
            checkpoints.note(
                shelf, **about, state="failed", why=f"{error.problem.what}: {error.problem.why}"
            )
            raise
        except BaseException:
            checkpoints.note(shelf, **about, state="stopped")  # no fault of its own
            raise
        finally:
            sign.end()
        secs = round(time.monotonic() - began, 3)
        checkpoints.note(shelf, **about, state="done", secs=secs, bytes=version.manifest["bytes"],
              stages=restored.secs)  # fmt: skip
        self._pid.append(restored.pid)
        return problems[0] if problems else _left(version)

    def reasons(self, version: Version, here: Mapping[str, Any]) -> list[str]:
        """Say everything that keeps *version* from being restored here, now."""
        manifest, full = version.manifest, powers.is_full(self.bench.rights)
        recorded = int(manifest["facts"].get("needs_capabilities", 0))
        found = [f"{one.what}: {one.why} ({one.fix})"
                 for one in powers.against_restore(self.bench.rights, recorded)]  # fmt: skip
        found += machine.mismatches(manifest["facts"], here,
                                    time_space=full)  # fmt: skip
        if stdio.lacks_terminal(self.agent, manifest["stdio"]):
            found.append("this container has no terminal, and it had one (`--tty`, `tty: true`)")
        if manifest.get("environment", "") != checkpoints.environment(self.env):
            found.append("the environment of packages is another one than it ran in")
        if taken := restore.occupied(version):
            names = ", ".join(f"{one.pid} ({one.name})" for one in taken[:4])
            found.append(f"its process numbers are taken here: {names}")
        return found

    def _restored(
        self, shelf: Shelf, version: Version, attempt: Attempt, tell: Callable[[str], None]
    ) -> tuple[restore.Restored, list[Problem]]:  # fmt: skip
        bench, runtime = self.bench, self.bench.facts.runtime
        contract, roots = bench.contract(), partial(carrying.roots, bench.facts)

        def renew(pid: int) -> None:
            """Tell the workload who it is now, before it runs."""
            env = {**contract.variables(), **self.env}
            delta = identity.delta(variables(f"/proc/{pid}/environ"), env)
            then = version.manifest["identity"]
            contract.renew(identity.renewed(then, attempt.nonce, attempt.generation, delta))

        with shelf.top.folder(f"versions/{version.name}") as folder:
            terms = restore.Terms(
                bench.tool_for(version), version, folder, runtime, self.agent,
                bench.profile.checkpoint.timeout, bench.profile.volume.deadline, renew, roots,
                tell=tell,
            )  # fmt: skip
            # Before: CRIU gives numbers without moving the cursor, and those who pass theirs by
            # must not stand on one at that moment.
            numbers.reach(max(version.manifest["numbers"]))
            if stdio.terminals(version.manifest["stdio"]):
                self.release()
                stdio.wait_released(self.agent)
            found = restore.restore(terms)
        try:
            problems = telling(partial(contract.restored, attempt), tell)
            library = any(one.startswith("library/") for one in attempt.kinds)
            if library and not contract.answered(attempt):
                raise AgentError(_silent(version))
            files.commit(f"{runtime}/{layout.RESTORED}", dumps({
                "schema": 1, "version": version.name, "workload": version.workload,
                "generation": attempt.generation, "nonce": attempt.nonce, "pid": found.pid,
                "processes": version.manifest["processes"], "secs": found.secs,
                "age": version.manifest.get("age", 0.0),
            }) + "\n")  # fmt: skip
        except BaseException:
            clean(bench.facts)
            raise
        return found, problems

    def keep(self) -> None:
        """Leave it there, now that PID 1 knows of it; until then whoever finds it takes it back."""
        facts = self.bench.facts
        restore.keep(facts.runtime, partial(carrying.roots, facts))


def _left(version: Version) -> Problem | None:
    """Say who is missing: what was no part of the tree any more was not frozen with it."""
    left = version.manifest.get("left")
    if not left:
        return None
    return Problem("checkpoint.left-tree", "not all of the workload has come back",
                   "; ".join(map(str, left)), "start it again by hand", version.where)  # fmt: skip


def _slower(version: Version, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say whether it would take longer to restore it than it had taken to come so far."""
    need, age = version.manifest["bytes"], version.manifest.get("age", 0.0)
    secs = need / checkpoints.rate(lines, "restore", "dump")
    if secs <= max(age, _NO_MATTER):
        return []
    return [f"{size(need)} would take {duration(secs)}, and it had run for {duration(age)}"]


def telling(act: Callable[[], list[Problem]], tell: Callable[[str], None]) -> list[Problem]:
    """Do *act*, which takes as long as the workload's own code does, and *tell* that it goes on."""
    found: list[Problem] = []
    thread = Thread(target=lambda: found.extend(act()), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_PULSE)
        tell("the workload takes up its work")
    return found


def clean(facts: Facts) -> None:
    """Take back what a restore that was killed has done in this container."""
    restore.clean(facts.runtime, partial(carrying.roots, facts))


def unfit(version: Version, reasons: Sequence[str]) -> Problem:
    """Say why a version cannot go on here."""
    what = "the frozen workload cannot go on here"
    if len(reasons) > 1:
        what += f", for {len(reasons)} reasons"
    return Problem("checkpoint.unfit", what, "\n".join(reasons),
                   "it starts afresh; the checkpoint stays for a machine that fits",
                   version.where)  # fmt: skip


def _not_again(version: Version, why: str) -> Problem:
    return Problem("checkpoint.not-again", "a checkpoint is not tried again", why,
                   f"`workspace-agent restore {version.name}` tries it all the same",
                   version.where)  # fmt: skip


def _silent(version: Version) -> Problem:
    return Problem("checkpoint.no-answer", "the restored workload does not answer",
                   "it promised to say when it goes on (workspace_agent.workload)",
                   "look at its after-callbacks", version.where)  # fmt: skip
