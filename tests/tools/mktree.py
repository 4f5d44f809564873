#!/usr/bin/env python3
"""Trees for tests and benchmarks, the same on every machine.

mktree.py small|flat|big|mix FOLDER [N]

small  N files of about 4 KB in folders like those of a Python installation
flat   N files of 4 KB in one folder
big    3 files of N MiB that do not compress
mix    small, and every awkward object: links of all kinds, hard links, holes, attributes, socket,
       fifo, modes, odd names, odd times, a deep path
"""

from __future__ import annotations

import os
import random
import socket
import sys
from contextlib import suppress

AMOUNTS = {"small": 20_000, "flat": 2_000, "big": 1_024, "mix": 500}
NAMES = (b"new\nline", b"-rf", b" lead", b"trail ", b"caf\xe9-latin1", b"\xff\xfe",
         "\u00fcnicode".encode(), b"a" * 255, b"..x", b"*", b"tab\t", b"back\\slash")  # fmt: skip


def make(kind: str, folder: str, amount: int = 0) -> None:
    """Make a tree of *kind* in *folder*, which must not be there."""
    maker = {"small": small, "flat": flat, "big": big, "mix": mix}[kind]
    before = os.umask(0o022)
    try:
        maker(folder, amount or AMOUNTS[kind], random.Random(7))
    finally:
        os.umask(before)


def small(folder: str, amount: int, dice: random.Random) -> None:
    os.makedirs(folder)
    folders = _folders(folder, max(4, amount // 14), dice)
    blob = dice.randbytes(1 << 16)
    weights = [min(20.0, dice.paretovariate(1.1)) for _ in folders]
    for number, where in enumerate(dice.choices(folders, weights, k=amount)):
        size = min(1 << 16, max(200, int(dice.lognormvariate(7.6, 1.0))))
        path = f"{where}/m{number}.py"
        _put(path, blob[:size], 0o755 if number % 9 == 0 else 0o644)
        os.utime(path, (1.6e9 + number, 1.6e9 + number))


def _folders(top: str, amount: int, dice: random.Random) -> list[str]:
    made = [top]
    for number in range(amount):
        above = dice.choice(made[-40:] if dice.random() < 0.7 else made)
        if above.count("/") - top.count("/") > 8:
            above = top
        name = dice.choice(["pkg", ".cache", "lib", "site", "__pycache__", "bin"])
        made.append(f"{above}/{name}{number}")
        os.mkdir(made[-1])
    return made


def flat(folder: str, amount: int, dice: random.Random) -> None:
    os.makedirs(folder)
    blob = dice.randbytes(4096)
    for number in range(amount):
        _put(f"{folder}/f{number}", blob)


def big(folder: str, amount: int, dice: random.Random) -> None:
    os.makedirs(folder)
    for number in range(3):
        with open(f"{folder}/model{number}.bin", "wb") as handle:
            for _ in range(amount):
                handle.write(dice.randbytes(1 << 20))


def mix(folder: str, amount: int, dice: random.Random) -> None:
    small(folder, amount, dice)
    _put(f"{folder}/plain")
    for name, target in (("rel", "plain"), ("abs-into-home", f"{folder}/plain"), ("loop", "loop"),
                         ("dangling", "/nonexistent/x")):  # fmt: skip
        os.symlink(target, f"{folder}/{name}")
    for name in ("empty", "sticky", "rodir", "hd"):
        os.mkdir(f"{folder}/{name}")
    for name in ("hard0", "hard1", "hd/hard-elsewhere"):
        os.link(f"{folder}/plain", f"{folder}/{name}")
    with open(f"{folder}/sparse", "wb") as handle:
        handle.truncate(64 << 20)
        handle.seek(10 << 20)
        handle.write(b"y" * 5000)
    _put(f"{folder}/attributed")
    with suppress(OSError):
        os.setxattr(f"{folder}/attributed", "user.note", b"v\0bin")
    _special(folder)
    for name, mode in (("mode000", 0), ("suid", 0o4755), ("key", 0o600)):
        _put(f"{folder}/{name}", b"secret", mode)
    _put(f"{folder}/rodir/in")
    os.chmod(f"{folder}/rodir", 0o555)
    os.chmod(f"{folder}/sticky", 0o1777)
    for odd in NAMES:
        _put(os.path.join(os.fsencode(folder), odd), odd)
    for name, when in (("old", 1), ("future", 4e9)):
        _put(f"{folder}/{name}")
        os.utime(f"{folder}/{name}", (when, when))
    deep = folder + "/deepdeepdeepdeepdeep" * 60  # some 1300 bytes
    os.makedirs(deep)
    _put(f"{deep}/bottom")


def _special(folder: str) -> None:
    os.mkfifo(f"{folder}/fifo", 0o600)
    here = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:  # an address has 108 bytes at most
        server.bind(f"/proc/self/fd/{here}/sock")
    os.close(here)


def _put(path: str | bytes, data: bytes = b"x", mode: int = 0o644) -> None:
    with open(path, "wb") as handle:
        handle.write(data)
    os.chmod(path, mode)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in AMOUNTS:
        sys.exit(__doc__)
    make(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:4]))
