"""Measure and print the table of bench/watch."""

from __future__ import annotations

import argparse
import io
import json
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
HARNESS = HERE.parent / "tests/container/harness"
PYTHON = "/opt/workspace-agent/venv/bin/python"

MANY = """
FROM {base}
RUN python3 -c "import os; [(os.makedirs(f'/opt/many/{{n // 1100}}/{{n // 11}}', exist_ok=True), \\
    open(f'/opt/many/{{n // 1100}}/{{n // 11}}/{{n}}', 'w').close()) for n in range({files})]"
"""
OFF = {"WORKSPACE_AGENT__WATCH__ENABLED": "false"}
NO_INOTIFY = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {
            "names": ["inotify_init", "inotify_init1"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 24,
        }
    ],
}


def podman(*words: str) -> str:
    done = subprocess.run([HARNESS / "podman", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"podman {' '.join(words)}: {done.stderr}")
    return done.stdout


class Bench:
    """An image with many files, and a folder for volumes."""

    def __init__(self, wish: argparse.Namespace, scratch: Path) -> None:
        self.wish, self.scratch = wish, scratch
        base = self._call("base-image", "--packages", "ca-certificates,python3,python3-pip")
        guide = (HERE.parent / "docs/guide/base-image.md").read_text()
        baked = re.search(r"^```dockerfile\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
        assert baked
        many, self.image = (f"localhost/bench-watch:{n}-{wish.files}" for n in ("many", "baked"))
        self._build(base, MANY.format(base=base, files=wish.files), many)
        self._build(many, baked[1], self.image)

    def _call(self, name: str, *words: str) -> str:
        done = subprocess.run([HARNESS / name, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout.strip()

    def _build(self, base: str, dockerfile: str, tag: str) -> None:
        path = self.scratch / "Dockerfile"
        path.write_text(dockerfile)
        self._call("build-image", "--base", base, "-f", str(path), "-t", tag, str(HERE.parent))

    @contextmanager
    def pod(self, env: dict[str, str], *options: str) -> Iterator[Callable[[str], Any]]:
        """Start a container; gives what measures a part in it."""
        name = f"bench-watch-{uuid.uuid4().hex[:8]}"
        volume = self.scratch / name
        volume.mkdir()
        tar = self.scratch / "50k.tar"
        if tar.exists():
            (volume / "50k.tar").hardlink_to(tar)
        flags = [f"--env={key}={value}" for key, value in env.items()]
        mounts = (f"--volume={volume}:/workspace", f"--volume={HERE}:/bench:ro")
        words = (*mounts, *flags, *options, self.image, "sleep", "infinity")
        podman("run", "--detach", "--name", name, *words)
        if not env:
            seen = "until [ -e /run/workspace-agent/watch.json ]; do sleep 0.1; done"
            podman("exec", name, "sh", "-c", seen)

        def measured(part: str) -> Any:
            words = (PYTHON, "-I", "/bench/watch_driver.py", part, str(self.wish.rounds))
            found = json.loads(podman("exec", name, *words))
            print(f"  {part}: {found}", file=sys.stderr)
            return found

        try:
            yield measured
        finally:
            podman("rm", "--force", "--time", "0", name)


def scan(bench: Bench) -> list[Row]:
    with bench.pod(OFF) as measured:
        found = measured("scan")
    rows = []
    for name, what, bar in (("none", "nothing", 200), ("20k", "20,000 files", 8)):
        full = found[f"{name} full"]
        for column, when in (("again", "each minute"), ("first", "the first")):
            ours = found[f"{name} {column}"]
            rows.append((f"scan of {found['image']} files and folders, {what} at risk, {when}",
                         f"{ours * 1000:.1f} ms, a full walk {full * 1000:.0f} ms",
                         f"{full / ours:.0f} times as fast", f">= {bar}",
                         full / ours >= bar))  # fmt: skip
    for column, when in (("again", "each minute"), ("first", "the first")):
        spent = found[f"20k {column} us"]
        rows.append((f"CPU for each file at risk, {when}", "", f"{spent:.1f} us", "<= 6",
                     spent <= 6))  # fmt: skip
    return rows


def rescue(bench: Bench) -> list[Row]:
    with bench.pod(OFF) as measured:
        found = measured("rescue")
    rows = []
    for name, what, bar in (("small", "15,000 small files", 1.5), ("large", "2 GB in one", 0.9)):
        ratio = found[f"{name} ratio"]
        rows.append((f"rescue of {what}, durable",
                     f"{found[f'{name} ours']:.2f} s, cp {found[f'{name} cp']:.2f} s",
                     f"{ratio:.2f} times as fast", f">= {bar}", ratio >= bar))  # fmt: skip
    again = found["small ours"] / found["small again"]
    for who, ratio in (("the watcher's part, which has its lines in memory", found["small saver"]),
                       ("the verb, which reads them first", again)):  # fmt: skip
        rows.append((f"the same again, nothing changed: {who}", f"{found['small again']:.2f} s,"
                     f" {found['small bytes again']} bytes", f"{ratio:.0f} times as fast",
                     ">= 20", ratio >= 20))  # fmt: skip
    return rows


def close(bench: Bench) -> list[Row]:
    profile = bench.scratch / "seccomp.json"
    profile.write_text(json.dumps(NO_INOTIFY))
    rows = []
    for name, options, bar in (
        ("with the doorbell", (), 5), ("without", (f"--security-opt=seccomp={profile}",), 10)
    ):  # fmt: skip
        with bench.pod({}, *options) as measured:
            found = measured("close")
        rows.append((f"from a file's close to the report, {name}",
                     f"median {found['p50']:.1f} s, worst {found['worst']:.1f} s",
                     f"p95 {found['p95']:.1f} s", f"<= {bar} s", found["p95"] <= bar))  # fmt: skip
    return rows


def idle(bench: Bench) -> list[Row]:
    with bench.pod({}) as measured:
        found = measured("idle")
    return [
        ("idle with 50,000 files at risk", "of one core, over three minutes",
         f"{found['cpu']:.2%}", "<= 1 %", found["cpu"] <= 0.01),
        ("its memory then", f"peak {found['peak']:.0f} MB", f"{found['rss']:.0f} MB", "<= 50 MB",
         found["rss"] <= 50),
    ]  # fmt: skip


def burst(bench: Bench) -> list[Row]:
    with bench.pod({}) as measured:
        found = measured("burst")
    share = found["ours"] / found["observer"]
    return [("CPU of a burst of 100,000 files", f"{found['ours']:.1f} s, an observer of watchdog's"
             f" {found['observer']:.1f} s", f"{share:.0%}", "<= 25 %", share <= 0.25)]  # fmt: skip


def untar(bench: Bench) -> list[Row]:
    """Have a container with a watcher and one without, and unpack in them in turn."""
    with tarfile.open(bench.scratch / "50k.tar", "w") as tar:
        for n in range(50_000):
            info = tarfile.TarInfo(f"{n // 2000}/{n // 20}/{n}.o")
            info.size = 600
            tar.addfile(info, io.BytesIO(b"x" * 600))
    took: dict[str, list[float]] = {"with": [], "without": []}
    with bench.pod({}) as watched, bench.pod(OFF) as alone:
        turns = [("with", watched), ("without", alone)]
        for n in range(bench.wish.rounds + 1):
            for name, measured in turns if n % 2 else turns[::-1]:
                secs = measured("untar")["secs"]
                if n:
                    took[name].append(secs)
    slower = statistics.median(
        one / other - 1 for one, other in zip(took["with"], took["without"], strict=True)
    )
    means = {name: statistics.median(each) for name, each in took.items()}
    return [("unpacking 50,000 files beside the watcher", f"{means['with']:.2f} s, alone"
             f" {means['without']:.2f} s", f"{slower:+.0%}", "<= 5 %", slower <= 0.05)]  # fmt: skip


Row = tuple[str, str, str, str, bool]
PARTS = {"scan": scan, "idle": idle, "close": close, "rescue": rescue, "burst": burst,
         "untar": untar}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/watch", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="one round, 20,000 files in the image")
    add("--rounds", type=int, help="5, or 1 when quick")
    add("--files", type=int, help="in the image; 200,000, or 20,000 when quick")
    add("--only", choices=PARTS, help="one part")
    wish = parser.parse_args()
    wish.rounds = wish.rounds or (1 if wish.quick else 5)
    wish.files = wish.files or (20_000 if wish.quick else 200_000)
    with tempfile.TemporaryDirectory(prefix="bench-watch-") as scratch:
        bench = Bench(wish, Path(scratch))
        print(f"Medians of {wish.rounds} interleaved rounds.\n")
        print("| | measured | result | bar | |\n|---|---|---|---|---|")
        for name in [wish.only] if wish.only else PARTS:
            for *row, holds in PARTS[name](bench):
                print(f"| {' | '.join(row)} | {'' if holds else 'missed'} |", flush=True)


if __name__ == "__main__":
    main()
