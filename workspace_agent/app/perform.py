"""The steps of a boot: the volume, the home, the packages, the wiring, the user's own scripts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from workspace_agent.app import attempts, back, late, replays
from workspace_agent.app.boot import (
    leads_to_packages,
    run,
    script_steps,
    wiring_steps,
    workspace_steps,
)
from workspace_agent.app.late import Late
from workspace_agent.app.recipes import bare, recipe_for
from workspace_agent.model.outcome import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.app.engine import Opening
    from workspace_agent.app.reviving import Revive
    from workspace_agent.model.outcome import Step
    from workspace_agent.model.recipe import Recipe
    from workspace_agent.replay.step import Replay


class Performance:
    """One boot from its *opening*; *wired* hears of it before the user's own scripts run.

    With *hurry*, a home, or packages, that take longer than the profile waits are made beside the
    workload, and *hurry* hears of a boot without them. `recipe` is that of the workload, `packages`
    the step that brings them back, once there is one; `restored` is the workload's process, if an
    earlier container froze it, and *revive* finds the step for that.
    """

    def __init__(
        self,
        opening: Opening,
        *,
        dry_run: bool = False,
        tell: Callable[[str], None] = lambda _: None,
        keep: Callable[[str], bool] = lambda _: True,
        wired: Callable[[Report, Recipe], None] = lambda *_: None,
        hurry: Callable[[Report, Recipe], None] | None = None,
        revive: Callable[[Recipe], Revive | None] = lambda _: None,
    ) -> None:
        self._opening, self._dry_run, self._keep = opening, dry_run, keep
        self._wired, self._hurry, self._revive = wired, hurry, revive
        self.restored = 0
        idle = dry_run or opening.trouble is not None  # a volume in trouble is not even looked at
        where = partial(attempts.folder, opening.facts)
        self._log = attempts.Log(lambda: "" if idle else where(), opening.facts.boot_id)
        self._tell = self._log.before(tell)
        self.recipe = bare(opening.profile, opening.facts)
        self.packages: Replay | None = None

    def all(self) -> Report:
        """Run every step; returns their report."""
        try:
            report = self._workspace()
        except SystemExit:
            self._log.dropped()
            raise
        self._log.done()
        return report

    def _workspace(self) -> Report:
        opening = self._opening
        ready, *others = workspace_steps(
            opening.profile, opening.facts, opening.trouble, self._tell
        )
        report = self._go([ready], Report(notes=opening.notes), self._tell)
        wait = opening.profile.home.wait if self._hurry else 0
        home = Late("home.seed", late.home(wait), wait, report, self._without(self._packages))
        report = self._go(others, report, home.before(self._tell), home.wanted)
        return home.whole(report) if home.struck else self._packages(report)

    def _packages(self, report: Report) -> Report:
        """Bring the packages back, and then do the rest, which does not wait for ever."""
        opening = self._opening
        profile, facts = opening.profile, opening.facts
        self.recipe, left_out = recipe_for(profile, facts, report)
        notes = [*report.notes, *left_out]
        step: Step | None = None
        if opening.trouble is None:
            if not self._dry_run:
                replays.relock(profile, facts)
            step = replays.step_of(profile, facts, self.recipe, notes.append)
            self.packages = replays.kept(step)
        report = replace(report, notes=tuple(notes))
        if step is None:
            return self._rest(report)
        wait = profile.replay.wait if self._hurry else 0
        packages = Late(step.name, late.packages(wait), wait, report, self._without(self._rest))
        report = self._go([step], report, packages.before(self._tell))
        return packages.whole(report) if packages.struck else self._rest(report)

    def _rest(self, report: Report) -> Report:
        """Wire it all, put back what was outside, and run the user's own scripts."""
        profile, facts = self._opening.profile, self._opening.facts
        if self.packages and not self._dry_run:
            self.packages.stopgap(self._tell)
        has_line = leads_to_packages(facts, self.recipe)
        self.recipe = replays.wired(self.recipe, self.packages, has_line)
        steps = (*wiring_steps(profile, facts, self.recipe), *replays.kernel(facts, self.packages))
        report = self._revived(self._go(steps, report, self._tell))
        # Who goes on has the files of that moment; what was kept of later ones waits.
        return self._scripts(report) if self.restored else self._back(report)

    def _revived(self, report: Report) -> Report:
        """Go on with a frozen workload, if there is one; the rest of the boot is beside it then."""
        idle = self._opening.trouble is not None or self._dry_run
        step = None if idle else self._revive(self.recipe)
        if step is None:
            return report
        report = self._go([step], report, self._tell)
        self.restored = step.pid
        if self.restored and self._hurry:
            self._hurry(report, self.recipe)
            step.keep()
        return report

    def _back(self, report: Report) -> Report:
        """Put back what earlier containers had outside the volume, which does not wait for ever."""
        profile, facts = self._opening.profile, self._opening.facts
        idle = self._opening.trouble is not None
        step = None if idle else back.step_of(profile, facts, dry_run=self._dry_run)
        if step is None:
            return self._scripts(report)
        wait = profile.rescue.wait if self._hurry else 0
        files = Late(step.name, back.late(wait), wait, report, self._without(self._scripts))
        report = self._go([step], report, files.before(self._tell))
        return files.whole(report) if files.struck else self._scripts(report)

    def _scripts(self, report: Report) -> Report:
        self._wired(report, self.recipe)
        steps = script_steps(self._opening.profile, self._opening.facts, self.recipe)
        return self._go(steps, report, self._tell)

    def _without(self, then: Callable[[Report], Report]) -> Callable[[Report], Report]:
        """Return *then* for a boot that goes on without what is late."""

        def go_on(report: Report) -> Report:
            report = then(report)
            if self._hurry:
                self._hurry(report, self.recipe)
            self._log.done()  # a pod that ends from here on has not died before it was ready
            return report

        return go_on

    def _go(
        self,
        steps: tuple[Step, ...] | list[Step],
        report: Report,
        tell: Callable[[str], None],
        wanted: Callable[[str], bool] = lambda _: True,
    ) -> Report:
        def keep(name: str) -> bool:
            return self._keep(name) and wanted(name)

        return run(steps, report, dry_run=self._dry_run, keep=keep, tell=tell)
