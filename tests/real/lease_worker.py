"""Takes the lease again and again, or once and holds it; says each thing in one line of a log.

lease_worker.py FOLDER LOG NAME TTL again|once|hold [unsigned]
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from workspace_agent.host import alive
from workspace_agent.host.lease import Lease
from workspace_agent.host.safe_root import SafeRoot

folder, path, name, ttl, how, *signs = sys.argv[1:]
log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def say(*words: object) -> None:
    os.write(log, (" ".join(map(str, (name, *words))) + "\n").encode())


def never() -> bool:
    return False


if signs:
    alive._here = lambda: ""
speed = 1 if how == "hold" else 20
number = 0
with SafeRoot.at(folder) as state:
    while True:
        number += 1
        one = Lease(
            state, f"{name}-{number}", ttl=float(ttl), beat=float(ttl) / 6,
            wait=lambda secs: time.sleep(secs / speed),
        )  # fmt: skip
        one.take(never, lambda _: say("waits"))
        say("takes", one.token)
        if how == "once":
            signal.pause()
        if how == "hold":
            os.kill(os.getpid(), signal.SIGSTOP)
            say("held", one.held())
            break
        for _ in range(random.randrange(16)):
            time.sleep(0.002)
            one.beat()
        say("held" if one.held() else "lost", one.token)
        say("gives", one.token)
        one.release()
