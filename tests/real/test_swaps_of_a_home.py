"""Folders become links while a home is copied and laid, thousands of times: nothing gets out.

In the image's home, in the stage, and in the home itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from workspace_agent.host import safe_root
from workspace_agent.host.copy import copy_tree
from workspace_agent.host.openat2 import bound
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.steps.merge import Merge

SWAPPER = str(Path(__file__).with_name("swapper.py"))
SWAPS = 10_000
TREASURE, DEFAULT = b"treasure", b"default"
NAMES = ("a/f", "a/b/f", "d/f", "d/in/f")


class Place:
    """A source, a target and the rest, in *folder*; each act is one round of work in them."""

    def __init__(self, folder: Path) -> None:
        self.source, self.target = folder / "source", folder / "target"
        self.state, self.outside, self.junk = folder / "state", folder / "outside", folder / "junk"
        for one in (self.source, self.target, self.outside):
            fill(one, TREASURE if one == self.outside else DEFAULT)
        self.state.mkdir()
        self.junk.mkdir()
        self.reads: set[bytes] = set()

    def copy(self, number: int) -> None:
        """Copy the source over what an earlier round left."""
        with SafeRoot.at(str(self.source)) as source, SafeRoot.at(str(self.target)) as target:
            copy_tree(source, target, threads=1 + number % 2 * 3, resume=True)

    def lay(self, number: int) -> None:
        """Lay fresh defaults over the target, as a reset does."""
        defaults = self.state / f"defaults{number}"
        fill(defaults, b"%d" % number)
        with (
            SafeRoot.at(str(self.state)) as state,
            SafeRoot.at(str(defaults)) as source,
            SafeRoot.at(str(self.target)) as target,
        ):
            Merge(state, f"backup/{number}", "beside", reset=bool(number % 3)).lay(source, target)

    def look(self) -> None:
        """Remember what came into the target, and into the backup."""
        for top in (self.target, self.state):
            for folder, _, names in os.walk(top):
                here = Path(folder)
                self.reads |= {(here / n).read_bytes() for n in names if n == "f"}


def fill(folder: Path, content: bytes) -> None:
    """Make the files of NAMES."""
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("way", ["openat2", "fallback"])
@pytest.mark.parametrize(
    ("act", "swapped"), [("copy", "source"), ("copy", "target"), ("lay", "target")]
)
def test_ten_thousand_swaps_lead_nowhere(
    tmp_path: Path, tree: Callable, monkeypatch, way: str, act: str, swapped: str
) -> None:
    call = bound() if way == "openat2" else None
    if way == "openat2" and call is None:
        pytest.skip("this kernel has no openat2")
    monkeypatch.setattr(safe_root, "_call", [call])
    place = Place(tmp_path)
    at = getattr(place, swapped)
    for link in ("l", "l2"):
        (at / link).symlink_to(place.outside)
    before = tree(place.outside, times=True)
    ends: Counter[bool] = Counter()
    argv = [sys.executable, SWAPPER, str(place.outside), str(place.junk)]
    argv += [f"{at}/{name}" for name in ("a", "l", "d", "l2")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, **pipes) as swapper:
        for number in range(600):
            if act == "copy":
                _age(place, number)
            try:
                getattr(place, act)(number)
            except OSError:
                ends[False] += 1
            else:
                ends[True] += 1
        swaps = sum(map(int, swapper.communicate()[0].split()))
    place.look()

    assert before == tree(place.outside, times=True)
    assert TREASURE not in place.reads
    assert swaps >= SWAPS
    assert ends[True] > 0
    assert ends[False] > 0 or (act, swapped) != ("copy", "target")


def _age(place: Place, number: int) -> None:
    """Give the files of the source a new time, so that every one is copied again."""
    with SafeRoot.at(str(place.source)) as source:
        for name in NAMES:
            above, _, last = name.rpartition("/")
            with suppress(OSError), source.folder(above) as folder:
                os.utime(last, (number, number), dir_fd=folder.fd, follow_symlinks=False)
