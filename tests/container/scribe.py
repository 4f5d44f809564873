"""Writes notebooks, keys and sources outside the volume, and into its log on the volume what.

scribe.py write LOG SEED: a line before each file (what it will be) and one after it, without end.
scribe.py read OUT: the files that there are, with their hashes, as JSON; then it stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time

PLACES = ("/root/work/{}.ipynb", "/srv/app/{}/main.py", "/root/.ssh/id_{}", "/data/keys/{}.pem",
          "/opt/lab/deep/er/{}.ipynb", "/usr/local/lib/tools/{}.sh")  # fmt: skip


def write(log: str, seed: str) -> None:
    dice = random.Random(seed)
    with open(log, "a", buffering=1) as out:
        for number in range(1 << 30):
            # half of them are new, the others come again
            one = number // 2 if number % 2 else dice.randrange(1 + number // 2)
            path = PLACES[one % len(PLACES)].format(one)
            data = dice.randbytes(dice.choice((40, 3_000, 60_000, 400_000)))
            digest = hashlib.sha256(data).hexdigest()
            os.makedirs(os.path.dirname(path), exist_ok=True)
            tell(out, "begin", path, digest)
            dice.choice((by_rename, in_place, in_place))(path, data)
            tell(out, "whole", path, digest)
            time.sleep(dice.random() / 5)


def tell(out, what: str, path: str, digest: str) -> None:
    out.write(json.dumps([what, path, digest, time.time()]) + "\n")


def by_rename(path: str, data: bytes) -> None:
    with open(f"{path}.part", "wb") as out:
        out.write(data)
    os.rename(f"{path}.part", path)


def in_place(path: str, data: bytes) -> None:
    """In two halves, with time between them to be caught."""
    with open(path, "wb", buffering=0) as out:
        out.write(data[: len(data) // 2])
        time.sleep(0.05)
        out.write(data[len(data) // 2 :])


def read(out: str) -> None:
    found = {}
    for top in ("/root", "/srv", "/data", "/opt/lab", "/usr/local/lib/tools"):
        for above, _, names in os.walk(top):
            for name in names:
                with open(f"{above}/{name}", "rb") as one:
                    found[f"{above}/{name}"] = hashlib.sha256(one.read()).hexdigest()
    with open(f"{out}.part", "w") as file:
        json.dump(found, file)
    os.rename(f"{out}.part", out)
    time.sleep(1_000_000)


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
