"""One boot's work on packages, in a process of its own: build, store, restore or check.

python replay_once.py build|restore|check VOLUME PLACE PYTHON FILE [memory]
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from workspace_agent.host import interpreter
from workspace_agent.replay import place
from workspace_agent.replay.asked import Asked
from workspace_agent.replay.key import Policy
from workspace_agent.replay.step import Replay


def main(what: str, volume: str, top: str, python: str, file: str, memory: str = "") -> None:
    """Do it, and print one JSON object."""
    if not memory:
        place.has_memory = lambda _: False  # the disk is what is measured
    step = Replay(
        asked=Asked((file,), "requirements.txt"),
        place=place.Place(top),
        volume=volume,
        python=interpreter.find(os.path.dirname(python)),
        policy=Policy(),
        env=dict(os.environ),
        logs=f"{top}/logs",
        boot_id=os.urandom(6).hex(),
    )
    if what != "check":
        shutil.rmtree(top, ignore_errors=True)
    began = time.perf_counter()
    step.check()
    if what != "check":
        step.apply(lambda _: None)
    secs = time.perf_counter() - began
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    began = time.perf_counter()
    problem = step.settle() if what == "build" else None
    mark = step.place.in_use()
    print(json.dumps({
        "secs": secs, "cpu": cpu, "settle": time.perf_counter() - began,
        "problem": problem and problem.what, "packages": len(mark.dists) if mark else 0,
    }))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
