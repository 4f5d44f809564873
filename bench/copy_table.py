"""Measure and print the table of bench/copy."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from copy_engines import OURS, copy, engines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copy_engines import Sample

TOOLS = Path(__file__).parents[1] / "tests/tools"
SLOWVOL = str(TOOLS / "slowvol/slowvol.sh")

# No calls of their own on NFS.
FREE = ("flush", "release", "lseek", "opendir")

HEAD = """\
Medians of {rounds} interleaved rounds, on the disk of three times as many; "at least" and "at most" are what this project promises.

| volume | by | seconds | times as fast as cp -r | as cp -a | CPU, times cp -r's | requests an object | threads |
|---|---|---|---|---|---|---|---|"""  # noqa: E501


@dataclass(frozen=True)
class Volume:
    """A tree of *kind* with *amount*, copied to a disk, with *delay* ms a request, or to *at*.

    *bars* are promises for our row: column -> the least, or where it starts with `-` the most.
    """

    name: str
    kind: str
    amount: int
    bars: dict[str, float]
    delay: int = 0
    at: str = ""
    peers: tuple[str, ...] = ("cp -r", "cp -a", "rsync -a", "tar")


def volumes(quick: bool) -> list[Volume]:
    """Return what is measured; a slow peer is left out where it would take half an hour."""
    cp = ("cp -r", "cp -a")
    small, large = (400, 60) if quick else (2_000, 400)
    return [
        Volume(f"1 ms, {small} files", "small", small, {"r": 6, "a": 10, "-requests": 4.2}, 1),
        Volume(
            f"5 ms, {small} files", "small", small, {"r": 8, "a": 14, "-requests": 4.2}, 5, peers=cp
        ),
        Volume(f"1 ms, {small // 2} files in one folder", "flat", small // 2, {"r": 1.6}, 1),
        Volume(f"1 ms, 3 files of {large} MiB", "big", large, {"r": 2.5}, 1, peers=cp),
        Volume(f"disk, {small * 5} files", "small", small * 5, {"r": 0.85, "-cpu": 1.25}),
        Volume(f"disk, 3 files of {large} MiB", "big", large, {"r": 0.95}),
    ]


def main() -> None:
    wish = arguments()
    print(HEAD.format(rounds=wish.rounds), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-copy-", dir=wish.scratch) as scratch:
        given = Volume(wish.at, "small", wish.files, {"r": 6, "a": 9}, at=wish.at)
        for volume in [given] if wish.at else volumes(wish.quick):
            if wish.only in volume.name:
                rows(volume, measured(volume, Path(scratch), wish.rounds))
    if wish.memory:
        with tempfile.TemporaryDirectory(prefix="bench-copy-", dir=wish.tmpfs) as scratch:
            memory(wish.memory, Path(scratch))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/copy", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="small trees, one round, no memory line")
    add("--rounds", type=int, help="3, or 1 when quick")
    add("--only", default="", metavar="TEXT", help="volumes whose name contains TEXT")
    add("--at", metavar="FOLDER", help="measure this volume, such as an NFS mount, and no other")
    add("--files", type=int, default=1_500, help="how many to copy to it")
    add("--memory", type=int, metavar="FILES", help="copy that many; 200000, or 0 when quick")
    add("--scratch", metavar="FOLDER", help="on the disk to measure")
    add("--tmpfs", default="/dev/shm", metavar="FOLDER", help="where the many files go")
    wish = parser.parse_args()
    wish.rounds = wish.rounds or (1 if wish.quick else 3)
    if wish.memory is None:
        wish.memory = 0 if wish.quick or wish.only or wish.at else 200_000
    return wish


def measured(volume: Volume, scratch: Path, rounds: int) -> dict[str, list[Sample]]:
    """Copy *rounds* times by each engine in turn, always into a new folder.

    A disk is quick and its figures scatter: there are three times as many rounds there, the first
    engine is always another, and a first copy that nobody counts has the memory made.
    """
    source = scratch / "source"
    maker = [sys.executable, str(TOOLS / "mktree.py")]
    subprocess.run([*maker, volume.kind, source, str(volume.amount)], check=True)
    objects = sum(1 for _ in source.rglob("*")) + 1
    samples: dict[str, list[Sample]] = {name: [] for name in engines(volume.peers)}
    local = not volume.delay and not volume.at
    with mounted(volume, scratch) as (mount, back):
        for number in range(-1 if local else 0, rounds * 3 if local else rounds):
            order = list(samples) if number >= 0 else ["cp -r"]
            for name in order[number % len(order) :] + order[: number % len(order)]:
                below = f"{name.replace(' ', '')}-{number}"
                (back / below).mkdir()
                tell(volume, mount, "reset")
                sample = copy(name, source, mount / below, in_kernel=not volume.delay)
                if volume.delay:
                    ops = json.loads((mount / ".slowvol").read_text())["ops"]
                    asked = sum(count for op, count in ops.items() if op not in FREE)
                    sample["requests"] = asked / objects
                if number >= 0:
                    samples[name].append(sample)
                shutil.rmtree(back / below)
    shutil.rmtree(source)
    return samples


@contextmanager
def mounted(volume: Volume, scratch: Path) -> Iterator[tuple[Path, Path]]:
    """Give the folder to copy to, and the one behind it: the same on a disk."""
    back, mount = Path(volume.at) if volume.at else scratch / "back", scratch / "mount"
    back.mkdir(exist_ok=True)
    if not volume.delay:
        yield back, back
        return
    subprocess.run([SLOWVOL, "up", back, mount, f"lat={volume.delay}"], check=True)
    try:
        yield mount, back
    finally:
        subprocess.run([SLOWVOL, "down", mount], check=True)


def tell(volume: Volume, mount: Path, command: str) -> None:
    if volume.delay:
        (mount / ".slowvol").write_text(command)


def rows(volume: Volume, samples: dict[str, list[Sample]]) -> None:
    """Print the rows of *volume*, ours with what was promised."""
    middle = {
        name: {key: statistics.median(sample[key] for sample in several) for key in several[0]}
        for name, several in samples.items()
    }
    for name, own in middle.items():
        figures = {
            "r": middle["cp -r"]["wall"] / own["wall"],
            "a": middle["cp -a"]["wall"] / own["wall"],
            "cpu": own["cpu"] / max(middle["cp -r"]["cpu"], 0.01),
            "requests": own.get("requests", 0.0),
        }
        bars = volume.bars if name == OURS else {}
        cells = [beside(figures[key], key, bars) for key in ("r", "a", "cpu", "requests")]
        threads = f"{own['threads']:.0f}" if name == OURS else ""
        print("|", " | ".join([volume.name, name, f"{own['wall']:.2f}", *cells, threads]), "|",
              flush=True)  # fmt: skip


def beside(figure: float, key: str, bars: dict[str, float]) -> str:
    """Return *figure* with the bar that it has to keep."""
    text = f"{figure:.2f}" if figure else ""
    if key in bars:
        missed = " MISSED" if figure < bars[key] else ""
        return f"{text} (at least {bars[key]:g}){missed}"
    if f"-{key}" in bars:
        missed = " MISSED" if figure > bars[f"-{key}"] else ""
        return f"{text} (at most {bars[f'-{key}']:g}){missed}"
    return text


def memory(amount: int, scratch: Path) -> None:
    """Copy *amount* files of one byte and say what the process kept at the most."""
    for number in range(amount):
        if number % 500 == 0:
            folder = scratch / f"source/{number // 50_000}/{number // 500}"
            folder.mkdir(parents=True)
        (folder / str(number)).write_bytes(b"x")
    (scratch / "target").mkdir()
    own = copy(OURS, scratch / "source", scratch / "target", in_kernel=True)
    print(f"\n{amount} files on a tmpfs: {own['most']:.0f} MiB at the most, {own['before']:.0f} of"
          f" them before the copy; {own['wall']:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
