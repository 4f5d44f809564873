"""Inside a container of the placeholder image, as PID 1: measures one part of bench/checkpoint.

checkpoint_driver.py carry|dump|restore|cold|start ROUNDS MIB...
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

sys.path.insert(0, "/opt/workspace-agent")

from workspace_agent.checkpoint import carried, journal
from workspace_agent.checkpoint.criu import Criu
from workspace_agent.checkpoint.digests import Follower, verify
from workspace_agent.checkpoint.roots import Roots
from workspace_agent.checkpoint.unpack import unpack

VOLUME, PIDFILE, READY, GAPS = (
    "/workspace/bench", "/run/bench.pid", "/run/bench.ready", "/run/bench.gaps",
)  # fmt: skip
FLOOR = 1000

# Nothing in it is the same twice, and none of it zero.
HOLDER = """
import os, sys, time
block = os.urandom(8 << 20)
kept = [bytearray(block) for _ in range(int(sys.argv[1]) // 8)]
open(sys.argv[2], "w").close()
last = time.monotonic()
while True:
    time.sleep(0.002)
    now = time.monotonic()
    if now - last > 0.02:
        with open(sys.argv[3], "a") as gaps: print(now - last, file=gaps)
    last = now
"""
MODEL = """
import sys, time
try:
    import torch
    model = torch.nn.Transformer(d_model=512, nhead=8).eval()
    model(torch.rand(10, 1, 512), torch.rand(10, 1, 512))
except ImportError:
    import numpy
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.datasets import make_classification
    data, wanted = make_classification(20_000, 40, random_state=1)
    model = RandomForestClassifier(60, random_state=1).fit(data, wanted)
open(sys.argv[2], "w").close()
while True: time.sleep(0.02)
"""
criu = Criu()


def read(path: str) -> str:
    with open(path) as handle:
        return handle.read()


def timed(act: Callable[..., object], *words: object) -> float:
    began = time.perf_counter()
    act(*words)
    return time.perf_counter() - began


def run(argv: list[str]) -> None:
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: exit {done.returncode}")


def start(script: str, size: int = 0) -> int:
    """Start a workload as the agent does, and wait until it is ready."""
    while True:
        one = threading.Thread(target=lambda: None)
        one.start()
        one.join()
        if (one.native_id or 0) >= FLOOR:
            break
    with suppress(FileNotFoundError):
        os.unlink(READY)
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-c", script, str(size), READY, GAPS], stdin=quiet,
                               stdout=quiet, stderr=quiet, start_new_session=True)  # fmt: skip
    while not os.path.exists(READY):
        if process.poll() is not None:
            sys.exit("the workload ended")
        time.sleep(0.002)
    return process.pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def fresh(name: str) -> str:
    path = f"{VOLUME}/{name}"
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def bare_dump(pid: int, folder: str) -> None:
    run(criu.dump(pid, folder, leave_running=True))


def our_dump(pid: int, folder: str) -> dict:
    follower = Follower(folder)
    run([*criu.dump(pid, folder, leave_running=False), "--leave-stopped"])
    found = follower.finish()
    os.kill(pid, signal.SIGCONT)
    return found


def bare_restore(folder: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(PIDFILE)
    run([*criu.restore(folder, PIDFILE, {}, stopped=True), "--work-dir", "/run"])


def our_restore(folder: str, expected: dict) -> None:
    wrong: list[str] = []
    reading = threading.Thread(target=lambda: wrong.extend(verify(folder, expected)))
    reading.start()
    bare_restore(folder)
    reading.join()
    if wrong:
        sys.exit(str(wrong))


def settle() -> None:
    """Let nothing of the last measurement be written during the next."""
    os.sync()


def chill() -> None:
    os.sync()
    with open("/drop_caches", "w") as handle:
        handle.write("3")


def frozen(act: Callable[..., object], *words: object) -> tuple[float, float]:
    """Return how long *act* took, and how long the workload did not get on meanwhile."""
    with suppress(FileNotFoundError):
        os.unlink(GAPS)
    took = timed(act, *words)
    while not os.path.exists(GAPS):
        time.sleep(0.01)
    time.sleep(0.1)  # it was another gap, perhaps
    return took, max(map(float, read(GAPS).split()))


def dump(rounds: int, size: int) -> dict[str, float]:
    pid = start(HOLDER, size)
    rows = []
    for _ in range(rounds):
        settle()
        bare = frozen(bare_dump, pid, fresh("bare"))
        settle()
        ours = frozen(our_dump, pid, fresh("ours"))
        rows.append((*bare, *ours, ours[0] / bare[0]))
    end(pid)
    return medians(rows, "bare", "bare frozen", "ours", "ours frozen", "ratio")


def dumped(script: str, size: int = 0) -> tuple[str, dict, float]:
    began = time.perf_counter()
    pid = start(script, size)
    took = time.perf_counter() - began
    folder = fresh("kept")
    found = our_dump(pid, folder)
    end(pid)
    return folder, found, took


def restore(rounds: int, size: int, before: Callable[[], None] = settle) -> dict[str, float]:
    folder, expected, _ = dumped(HOLDER, size)
    rows = []
    for turn in range(rounds):
        took = {}
        for name in ("bare", "ours") if turn % 2 else ("ours", "bare"):
            before()
            act = (bare_restore, folder) if name == "bare" else (our_restore, folder, expected)
            took[name] = timed(*act)
            end(int(read(PIDFILE)))
        rows.append((took["bare"], took["ours"], took["ours"] / took["bare"]))
    return medians(rows, "bare", "ours", "ratio")


def cold(rounds: int, size: int) -> dict[str, float]:
    return restore(rounds, size, chill)


def model(rounds: int, _: int) -> dict[str, float]:
    rows = []
    for _ in range(rounds):
        folder, expected, began = dumped(MODEL)
        settle()
        ours = timed(our_restore, folder, expected)
        end(int(read(PIDFILE)))
        rows.append((began, ours, began / ours))
    return medians(rows, "cold", "ours", "ratio")


def carry(rounds: int, size: int) -> dict[str, float]:
    """20,000 small files where *size* is 0; else one of so many MiB."""
    top = "/opt/bench"
    shutil.rmtree(top, ignore_errors=True)
    for n in range(20_000 if not size else 1):
        os.makedirs(f"{top}/src/{n // 100}", exist_ok=True)
        with open(f"{top}/src/{n // 100}/{n}", "wb") as handle:
            for _ in range(size // 32):
                handle.write(os.urandom(32 << 20))
            handle.write(os.urandom(2000))
    paths = []
    for here, folders, names in os.walk(f"{top}/src"):
        folders.sort()
        paths += [os.path.relpath(f"{here}/{name}", f"{top}/src") for name in (*folders, *names)]
    paths.sort(key=lambda path: path.split("/"))
    fresh("carry")
    ours_tar, bare_tar = f"{VOLUME}/carry/ours.tar", f"{VOLUME}/carry/tar.tar"

    def pack() -> None:
        with Roots(f"{top}/src") as roots, open(ours_tar, "wb", buffering=0) as out:
            carried.pack(paths, [], roots, out.fileno())

    def put() -> None:
        with Roots(f"{top}/ours") as roots, open(ours_tar, "rb", buffering=0) as source:
            unpack(source.fileno(), roots, "/run/bench.journal")
            journal.commit("/run/bench.journal", roots)

    tar = ["tar", "--format=pax", "--xattrs"]
    theirs = ([*tar, "-cf", bare_tar, "-C", f"{top}/src", "."],
              [*tar, "-xpf", bare_tar, "-C", f"{top}/tar"])  # fmt: skip
    rows = []
    for _ in range(rounds):
        for name in (ours_tar, bare_tar):
            with suppress(FileNotFoundError):
                os.unlink(name)
        for name in ("ours", "tar"):
            shutil.rmtree(f"{top}/{name}", ignore_errors=True)
            os.mkdir(f"{top}/{name}")
        took = []
        for act, *words in ((pack,), (run, theirs[0]), (put,), (run, theirs[1])):
            settle()
            took.append(timed(act, *words))
        rows.append((*took, took[0] / took[1], took[2] / took[3]))
    return medians(rows, "pack", "tar c", "unpack", "tar x", "pack ratio", "unpack ratio")


def medians(rows: list[tuple[float, ...]], *names: str) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in zip(names, zip(*rows, strict=True),
                                                                   strict=True)}  # fmt: skip


PARTS = {"carry": carry, "dump": dump, "restore": restore, "cold": cold, "start": model}

if __name__ == "__main__":
    part, rounds, size = sys.argv[1], *map(int, sys.argv[2:])
    print(json.dumps(PARTS[part](rounds, size)))
