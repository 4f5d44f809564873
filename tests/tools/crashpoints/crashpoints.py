#!/usr/bin/env python3
"""Strike a command at every possible point and look at what it leaves: see README.md."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from faults import CHANGES, SLOWVOL, Ended, Slowvol, Strace, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from faults import Launch

# After so many violations the rest would say the same.
ENOUGH = 10


@dataclass(frozen=True)
class Case:
    """What is tried: *check* is given the phase and how the command ended, and says what is wrong.

    Phases are `crashed`, `crashed twice` and `recovered`: a run that was not struck and must end
    with 0.
    """

    reset: Callable[[], None]
    launch: Launch
    check: Callable[[str, Ended], str]


@dataclass
class Tally:
    """What a sweep found; *points* is how many there are, *scenarios* how many were tried."""

    points: int = 0
    scenarios: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{self.points} points, {self.scenarios} scenarios"
        return "\n  ".join([f"{counts}, {len(self.violations)} violations", *self.violations])


def sweep(
    case: Case, fault: Slowvol | Strace, *, share: slice = slice(None), twice: int = 0
) -> Tally:
    """Strike *case* at a *share* of its points, and each recovery at *twice* points more."""
    case.reset()
    clean = fault.run(case.launch)
    if wrong := _recovered(case, clean):
        raise SystemExit(f"without any fault: {wrong}")
    tally = Tally(len(clean.points))
    for at in clean.points[share]:
        left = _scenario(case, fault, tally, at, None)
        for number in range(twice if left else 0):
            spread = (len(left) * number // twice + tally.scenarios) % len(left)
            _scenario(case, fault, tally, at, left[spread])
        if len(tally.violations) >= ENOUGH:
            break
    return tally


def _scenario(
    case: Case, fault: Slowvol | Strace, tally: Tally, at: object, again: object
) -> Sequence[object]:
    """Return the points of the recovery; none when the command did not come to *at*."""
    case.reset()
    ended = fault.run(case.launch, at)
    if not ended.hit:
        return ()
    wrong = _said("crashed", case.check("crashed", ended))
    if again is not None and not wrong:
        ended = fault.run(case.launch, again)
        wrong = _said("crashed twice", case.check("crashed twice", ended))
    tally.scenarios += ended.hit
    ended = fault.run(case.launch)
    if wrong := wrong or _recovered(case, ended):
        tally.violations.append(f"struck at {at}, then {again}: {wrong}")
    return ended.points


def _recovered(case: Case, ended: Ended) -> str:
    if ended.code != 0:
        return f"[recovery] ended with {ended.code}: {ended.out[-500:].strip()}"
    return _said("recovered", case.check("recovered", ended))


def _said(phase: str, wrong: str) -> str:
    return wrong and f"[{phase}] {wrong}"


def main() -> int:
    """Run the sweep that the command line asks for; 1 when there were violations."""
    wish = _parser().parse_args()
    work = tempfile.mkdtemp(prefix="crashpoints-", dir=wish.scratch)
    env = {**os.environ, "W": work, "VOL": f"{work}/vol", "BACK": f"{work}/back"}
    fault: Slowvol | Strace = Strace(f"{work}/.strace", wish.calls, wish.err)
    if wish.backend == "slowvol":
        subprocess.run([SLOWVOL, "up", env["BACK"], env["VOL"], "timeout=0"], check=True)
        fault = Slowvol(env["VOL"], wish.err, wish.op, wish.stays)

    def shell(text: str, before: Sequence[str] = (), **more: str) -> Ended:
        return execute([*before, "bash", "-c", text], {**env, **more}, wish.timeout)

    def reset() -> None:
        if (ended := shell(wish.reset)).code:
            raise SystemExit(f"reset ended with {ended.code}: {ended.out[-500:]}")

    def check(phase: str, ended: Ended) -> str:
        found = shell(wish.check, CP_PHASE=phase, CP_RC=str(ended.code))
        return found.code and f"{found.out[-500:].strip()} ({found.code})"

    try:
        case = Case(reset, partial(shell, wish.run), check)
        first = (wish.only or wish.start) - 1
        share = slice(first, wish.only, wish.every)
        tally = sweep(case, fault, share=share, twice=wish.twice)
    finally:
        if wish.backend == "slowvol":
            subprocess.run([SLOWVOL, "down", env["VOL"]], check=False)
        shutil.rmtree(work, ignore_errors=True)
    print(tally)
    return 1 if tally.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    for name in ("--reset", "--run", "--check"):
        add(name, required=True, metavar="TEXT", help="shell text")
    add("--backend", choices=("strace", "slowvol"), default="strace")
    add("--calls", default=CHANGES, help="strace: which calls count")
    add("--err", default="", metavar="ERRNO", help="let the call fail with ERRNO, kill nobody")
    add("--op", default="change", help="slowvol, with --err: which requests count")
    add("--stays", action="store_true", help="slowvol, with --err: every later one fails as well")
    add("--twice", type=int, default=0, metavar="K", help="strike each recovery at K points, too")
    add("--start", type=int, default=1, metavar="N")
    add("--every", type=int, default=1, metavar="S", help="only each S-th point")
    add("--only", type=int, metavar="N", help="the N-th point alone")
    add("--timeout", type=float, default=60.0, metavar="SECONDS", help="of one run")
    add("--scratch", metavar="FOLDER", help="where to work")
    return parser


if __name__ == "__main__":
    sys.exit(main())
