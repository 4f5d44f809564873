"""What a step says of itself, and what a boot says of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from workspace_agent.model.problem import Problem

    class Step(Protocol):
        """One idempotent thing: `check` only reads, `apply` may be repeated or killed anywhere."""

        @property
        def name(self) -> str:
            """Stable, as in `home.seed`: reports, flags and docs use it."""
            ...

        @property
        def needs(self) -> tuple[str, ...]:
            """Names of steps that must not have failed."""
            ...

        def check(self) -> Check:
            """Read, write nothing, and say what there is to do."""
            ...

        def apply(self, tell: Callable[[str], None]) -> Problem | None:
            """Write; *tell* hears of progress. Returns what is not right although it is done."""
            ...


@dataclass(frozen=True)
class Ok:
    """Nothing to do; *why* says what was found."""

    why: str = ""


@dataclass(frozen=True)
class Todo:
    """Something to do; *why* and *detail* are the plan's own words."""

    why: str
    detail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skip:
    """Does not apply here."""

    why: str


@dataclass(frozen=True)
class Blocked:
    """Cannot be done here, and the problem says what would change that."""

    problem: Problem


Check = Ok | Todo | Skip | Blocked


class Status(Enum):
    """The state word of a row."""

    OK = "ok"
    CHANGED = "changed"
    WOULD_CHANGE = "would change"
    SKIPPED = "skipped"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """One step of a plan or a report; *secs* is wall time."""

    name: str
    status: Status
    why: str = ""
    secs: float = 0.0
    detail: tuple[str, ...] = ()
    problem: Problem | None = None

    @property
    def is_missing(self) -> bool:
        """Whether the step's work is not there: it did not succeed, or rests on one like that."""
        return self.status in (Status.BLOCKED, Status.FAILED) or self.why.startswith("needs ")

    def to_json(self) -> dict[str, object]:
        """Return the row as JSON-ready values."""
        return {
            "name": self.name,
            "status": self.status.value,
            "why": self.why,
            "secs": round(self.secs, 6),
            "detail": list(self.detail),
            "problem": self.problem.to_json() if self.problem else None,
        }


@dataclass(frozen=True)
class Report:
    """The rows of one boot in order, and the problems that belong to no step."""

    rows: tuple[Row, ...] = ()
    secs: float = 0.0
    notes: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem, those of no step first."""
        return (*self.notes, *(row.problem for row in self.rows if row.problem))

    @property
    def status(self) -> str:
        """`ok`, or `degraded` when anything is not right."""
        return "degraded" if self.problems else "ok"

    def count(self, status: Status) -> int:
        """How many rows are in *status*."""
        return sum(row.status is status for row in self.rows)
