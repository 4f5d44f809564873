"""A first copy that takes too long: the workload starts with the image's home, the copy goes on.

Most images have a home of a few files. One of a million on a far volume takes an hour, and no
pod is held up for that.
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

# The step that may be late, and what only makes sense when it was not.
_STEP = "home.seed"


class Late:
    """Calls *go_on* with a report that lacks the home, once the home has taken *wait* seconds.

    *wait* of 0 is for ever. `tell` goes to the step, and *go_on* runs inside it.
    """

    def __init__(
        self,
        wait: float,
        before: Report,
        go_on: Callable[[Report], Report],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
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
                row = Row(_STEP, Status.BLOCKED, "not yet", self._wait, (), self._problem())
                rows = (*self._before.rows, row)
                self._interim = self._go_on(replace(self._before, rows=rows))

        return heard

    def _is_time(self) -> bool:
        waits = self._wait and self._step == _STEP and not self.struck
        return bool(waits) and self._clock() - self._began > self._wait

    def _take(self) -> bool:
        try:
            return self._chance.pop()
        except IndexError:
            return False

    def wanted(self, name: str) -> bool:
        """Say whether the step *name* still makes sense: nothing leads to a home that is late."""
        return name == _STEP or not self.struck

    def whole(self, found: Report) -> Report:
        """Return the report of the boot, with what became of the home in *found*."""
        assert self._interim is not None
        (row,) = [row for row in found.rows if row.name == _STEP]
        row = replace(row, problem=row.problem or self._problem())
        rows = tuple(row if old.name == _STEP else old for old in self._interim.rows)
        return replace(self._interim, rows=rows, secs=found.secs)

    def _problem(self) -> Problem:
        return Problem(
            "home.late",
            "the home is still being copied: this boot works in the image's home",
            f"the first copy took longer than {duration(self._wait)} (`home.wait`)",
            "what is written to the image's home ends with the pod: restart it when"
            " `workspace-agent home status` shows the home",
        )
