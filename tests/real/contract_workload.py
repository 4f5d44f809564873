"""A workload that takes part: its log says what was called, `MODE` what goes wrong.

It imports a copy of workload.py from its own folder, and nothing else of the agent.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import workload

HERE, MODE = Path(__file__).parent, os.environ.get("MODE", "")


def say(word: str) -> None:
    with (HERE / f"log-{os.getpid()}").open("a") as log:
        log.write(f"{word}\n")


@workload.before_checkpoint
def first() -> None:
    say("before 1")
    if MODE == "raises":
        raise ValueError("hunter2")
    while MODE == "hangs" and not (HERE / "go-on").exists():
        time.sleep(0.01)
    if MODE == "crashes":
        os._exit(9)


@workload.after_checkpoint
def second() -> None:
    say(f"after 1 generation {workload.generation()}")
    if MODE == "after-raises":
        raise KeyError("hunter2")


@workload.before_checkpoint
def third() -> None:
    say("before 2")


@workload.after_restore
def fourth() -> None:
    say(f"restored seed {workload.identity().get('seed')}")


@workload.after_checkpoint
def fifth() -> None:
    say("after 2")


if MODE == "forks" and os.fork() == 0:

    @workload.before_checkpoint
    def child() -> None:
        say("child before")


if MODE == "ready":
    say(f"result {workload.ready()}")
say("running")
while True:
    time.sleep(0.1)
