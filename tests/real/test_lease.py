"""The lease among real processes, which are killed and paused at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import state, wait_until

WORKER = str(Path(__file__).with_name("lease_worker.py"))


class Crew:
    """Workers at one lease, and what they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "state"
        self.folder.mkdir()
        self.log = folder / "log"
        self.log.write_text("")
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, how: str, ttl: float, *more: str) -> str:
        name = f"w{len(self.workers)}"
        argv = [sys.executable, WORKER, str(self.folder), str(self.log), name, str(ttl), how]
        self.workers[name] = subprocess.Popen([*argv, *more])
        return name

    def kill(self, name: str) -> None:
        """Say that *name* is about to die, and see to it."""
        with self.log.open("a") as log:
            log.write(f"{name} dies\n")
        self.workers[name].kill()
        self.workers[name].wait()

    def said(self, what: str, name: str = "") -> list[list[str]]:
        words = [line.split() for line in self.log.read_text().splitlines()]
        return [one for one in words if one[1] == what and name in ("", one[0])]

    def living(self) -> list[str]:
        return [name for name, worker in self.workers.items() if worker.poll() is None]

    def history(self) -> tuple[list[str], int]:
        """Return who took the lease while a living worker had it, and how many died with it."""
        holder, doubles, deaths = "", [], 0
        for line in self.log.read_text().splitlines():
            name, what = line.split()[:2]
            if what == "takes":
                doubles += [line] if holder else []
                holder = name
            elif what in ("gives", "dies") and name == holder:
                holder = ""
                deaths += what == "dies"
        return doubles, deaths


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    made = Crew(tmp_path)
    yield made
    for worker in made.workers.values():
        worker.kill()
        worker.wait()


@pytest.mark.parametrize(
    ("takes", "deaths", "ttl", "signs"),
    [(400, 30, 3000, ()), (60, 3, 2, ("unsigned",))],
    ids=["deaths can be proven", "only the clock tells"],
)
def test_there_is_one_holder_at_a_time_whoever_is_killed(
    crew: Crew, takes: int, deaths: int, ttl: float, signs: tuple[str, ...]
) -> None:
    for _ in range(7):
        crew.start("again", ttl, *signs)
    while crew.history()[1] < deaths or len(crew.said("takes")) < takes:
        seen = len(crew.said("takes"))
        wait_until(lambda seen=seen: len(crew.said("takes")) > seen + 3, "the next holders")
        time.sleep(random.random() / 100)  # any moment will do
        crew.kill(random.choice([crew.said("takes")[-1][0], random.choice(crew.living())]))
        crew.start("again", ttl, *signs)
    for name in crew.living():
        crew.kill(name)
    tokens = [int(words[2]) for words in crew.said("takes")]

    assert ([], []) == (crew.history()[0], crew.said("lost"))
    assert sorted(set(tokens)) == tokens


def test_after_a_death_exactly_one_takes_over(crew: Crew) -> None:
    first = crew.start("once", 3000)
    wait_until(lambda: crew.said("takes"), "the first holder")
    others = [crew.start("once", 3000) for _ in range(6)]
    wait_until(lambda: all(crew.said("waits", name) for name in others), "the others wait")
    crew.kill(first)
    wait_until(lambda: len(crew.said("takes")) > 1, "a successor")
    seen = {name: len(crew.said("waits", name)) for name in others}
    (second,) = (words[0] for words in crew.said("takes")[1:])
    rest = [name for name in others if name != second]
    wait_until(
        lambda: all(len(crew.said("waits", name)) > seen[name] + 3 for name in rest), "more looks"
    )

    assert [[first, "takes", "1"], [second, "takes", "2"]] == crew.said("takes")
    assert ["lease.2"] == sorted(n for n in os.listdir(crew.folder) if "probe" not in n)


def test_a_holder_who_was_paused_for_too_long_knows_that_he_lost_it(crew: Crew) -> None:
    paused = crew.start("hold", 1)
    wait_until(lambda: state(crew.workers[paused].pid) == "T", "the holder is paused")
    crew.start("once", 1)
    wait_until(lambda: len(crew.said("takes")) > 1, "somebody else has it")
    crew.workers[paused].send_signal(signal.SIGCONT)
    crew.workers[paused].wait()

    assert [[paused, "held", "False"]] == crew.said("held")


def test_a_holder_who_was_paused_for_a_moment_has_it_still(crew: Crew) -> None:
    paused = crew.start("hold", 30)
    wait_until(lambda: state(crew.workers[paused].pid) == "T", "the holder is paused")
    other = crew.start("once", 3000)
    wait_until(lambda: crew.said("waits", other), "somebody else wants it")
    crew.workers[paused].send_signal(signal.SIGCONT)
    crew.workers[paused].wait()

    assert [[paused, "held", "True"]] == crew.said("held")
