"""Measure and print the table of bench/checkpoint."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

HERE = Path(__file__).parent
HARNESS = HERE.parent / "tests/container/harness"
LEAST = ("--cap-add=CHECKPOINT_RESTORE,SYS_PTRACE", "--security-opt=seccomp=unconfined")
IMAGE, WITH_MODEL = "localhost/bench-checkpoint:placeholder", "localhost/bench-checkpoint:model"
MODEL = f"""ARG BASE_IMAGE={IMAGE}
FROM {IMAGE}
RUN python3 -m pip install -q --break-system-packages --root-user-action ignore scikit-learn
"""


class Bench:
    """The placeholder image, a folder for volumes, and the size of the parts."""

    def __init__(self, wish: argparse.Namespace, scratch: Path) -> None:
        self.wish, self.scratch = wish, scratch
        base = self._call("base-image", "--packages", "ca-certificates,python3,python3-pip")
        self._call("build-image", "--base", base, "--build-arg", f"CRIU_BASE={base}", "-f",
                   str(HERE.parent / "Dockerfile.placeholder"), "--target", "superset", "-t", IMAGE,
                   str(HERE.parent))  # fmt: skip

    def with_model(self) -> str:
        path = self.scratch / "Dockerfile"
        path.write_text(MODEL)
        self._call("build-image", "--base", IMAGE, "-f", str(path), "-t", WITH_MODEL,
                   str(self.scratch))  # fmt: skip
        return WITH_MODEL

    def measured(self, part: str, size: int = 0, image: str = IMAGE) -> dict[str, float]:
        """Measure a part in a fresh container with a fresh volume."""
        name = f"bench-checkpoint-{uuid.uuid4().hex[:8]}"
        volume = self.scratch / name
        volume.mkdir()
        mounts = (f"--volume={volume}:/workspace", f"--volume={HERE}:/bench:ro",
                  "--volume=/proc/sys/vm/drop_caches:/drop_caches")  # fmt: skip
        words = (
            "--rm",
            "--name",
            name,
            *LEAST,
            *mounts,
            "--tmpfs=/run",
            "--entrypoint=python3",
            image,
            "/bench/checkpoint_driver.py",
            part,
            str(self.wish.rounds),
            str(size),
        )
        try:
            found = json.loads(self._call("podman", "run", *words))
        finally:
            subprocess.run(["rm", "-rf", volume], check=False)
        print(f"  {part} {size}: {found}", file=sys.stderr)
        return found

    def _call(self, name: str, *words: str) -> str:
        done = subprocess.run([HARNESS / name, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
        return done.stdout.strip()


def row(what: str, measured: str, ratio: float, bar: float, least: bool = False) -> str:
    holds = ratio >= bar if least else ratio <= bar
    sign = ">=" if least else "<="
    return f"| {what} | {measured} | {ratio:.2f} | {sign} {bar:g} | {'' if holds else 'missed'} |"


def carry(bench: Bench) -> list[str]:
    rows = []
    for what, size in (
        ("20,000 small files", 0),
        ("2 GB in one file", 512 if bench.wish.quick else 2048),
    ):
        found = bench.measured("carry", size)
        for ours, tar, verb in (("pack", "tar c", "packed"), ("unpack", "tar x", "unpacked")):
            said = f"{found[ours]:.2f} s, tar {found[tar]:.2f} s"
            rows.append(row(f"{what}, {verb}", said, found[f"{ours} ratio"], 1.5))
    return rows


def dump(bench: Bench) -> list[str]:
    rows = []
    for size in (200, 1024):
        found = bench.measured("dump", size)
        said = (f"{found['ours']:.2f} s, frozen {found['ours frozen']:.2f}; CRIU alone"
                f" {found['bare']:.2f} s, frozen {found['bare frozen']:.2f}")  # fmt: skip
        rows.append(row(f"dump of {size} MB, with digests", said, found["ratio"], 1.15))
    return rows


def restore(bench: Bench) -> list[str]:
    rows = []
    for size in (200, 1024):
        found = bench.measured("restore", size)
        said = f"{found['ours']:.2f} s, CRIU alone {found['bare']:.2f} s"
        rows.append(row(f"restore of {size} MB, verified", said, found["ratio"], 1.15))
    return rows


def cold(bench: Bench) -> list[str]:
    size = 1024 if bench.wish.quick else 4096
    found = bench.measured("cold", size)
    said = f"{found['ours']:.2f} s, CRIU alone {found['bare']:.2f} s"
    return [row(f"the same of {size} MB that are not in memory", said, found["ratio"], 0.5)]


def start(bench: Bench) -> list[str]:
    found = bench.measured("start", image=bench.with_model())
    said = f"cold start {found['cold']:.2f} s, restore {found['ours']:.2f} s"
    return [row("scikit-learn with a model that it built", said, found["ratio"], 5, least=True)]


PARTS = {"carry": carry, "dump": dump, "restore": restore, "cold": cold, "start": start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="one round, and less")
    add("--rounds", type=int, help="5, or 1 when quick")
    add("--only", choices=PARTS, help="one part")
    add("--scratch", help="where the volume is")
    wish = parser.parse_args()
    wish.rounds = wish.rounds or (1 if wish.quick else 5)
    with tempfile.TemporaryDirectory(prefix="bench-checkpoint-", dir=wish.scratch) as scratch:
        bench = Bench(wish, Path(scratch))
        print(f"Medians of {wish.rounds} interleaved rounds.\n")
        print("| | measured | ratio | bar | |\n|---|---|---|---|---|")
        for name in [wish.only] if wish.only else PARTS:
            for line in PARTS[name](bench):
                print(line, flush=True)


if __name__ == "__main__":
    main()
