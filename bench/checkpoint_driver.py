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
from types import SimpleNamespace

sys.path.insert(0, "/opt/workspace-agent")

from workspace_agent.app import carrying
from workspace_agent.app.session import find
from workspace_agent.checkpoint import artifact, carried, journal
from workspace_agent.checkpoint import dump as dumping
from workspace_agent.checkpoint import restore as restoring
from workspace_agent.checkpoint.criu import Criu
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
WORKLOAD = "0123456789abcdef"
VERSIONS = f"/workspace/.workspace-agent/checkpoints/{WORKLOAD}/versions"
NOBODY = SimpleNamespace(before=lambda *_, **__: [], resumed=lambda *_: [])
criu, facts = Criu(work="/run"), find({}).open(strict=False).facts


def roots() -> Roots:
    return carrying.roots(facts)


def read(path: str) -> str:
    with open(path) as handle:
        return handle.read()


def timed(act: Callable[..., object], *words: object) -> float:
    began = time.perf_counter()
    act(*words)
    return time.perf_counter() - began


def run(argv: list[str], where: str = "/") -> None:
    quiet = subprocess.DEVNULL
    done = subprocess.run(argv, cwd=where, stdout=quiet, stderr=quiet, check=False)
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
    run(criu.dump(pid), folder)
    os.kill(pid, signal.SIGCONT)
    os.sync()  # as ours, which is nothing before it is on the disk


def our_dump(pid: int) -> str:
    """Make a version as the verb does, and return its name."""

    def listed() -> tuple[list[str], list[str]]:
        found = carrying.listed(facts)
        return found.paths, found.deleted

    with artifact.shelf("/workspace", WORKLOAD, make=True) as shelf:
        made = dumping.make(dumping.Terms(
            criu=criu, shelf=shelf, contract=NOBODY, runtime=facts.runtime, root=pid,
            agent=os.getpid(), generation=0, facts=lambda _: {}, listed=listed, roots=roots,
            trial=lambda *_: "waived", about={}, outside=0, timeout=600.0, published=lambda _: None,
            leave_running=True,
        ))  # fmt: skip
    return made.name


def bare_restore(folder: str) -> int:
    with suppress(FileNotFoundError):
        os.unlink(PIDFILE)
    run(criu.restore(PIDFILE, {}), folder)
    pid = int(read(PIDFILE))
    os.kill(pid, signal.SIGCONT)
    return pid


def our_restore(name: str) -> int:
    with (
        artifact.shelf("/workspace", WORKLOAD) as shelf,
        shelf.top.folder(f"versions/{name}") as folder,
    ):
        version = shelf.read(name)
        restored = restoring.restore(restoring.Terms(
            criu, version, folder, facts.runtime, os.getpid(), 600.0, 60.0, lambda _: None, roots,
        ))  # fmt: skip
        restoring.keep(facts.runtime, roots)
    return restored.pid


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
    acts = [("bare", lambda: bare_dump(pid, fresh("bare"))), ("ours", lambda: our_dump(pid))]
    rows = []
    for _ in range(rounds + 1):
        took = {}
        for which, act in acts:
            for old in (VOLUME, VERSIONS):  # the same memory and disk for both
                shutil.rmtree(old, ignore_errors=True)
            settle()
            took[which] = frozen(act)
        acts.reverse()
        rows.append((*took["bare"], *took["ours"], took["ours"][0] / took["bare"][0]))
    end(pid)
    # The first one is left out: it is the first to touch the machine's memory.
    return medians(rows[1:], "bare", "bare frozen", "ours", "ours frozen", "ratio")


def dumped(script: str, size: int = 0) -> tuple[str, float]:
    """Return the version of a workload that is gone, and how long its start took."""
    began = time.perf_counter()
    pid = start(script, size)
    took = time.perf_counter() - began
    name = our_dump(pid)
    end(pid)
    return name, took


def restore(rounds: int, size: int, before: Callable[[], None] = settle) -> dict[str, float]:
    name, _ = dumped(HOLDER, size)
    folder = f"{VERSIONS}/{name}/criu"
    acts = [("bare", bare_restore, folder), ("ours", our_restore, name)]
    rows = []
    for _ in range(rounds + 1):
        took = {}
        for which, act, what in acts:
            before()
            began = time.perf_counter()
            pid = act(what)
            took[which] = time.perf_counter() - began
            end(pid)
        acts.reverse()
        rows.append((took["bare"], took["ours"], took["ours"] / took["bare"]))
    return medians(rows[1:], "bare", "ours", "ratio")


def cold(rounds: int, size: int) -> dict[str, float]:
    return restore(rounds, size, chill)


def model(rounds: int, _: int) -> dict[str, float]:
    rows = []
    for _ in range(rounds):
        name, cold_start = dumped(MODEL)
        settle()
        began = time.perf_counter()
        pid = our_restore(name)
        ours = time.perf_counter() - began
        end(pid)
        rows.append((cold_start, ours, cold_start / ours))
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
