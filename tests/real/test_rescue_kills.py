"""A saver is killed at any instant: what it told is there, and nothing is there in half."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rescued import RUNS, World

SEED = 20261121
WORKER = Path(__file__).parent / "rescue_worker.py"


def check(world: World, told: dict[str, int]) -> int:
    """Compare every line with its bytes, and what was told with the lines."""
    saved = world.chain().saved
    for path, line in saved.items():
        data = world.bytes(path)
        assert data is not None
        assert (line.size, len(set(data)) <= 1) == (len(data), True), f"half a file: {path}"
        if line.stored:
            assert line.sha256 == hashlib.sha256(data).hexdigest()
            assert {line.mtime_ns % 256} == set(data), path
    for path, turn in told.items():
        assert saved[path].mtime_ns >= turn, path
    return len(saved)


@pytest.mark.parametrize("count", [6, pytest.param(30, marks=pytest.mark.long)])
def test_killed_at_a_random_instant_all_that_was_told_is_there(
    tmp_path: Path, count: int, record_property: object
) -> None:
    """One volume through all the lives: a life goes on where the killed one was, or is new."""
    world, chance = World(tmp_path), random.Random(SEED)
    told: dict[str, int] = {}
    checked = 0
    for n in range(count):
        argv = [
            sys.executable,
            str(WORKER),
            str(world.top),
            str(world.volume),
            RUNS[n * 9 // count],
        ]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            first = worker.stdout.readline()
            time.sleep(chance.random() / 2)  # the instant
            worker.kill()
            seen = [first, *worker.stdout]
        for line in seen:
            if line.startswith("saved") and line.endswith("\n"):
                _, turn, *paths = line.split()
                told |= {path: int(turn) for path in paths}
        checked += check(world, {path: turn for path, turn in told.items() if turn < 256})
        told.clear()  # the next life begins to count anew
    world.dies()

    assert checked > count
    assert world.step(RUNS[8] + "x").apply(lambda _: None) is None
    for path, line in world.chain().saved.items():
        found = (Path(f"{world.top}{path}")).read_bytes()
        assert line.size == len(found)
        assert not line.stored or line.sha256 == hashlib.sha256(found).hexdigest()
    assert not [p for p in world.top.rglob("*") if p.name.endswith(".new")]
    assert os.listdir(world.top)
