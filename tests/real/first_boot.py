"""The part of a boot that makes the home, alone: the boot's own steps, run by its own loop.

Each line of standard input is a JSON list: source, volume, threads, and the image's name or "".
A child in a process group of its own boots once, and may be killed; then a line says how it ended
and what it printed, its rows as JSON. A fork spares each of thousands of boots the start of an
interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from dataclasses import replace

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from workspace_agent.app.boot import run, workspace_steps
from workspace_agent.app.facts import Facts
from workspace_agent.config.schema import Profile
from workspace_agent.host.interpreter import Interpreter
from workspace_agent.model.outcome import Report
from workspace_agent.steps.volume import Choice

# Long enough for a loaded machine; a boot that hangs is killed by its alarm.
DEADLINE = 60


def boot(source: str, volume: str, threads: int, image: str) -> int:
    """Boot once; a boot that is tried again is another boot, so each has an id of its own."""
    facts = Facts(
        environ={"HOME": source}, root="/nowhere", runtime="/nowhere", container=True,
        system=False, uid=os.geteuid(), user="", image_home=source,
        volume=Choice(volume, True, "fuse.slowvol"), python=Interpreter("", "", ""),
        boot_id=os.urandom(6).hex(),
    )  # fmt: skip
    ready, seed, *_ = workspace_steps(Profile(), facts)
    seed = replace(seed, threads=threads, image=image, skeleton="")
    report = run((ready, seed), Report())
    seed.tidy()  # as a boot does beside the workload
    os.write(1, json.dumps([row.to_json() for row in report.rows]).encode())
    return 3 if report.problems else 0


def child(line: str, out: int) -> None:
    """Boot as *line* says, with *out* as both outputs; does not return."""
    code = 70
    try:
        os.setsid()
        signal.alarm(DEADLINE)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.close(out)
        code = boot(*json.loads(line))
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def main() -> None:
    """Boot for each line."""
    for line in sys.stdin:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(line, writer)
        os.close(writer)
        with open(reader, errors="replace") as said:
            out = said.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"code": code, "out": out}), flush=True)


if __name__ == "__main__":
    main()
