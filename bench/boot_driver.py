"""Runs inside a container, as root with CAP_SYS_ADMIN: time several entrypoints, interleaved.

Each start is PID 1 of a fresh PID namespace, its container state reset before it. The workload
says how much CPU PID 1 had used when it came to life, then sleeps 0.2 s, so that whatever runs
beside it is over and counted in the sum: user + system of everything the start waited for.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import time

CLONE_NEWPID, CLONE_NEWNS, MS_REC_PRIVATE = 0x20000000, 0x20000, 0x44000
AGENT = "/opt/workspace-agent/entrypoint.sh"
VOLUME = "/workspace"
RUNTIME = "/run/workspace-agent"
BEGAN = "/etc/workspace-agent/began"  # what the layer says of its first start
# The first number of schedstat is nanoseconds on a CPU.
WORKLOAD = ["/bin/sh", "-c", "read ran rest </proc/1/schedstat; read all kept rest </proc/1/statm;"
            " echo $ran $kept; exec sleep 0.2"]  # fmt: skip
BARE = ["/usr/bin/python3", "-I", "-S", "-c", f"import os; os.execv('/bin/sh', {WORKLOAD!r})"]
STATE = ("etc/passwd", "etc/bash.bashrc", "etc/environment", "etc/zsh/zshenv")
OURS = ("etc/profile.d/workspace-agent.sh", "etc/fish/conf.d/workspace-agent.fish",
        "etc/sudoers.d/workspace-agent", "etc/ssh/sshd_config.d/workspace-agent.conf")  # fmt: skip


def main() -> None:
    baked, rounds = sys.argv[1] == "baked", int(sys.argv[2])
    first = "first boot, baked" if baked else "first boot, unbaked"
    warm = "baked, known volume" if baked else "unbaked, known volume"
    variants = {
        "floor: the workload alone": (WORKLOAD, True),
        "bare python3 -I -S": (BARE, True),
        "bash baseline, known volume": (["/bench/baseline.sh", *WORKLOAD], True),
        "bash baseline, first boot": (["/bench/baseline.sh", *WORKLOAD], False),
        warm: ([AGENT, *WORKLOAD], True),
        first: ([AGENT, *WORKLOAD], False),
    }
    pristine = remember()
    samples: dict[str, list[tuple[float, ...]]] = {name: [] for name in variants}
    written = 0
    for number in range(rounds + 1):
        for name, (argv, known) in variants.items():
            reset(pristine, baked)
            clear(VOLUME)
            if known:
                measure(argv)  # makes the volume known
                reset(pristine, baked)
            before = listing(VOLUME)
            sample = measure(argv)
            written += name == warm and listing(VOLUME) != before
            if number:  # the first round warms the caches
                samples[name].append(sample)
    json.dump({"samples": samples, "rounds": rounds, "warm_boots_that_wrote": written}, sys.stdout)


def measure(argv: list[str]) -> tuple[float, ...]:
    """Return (CPU ms in all, wall ms until the workload lives, CPU ms and MiB of PID 1 then)."""
    reader, writer = os.pipe()
    began = time.monotonic()
    outer = os.fork()
    if outer == 0:
        os.close(reader)
        LIBC.unshare(CLONE_NEWPID | CLONE_NEWNS)
        LIBC.mount(None, b"/", None, MS_REC_PRIVATE, None)
        inner = os.fork()
        if inner == 0:
            LIBC.mount(b"proc", b"/proc", b"proc", 0, None)
            os.dup2(writer, 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.execv(argv[0], argv)
        os.close(writer)
        _, status, used = os.wait4(inner, 0)
        spent = (used.ru_utime + used.ru_stime) * 1e3
        os.write(REPORT[1], b"%f %d\n" % (spent, status))
        os._exit(0)
    os.close(writer)
    ran, pages = os.read(reader, 64).split()
    wall = (time.monotonic() - began) * 1e3
    os.waitpid(outer, 0)
    os.close(reader)
    cpu, status = os.read(REPORT[0], 64).split()
    if int(status):
        raise SystemExit(f"{argv} ended with wait status {int(status)}")
    return float(cpu), wall, int(ran) / 1e6, int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


LIBC = ctypes.CDLL(None)
REPORT = os.pipe()


def remember() -> dict[str, bytes]:
    return {name: open(f"/{name}", "rb").read() for name in STATE if os.path.exists(f"/{name}")}


def reset(pristine: dict[str, bytes], baked: bool) -> None:
    """Make this a fresh container again, as far as a boot changes it."""
    shutil.rmtree(RUNTIME, ignore_errors=True)
    if os.path.exists(BEGAN):
        os.unlink(BEGAN)
    for name, data in pristine.items():
        with open(f"/{name}", "wb") as handle:
            handle.write(data)
    if not baked:
        for name in OURS:
            if os.path.exists(f"/{name}"):
                os.unlink(f"/{name}")


def clear(folder: str) -> None:
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def listing(folder: str) -> list[tuple[str, int, int]]:
    found = []
    for here, _, names in os.walk(folder):
        for path in (here, *(f"{here}/{name}" for name in names)):
            info = os.lstat(path)
            found.append((path, info.st_ctime_ns, info.st_size))
    return sorted(found)


main()
