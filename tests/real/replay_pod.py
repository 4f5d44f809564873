"""One boot's packages, as a program that a test can kill: `replay_pod.py JSON`.

It says a line for whatever a test waits for: `here` at the writing call *at*, `applied KEY`,
`settled SLUG`. Nothing of the boot but this step runs.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time

from workspace_agent.host import interpreter
from workspace_agent.model.problem import AgentError
from workspace_agent.replay.asked import Asked
from workspace_agent.replay.key import Policy
from workspace_agent.replay.place import Place
from workspace_agent.replay.step import Replay

# But for removals: most of those are of what nobody needs any more.
WRITES = ("os.mkdir", "os.rename", "os.symlink", "os.chmod", "subprocess.Popen")


def main(told: dict) -> int:
    env = dict(os.environ)
    step = Replay(
        asked=Asked(tuple(told["files"]), "files"),
        place=Place(told["place"]),
        volume=told["volume"],
        python=interpreter.find(env["PATH"]),
        policy=Policy(told.get("mode", "overlay")),
        env=env,
        logs=f"{told['place']}/logs",
        boot_id=told["boot_id"],
    )
    watch(told.get("at", 0))
    texts: set[str] = set()

    def tell(text: str) -> None:
        word = text.split(":")[0].split(" ")[0]
        if word not in texts:
            texts.add(word)
            say("tells", word)

    try:
        if type(step.check()).__name__ != "Ok":
            step.apply(tell)
        say("applied", step.place.used())
    except AgentError as error:
        say("failed", error.problem.slug, error.problem.why)
    except OSError as error:
        say("failed", "os", str(error))
    problem = step.settle(tell)
    say("settled", problem.slug if problem else "well", problem.why if problem else "")
    while told.get("hold"):
        time.sleep(1)
    return 0


def say(*words: str) -> None:
    print(*words, flush=True)


def watch(at: int) -> None:
    """Say `here` at the writing call number *at*, and how many there were at the end."""
    seen = [0]
    main_thread = threading.main_thread()

    def hook(event: str, args: tuple) -> None:
        if threading.current_thread() is not main_thread:
            return
        if event in WRITES or (event == "open" and isinstance(args[2], int) and args[2] & 0o103):
            seen[0] += 1
            if seen[0] == at:
                os.write(1, b"here\n")

    sys.addaudithook(hook)
    atexit.register(lambda: say("writes", str(seen[0])))


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
