"""A step that takes too long: the workload starts without it, and it goes on beside that.

Most images have a home of a few files, and most workspaces a few packages. A home of a million
files on a far volume takes an hour, and no pod is held up for that.
"""

from __future__ import annotations

import time
from dataclasses import replace

from workspace_agent.model.outcome import Report, Row, Status
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Late:
    """Calls *go_on* with a report that lacks *step*, once that has taken *wait* seconds.

    *wait* of 0 is for ever. `tell` goes to the step, and *go_on* runs inside it. *problem* says
    that it is late.
    """

    def __init__(
        self,
        step: str,
        problem: Problem,
        wait: float,
        before: Report,
        go_on: Callable[[Report], Report],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._problem = step, problem
        self._wait, self._before, self._go_on, self._clock = wait, before, go_on, clock
        self._began = clock()
        self._interim: Report | None = None
        self._step = ""
        self._chance = [True]  # taken by one: a thread that ticks may look at the clock as well
        self.struck = False

    def before(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """Return *tell*, which from now on also looks at the clock."""

        def heard(text: str) -> None:
            tell(text)
            if text.startswith("apply "):  # said by app/boot before each step
                self._step = text[6:]
            if self._is_time() and self._take():
                self.struck = True
                row = Row(self._name, Status.BLOCKED, "not yet", self._wait, (), self._problem)
                rows = (*self._before.rows, row)
                self._interim = self._go_on(replace(self._before, rows=rows))

        return heard

    def _is_time(self) -> bool:
        waits = self._wait and self._step == self._name and not self.struck
        return bool(waits) and self._clock() - self._began > self._wait

    def _take(self) -> bool:
        try:
            return self._chance.pop()
        except IndexError:
            return False

    def wanted(self, name: str) -> bool:
        """Say whether the step *name* still makes sense: nothing leads to a home that is late."""
        return name == self._name or not self.struck

    def whole(self, found: Report) -> Report:
        """Return the report of the boot, with what became of the home in *found*."""
        assert self._interim is not None
        (row,) = [row for row in found.rows if row.name == self._name]
        row = replace(row, problem=row.problem or self._problem)
        rows = tuple(row if old.name == self._name else old for old in self._interim.rows)
        return replace(self._interim, rows=rows, secs=found.secs)


def home(wait: float) -> Problem:
    """Say that the first copy of the home goes on."""
    return Problem(
        "home.late",
        "the home is still being copied: this boot works in the image's home",
        f"the first copy took longer than {duration(wait)} (`home.wait`)",
        "what is written to the image's home ends with the pod: restart it when"
        " `workspace-agent home status` shows the home",
    )


def packages(wait: float) -> Problem:
    """Say that the packages are still on their way."""
    return Problem(
        "replay.late",
        "the packages are still on their way: this boot has those of the last good environment",
        f"they took longer than {duration(wait)} (`replay.wait`)",
        "programs started after they are there see them: `workspace-agent replay status`",
    )
