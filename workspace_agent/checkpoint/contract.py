"""What the workload and a checkpoint owe each other: asked before, told after, each exactly once.

They meet in one folder of this container, the control folder. Who was asked is noted there before
it is asked, so that another process of ours can tell them how it ended, when the one that asked is
gone.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass

from workspace_agent.checkpoint import parts
from workspace_agent.host import files
from workspace_agent.model import jsontext, layout
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Dynamo's names of files, too; it has none for a failure, and waits for ever.
READY = ("ready-for-snapshot", "ready-for-checkpoint")
COMPLETE, FAILED, RESTORED = "snapshot-complete", "snapshot-failed", "restore-complete"
_OUTCOME = {COMPLETE: "complete", FAILED: "failed", RESTORED: "restored"}

IDENTITY = "identity.json"

_RECORD = "attempt.json"

_LOOK = 0.05


@dataclass(frozen=True)
class Attempt:
    """One checkpoint or one restore; *kinds* are those whom the checkpoint asked.

    *generation* is that of the workload: how many times it was restored.
    """

    nonce: str
    generation: int
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contract:
    """The control folder, who else is asked, and for how long.

    *timeout* is for all before a checkpoint together, and for each one after it. *environ* is the
    workload's; what hooks print goes to the file *log*.
    """

    control: str
    hooks: str
    http: str
    environ: Mapping[str, str]
    log: str
    timeout: float

    def open(self) -> None:
        """Make the folder, without anything of an earlier container. Raises OSError."""
        with suppress(FileExistsError):
            os.mkdir(self.control, 0o700)
        for name in os.listdir(self.control):
            files.remove(f"{self.control}/{name}")

    def variables(self) -> dict[str, str]:
        """Return what the workload has to find in its environment; what the pod has set stays."""
        return {name: self.environ.get(name) or self.control for name in layout.CONTROL_NAMES}

    def before(self, attempt: Attempt, *, wait_ready: bool = False) -> list[str]:
        """Ask everybody to get ready, and with *wait_ready* wait for the workload's own word.

        Returns who was asked, each process with the library for itself. Raises AgentError with the
        reason of the first that is not; all who were asked until then have been told.
        """
        self._end_last()
        until = time.monotonic() + self.timeout
        clients, asked, problem = parts.clients(self.control), [], None
        for one in reversed(self._parts(clients)):
            asked.append(one.name)
            self._note(attempt, _kinds(asked, clients))
            if why := one.before(_told(attempt), until - time.monotonic()):
                problem = Problem(
                    "checkpoint.before-failed", f"{one.name} is not ready for a checkpoint", why,
                    f"see {self.log}; the workload goes on", one.name,
                )  # fmt: skip
                break
        if not problem and wait_ready and not self._is_ready(until):
            problem = Problem(
                "checkpoint.before-failed", "the workload has not said that it is ready",
                f"{' or '.join(READY)} was not there after {duration(self.timeout)}",
                "have it write one, or do without --wait-ready; it goes on", self.control,
            )  # fmt: skip
        if problem:
            self.resumed(attempt, problem)
            raise AgentError(problem)
        return _kinds(asked, clients)

    def resumed(self, attempt: Attempt, problem: Problem | None) -> list[Problem]:
        """Tell everybody who was asked that it goes on here; without *problem* all went well.

        May be called again, by any process: nobody is told twice.
        """
        result = FAILED if problem else COMPLETE
        self._say(result, attempt, problem)
        for name in READY:
            files.remove(f"{self.control}/{name}")
        last, kinds = self._noted()
        return self._tell(attempt, result, kinds) if last == attempt.nonce else []

    def renew(self, identity: Mapping[str, object]) -> None:
        """Write who the workload is now: while the restored processes are still stopped."""
        self.open()
        files.commit(f"{self.control}/{IDENTITY}", jsontext.dumps(dict(identity)), 0o600)

    def restored(self, attempt: Attempt) -> list[Problem]:
        """Tell everybody whom the checkpoint had asked that it goes on in this container."""
        self._say(RESTORED, attempt, None)
        return self._tell(attempt, RESTORED, list(attempt.kinds))

    def answered(self, attempt: Attempt) -> bool:
        """Say whether each process with the library has answered from after this restore."""
        clients = _clients(attempt.kinds)
        library = parts.Library(self.control, clients)
        return bool(clients) and all(
            library.answer(pid, "after", attempt.nonce) is not None for pid in clients
        )

    def _parts(self, clients: tuple[int, ...]) -> list[parts.Part]:
        """Return all in the order in which they are told; they are asked in the other one."""
        return [
            *([parts.Library(self.control, clients)] if clients else []),
            *([parts.Http(self.http)] if self.http else []),
            *parts.hooks(self.hooks, self.environ, self.log),
        ]

    def _tell(self, attempt: Attempt, result: str, kinds: list[str]) -> list[Problem]:
        problems = []
        for one in self._parts(_clients(kinds)):
            asked = [kind for kind in kinds if _name(kind) == one.name]
            if not asked:
                continue
            kinds = [kind for kind in kinds if kind not in asked]
            self._note(attempt, kinds)  # first: twice would be worse than not at all
            why = one.after({**_told(attempt), "outcome": _OUTCOME[result]}, self.timeout)
            if why:
                problems.append(Problem(
                    "checkpoint.after-failed", f"{one.name} did not take up its work", why,
                    f"see {self.log}", one.name,
                ))  # fmt: skip
        files.remove(f"{self.control}/{_RECORD}")
        return problems

    def _end_last(self) -> None:
        """Tell those whom an attempt has asked that nobody ended, and remove old results.

        A workload that said it is ready is so still.
        """
        last, kinds = self._noted()
        self._tell(Attempt(last, 0), FAILED, kinds)
        for name in (COMPLETE, FAILED, RESTORED):
            files.remove(f"{self.control}/{name}")

    def _note(self, attempt: Attempt, kinds: Sequence[str]) -> None:
        record = {"nonce": attempt.nonce, "kinds": list(kinds)}
        files.commit(f"{self.control}/{_RECORD}", jsontext.dumps(record), 0o600)

    def _noted(self) -> tuple[str, list[str]]:
        """Return the nonce of the attempt that is open, and who is still to be told."""
        record = jsontext.table(files.read(f"{self.control}/{_RECORD}"))
        kinds = record.get("kinds")
        return str(record.get("nonce", "")), [*map(str, kinds)] if isinstance(kinds, list) else []

    def _say(self, result: str, attempt: Attempt, problem: Problem | None) -> None:
        body = {**_told(attempt), **({"problem": problem.to_json()} if problem else {})}
        files.commit(f"{self.control}/{result}", jsontext.dumps(body), 0o600)

    def _is_ready(self, until: float) -> bool:
        while not any(os.path.exists(f"{self.control}/{name}") for name in READY):
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK)
        return True


def _told(attempt: Attempt) -> dict[str, str | int]:
    return {"nonce": attempt.nonce, "generation": attempt.generation}


def _kinds(names: Sequence[str], clients: Sequence[int]) -> list[str]:
    """Return *names* with one for each process in place of the library's."""
    each = [f"library/{pid}" for pid in clients]
    return [kind for name in names for kind in (each if name == "library" else [name])]


def _name(kind: str) -> str:
    return "library" if kind.startswith("library/") else kind


def _clients(kinds: Sequence[str]) -> tuple[int, ...]:
    words = (kind.partition("library/")[2] for kind in kinds if kind.startswith("library/"))
    return tuple(int(word) for word in words if word.isdigit())
