"""What went wrong, in a form every surface can print."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from workspace_agent.model.words import shown


@dataclass(frozen=True)
class Problem:
    """One thing that is not right: what, why, fix, where, and a stable *slug*.

    The same record is an error line, a doctor finding, a JSON object and a section of
    `docs/reference/problems.md`. No text in it may carry the value of a secret.
    """

    slug: str
    what: str
    why: str = ""
    fix: str = ""
    where: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the fields as JSON-ready values; empty ones stay: readers need no defaults."""
        return asdict(self)

    def lines(self, word: str = "error") -> tuple[str, ...]:
        """Return the human form, one line each: what, then why, fix, where, then the slug."""
        body = (("why", self.why), ("fix", self.fix), ("where", self.where))
        rows = (map(shown, f"{label}: {text}".split("\n")) for label, text in body if text)
        indented = [f"  {line}" if n == 0 else f"       {line}" for row in rows
                    for n, line in enumerate(row)]  # fmt: skip
        return (f"{word}: {shown(self.what)}", *indented, f"  ({self.slug})")


class AgentError(Exception):
    """Carries a Problem to whoever can answer for it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


class ImpossibleError(AgentError):
    """What was asked for cannot be done on this machine, or not now."""


def slug(error: BaseException) -> str:
    """Return the slug of the problem that *error* carries, or ""."""
    return error.problem.slug if isinstance(error, AgentError) else ""
