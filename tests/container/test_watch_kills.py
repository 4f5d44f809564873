"""A pod that is killed at any instant: what was quiet is back in the next, and nothing is half."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from watch_tools import copied

pytestmark = pytest.mark.container

# At once; more of them would wait for one another.
PODS = 5

# A promise: what was not touched for so long is on the volume.
QUIET = 15.0


class Killed:
    """A pod that writes, until it is killed at an instant of *dice*, and what it said it wrote."""

    def __init__(self, pod, volume: Path, dice: random.Random) -> None:
        volume.mkdir()
        self.volume, self.log, self._start = volume, volume / "log", pod
        self.seed = str(dice.random())
        self.last = dice.uniform(QUIET + 5, QUIET + 25)
        words = ("python3", "/scribe.py", "write", "/workspace/log", self.seed)
        self.pod = self.started(*words)

    def started(self, *words: str):
        return self._start(*words, volume=self.volume, options=[copied("scribe.py")])

    def lines(self) -> list[list]:
        """Return what the log has; the kill may have cut its last line."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def age(self) -> float:
        lines = self.lines()
        return lines[-1][3] - lines[0][3] if lines else 0.0

    def back(self, until) -> dict[str, str]:
        """Return the files of the next pod, with their hashes."""
        self.next = self.started("python3", "/scribe.py", "read", "/workspace/back.json")
        path = self.volume / "back.json"
        until(path.exists, f"the pod after {self.seed} has its files")
        return json.loads(path.read_text())

    def quiet(self) -> dict[str, str]:
        """Return what was whole, and not touched for QUIET seconds before the last line."""
        found: dict[str, tuple[str, str, float]] = {}
        lines = self.lines()
        for what, path, digest, at in lines:
            found[path] = what, digest, at
        end = lines[-1][3]
        return {
            path: digest
            for path, (what, digest, at) in found.items()
            if what == "whole" and end - at > QUIET
        }


def test_all_that_was_quiet_comes_back_and_nothing_is_half(pod, podman, tmp_path, until) -> None:
    print("\n" + together(pod, podman, tmp_path, until, random.Random()))


@pytest.mark.long
def test_the_same_for_fifty_kills(pod, podman, tmp_path, until) -> None:
    dice = random.Random()
    for n in range(10):
        print("\n" + together(pod, podman, tmp_path / str(n), until, dice))


def together(pod, podman, folder: Path, until, dice: random.Random) -> str:
    """Kill PODS pods, each at an instant of its own, and look into those that follow."""
    folder.mkdir(exist_ok=True)
    killed = [Killed(pod, folder / f"volume-{n}", dice) for n in range(PODS)]
    for one in sorted(killed, key=lambda one: one.last):
        until(lambda one=one: one.age() >= one.last, f"{one.seed} has written for {one.last} s")
        podman("kill", "--signal=KILL", one.pod.name)
    quiet = back = 0
    for one in killed:
        found, wanted = one.back(until), one.quiet()
        assert wanted == {path: found.get(path) for path in wanted}, one.seed
        whole = {(path, digest) for _, path, digest, _ in one.lines()}
        ours = {pair for pair in found.items() if pair[0] in {path for path, _ in whole}}
        assert set() == ours - whole, f"half of a file: {one.seed}"
        assert not [path for path in found if ".rescued-" in path], one.seed
        quiet, back = quiet + len(wanted), back + len(ours)
        one.next.remove()
    assert quiet, "of five, at least one has lived long enough"
    return f"{PODS} kills: {quiet} of {quiet} quiet files back, {back} in all, none of them half"
