"""What a boot says while it works and when it is done, on stderr."""

from __future__ import annotations

import time

from workspace_agent.model.jsontext import dumps
from workspace_agent.model.outcome import Report, Status
from workspace_agent.model.words import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A warm boot is over before the first word; a long one gives a sign of life now and then.
_FIRST, _EVERY = 1.0, 10.0

# PID 1 takes silence for a hang, so it hears of progress more often than people do.
_PULSE = 0.2


class Teller:
    """Progress: a pulse for PID 1, and a line for people when a step takes long."""

    def __init__(self, pulse: Callable[[], None], say: Callable[[str], None]) -> None:
        self._pulse, self._say = pulse, say
        self._last_pulse, self._next_line = 0.0, time.monotonic() + _FIRST
        self.mute = False

    def __call__(self, text: str) -> None:
        """Hear what a step is at."""
        now = time.monotonic()
        if self.mute or now - self._last_pulse < _PULSE:
            return
        self._last_pulse = now
        try:
            self._pulse()
        except OSError:
            self.mute = True  # PID 1 has its answer and listens no more
        if now >= self._next_line:
            self._next_line = now + _EVERY
            self._say(f"working: {text}")


def announcement(environ: Mapping[str, str], report: Report, secs: float) -> list[str]:
    """Return what to say of a boot: problems in full, then one line; rows when asked for.

    With WORKSPACE_AGENT_JSON each line is an object: the rows, the problems, the sum.
    """
    if environ.get("WORKSPACE_AGENT_JSON"):
        rows = [{"kind": "step.done", **row.to_json()} for row in report.rows]
        problems = [{"kind": "problem", **problem.to_json()} for problem in report.problems]
        done = {"kind": "boot.done", "status": report.status, "secs": round(secs, 6)}
        return [dumps(one) for one in (*rows, *problems, done)]
    lines = []
    if environ.get("WORKSPACE_AGENT_VERBOSE"):
        lines += [f"{row.status.value:<13} {row.name:<14} {row.why}" for row in report.rows]
    for problem in report.problems:
        lines += problem.lines("degraded")
    if not environ.get("WORKSPACE_AGENT_QUIET") or report.problems:
        goes_on = [row.why for row in report.rows if row.name == "checkpoint.restore"
                   and row.status is Status.CHANGED]  # fmt: skip
        ready = f"workspace ready in {duration(secs)} ({counts(report)})"
        lines.append("; ".join([ready, *goes_on]))
    return lines


def counts(report: Report) -> str:
    """Return `2 changed, 3 ok, 1 skipped`, without what did not happen."""
    order = (Status.FAILED, Status.BLOCKED, Status.WOULD_CHANGE, Status.CHANGED, Status.OK,
             Status.SKIPPED)  # fmt: skip
    words = [f"{report.count(status)} {status.value}" for status in order if report.count(status)]
    return ", ".join(words) or "nothing to do"
