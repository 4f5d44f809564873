"""Measure and print the table of bench/replay."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Note = Callable[[str, dict[str, Any]], None]

HERE = Path(__file__).parent
SLOWVOL = str(HERE.parent / "tests/tools/slowvol/slowvol.sh")

# Eight that a notebook pod has; some 130 with what they need.
SET = [
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "transformers",
    "jupyterlab",
    "fastapi",
]
QUICK = ["rich", "httpx", "fastapi"]
IMPORTS = "import pandas, sklearn, matplotlib.pyplot"

# Not asked of the volume on NFS.
FREE = ("flush", "release", "lseek", "opendir")


class Bench:
    """One set of packages, one interpreter, one volume."""

    def __init__(self, wish: argparse.Namespace, scratch: Path, memory: Path) -> None:
        self.wish, self.scratch, self.memory = wish, scratch, memory
        self.base = scratch / "base"
        subprocess.run([sys.executable, "-m", "venv", self.base], check=True)
        self.python = str(self.base / "bin/python3")
        self.back, self.mount = scratch / "back", scratch / "mount"
        self.back.mkdir()
        self.file = self.back / "requirements.txt"
        self.file.write_text("\n".join(QUICK if wish.quick else SET) + "\n")

    @contextmanager
    def volume(self) -> Iterator[Path]:
        """Mount the volume anew, as a fresh container does."""
        subprocess.run(
            [SLOWVOL, "up", self.back, self.mount, f"lat={self.wish.delay}"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield self.mount
        finally:
            subprocess.run([SLOWVOL, "down", self.mount], check=True, stdout=subprocess.DEVNULL)

    def ours(self, what: str, on: str) -> dict[str, Any]:
        """Do *what* in a process of its own, with the environments on the disk or in memory."""
        top = (self.memory if on == "tmpfs" else self.scratch) / "place"
        with self.volume() as mount:
            argv = [sys.executable, str(HERE / "replay_once.py"), what, str(mount), str(top),
                    self.python, str(mount / self.file.name)]  # fmt: skip
            done = subprocess.run(argv, check=True, capture_output=True, text=True)
            ops = json.loads((mount / ".slowvol").read_text())["ops"]
        asked = sum(count for op, count in ops.items() if op not in FREE)
        return {**json.loads(done.stdout), "requests": asked, "at": top}

    def peer(self, install: list[str], on: str, file: Path) -> dict[str, Any]:
        """Install by *install* into a new environment, nothing cached."""
        at = (self.memory if on == "tmpfs" else self.scratch) / "peer"
        shutil.rmtree(at, ignore_errors=True)
        cache = at / "cache"
        env = {**os.environ, "UV_CACHE_DIR": str(cache), "PIP_NO_CACHE_DIR": "1"}
        subprocess.run([self.python, "-m", "venv", "--without-pip", at / "env"], check=True)
        argv = [one.replace("{env}", str(at / "env")) for one in install]
        before, began = os.times(), time.perf_counter()
        done = subprocess.run(
            [*argv, "-r", str(file)], env=env, capture_output=True, text=True, check=False
        )
        secs, after = time.perf_counter() - began, os.times()
        if done.returncode:
            sys.exit(done.stderr)
        cpu = after.children_user + after.children_system
        return {
            "secs": secs,
            "cpu": cpu - before.children_user - before.children_system,
            "at": at,
        }

    def imports(self, env: Path) -> float:
        """Return the seconds of the first import, in a process of its own."""
        began = time.perf_counter()
        what = "import httpx, fastapi" if self.wish.quick else IMPORTS
        subprocess.run([env / "bin/python", "-I", "-c", what], check=True)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/replay", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="three small packages, one round")
    add("--rounds", type=int, help="3, or 1 when quick")
    add("--delay", type=int, default=1, help="ms a request to the volume takes")
    add("--disk", metavar="FOLDER", help="on the disk to measure")
    add("--memory", metavar="FOLDER", default="/dev/shm", help="on a tmpfs")
    wish = parser.parse_args()
    wish.rounds = wish.rounds or (1 if wish.quick else 3)
    with (
        tempfile.TemporaryDirectory(prefix="bench-replay-", dir=wish.disk) as scratch,
        tempfile.TemporaryDirectory(prefix="bench-replay-", dir=wish.memory) as memory,
    ):
        report(*measured(Bench(wish, Path(scratch), Path(memory))))


def measured(bench: Bench) -> tuple[Bench, dict[str, list[dict[str, Any]]]]:
    """Build and store once for each place; then each engine in turn."""
    samples: dict[str, list[dict[str, Any]]] = {}

    def note(name: str, sample: dict[str, Any]) -> None:
        samples.setdefault(name, []).append(sample)
        print(f"  {name}: {sample['secs']:.2f} s, {sample['cpu']:.1f} s of CPU", file=sys.stderr)

    for number in range(bench.wish.rounds):
        turns: list[Callable[[], None]] = []
        for on in ("tmpfs", "disk"):
            shutil.rmtree(bench.back / ".workspace-agent", ignore_errors=True)
            note(f"build, {on}", built := bench.ours("build", on))
            if built["problem"]:
                sys.exit(built["problem"])
            lock = freeze(bench, built["at"] / "env")
            restored = bench.ours("restore", on)
            note(f"restore, {on}", restored)
            note(f"check, {on}", bench.ours("check", on))
            turns += [
                partial(by_pip, bench, note, on),
                partial(by_uv, bench, note, on, lock, restored["at"] / "env"),
            ]
        for turn in turns[number % 2 :] + turns[: number % 2]:
            turn()
    return bench, samples


def freeze(bench: Bench, env: Path) -> Path:
    """Write the exact versions that an environment has: uv need not resolve then."""
    done = subprocess.run(
        ["uv", "pip", "freeze", "--python", env / "bin/python"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    path = bench.scratch / "lock.txt"
    path.write_text(done.stdout)
    return path


def by_pip(bench: Bench, note: Note, on: str) -> None:
    """Do what the scripts do that this project replaces."""
    pip = [bench.python, "-m", "pip", "--python", "{env}/bin/python", "install", "--quiet"]
    note(f"pip, {on}", bench.peer(pip, on, bench.file))


def by_uv(bench: Bench, note: Note, on: str, lock: Path, ours: Path) -> None:
    """Install the exact versions by uv, then import from there and from *ours*, in turn."""
    uv = ["uv", "pip", "install", "--quiet", "--python", "{env}/bin/python"]
    sample = bench.peer(uv, on, lock)
    theirs = sample["at"] / "env"
    bench.imports(theirs)  # leaves the bytecode there, as pip does
    bench.imports(ours)
    took = [(bench.imports(ours), bench.imports(theirs)) for _ in range(3)]
    sample["import"] = statistics.median(one / other for one, other in took)
    note(f"uv, {on}", sample)
    shutil.rmtree(ours.parent)


def report(bench: Bench, samples: dict[str, list[dict[str, Any]]]) -> None:
    """Print the tables."""

    def median(name: str, field: str = "secs") -> float:
        return statistics.median(one[field] for one in samples[name])

    print(f"Medians of {bench.wish.rounds} interleaved rounds, {bench.wish.delay} ms a request.\n")
    print("| | seconds | CPU | times pip's | times uv's |\n|---|---|---|---|---|")
    for on in ("tmpfs", "disk"):
        for name in ("restore", "build", "uv", "pip"):
            row = f"{name}, {on}"
            ratios = [median(row) / median(f"{peer}, {on}") for peer in ("pip", "uv")]
            print(
                f"| {row} | {median(row):.2f} | {median(row, 'cpu'):.1f} |"
                f" {ratios[0]:.3f} | {ratios[1]:.2f} |"
            )
    manifest = json.loads(next(bench.back.rglob("manifest.json")).read_text())
    packed = sum(part["bytes"] for part in manifest["parts"])
    restore, check = samples["restore, disk"][-1], samples["check, disk"][-1]
    allowed = packed / (128 << 10) + 200
    print(f"""
- {len(manifest["mark"]["dists"])} packages, {manifest["files"]} files, {manifest["size"] >> 20} MiB
- second boot: at most 0.1 of pip's time on tmpfs and 0.25 on a disk; 0.33 of uv's, 1.0 on a disk
- until usable at a first boot: at most 0.6 of pip's time
- on the volume: {packed / manifest["size"]:.2f} of its bytes (at most 0.35)
- requests of a restore: {restore["requests"]} (at most {allowed:.0f})
- nothing changed: {median("check, disk") * 1000:.0f} ms in process (at most 50), \
{check["requests"]} requests (at most 30)
- import after a restore, times that after uv with its bytecode made: \
{median("uv, tmpfs", "import"):.2f}, on a disk {median("uv, disk", "import"):.2f} (at most 1.1)
- storing it, beside the workload: {median("build, disk", "settle"):.0f} s""")


if __name__ == "__main__":
    main()
