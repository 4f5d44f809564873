"""Many first boots of one volume at once, of which some are killed; then one more.

boots_at_once.py SOURCE VOLUME COUNT MIDDLE OTHERS: MIDDLE are killed while they copy, OTHERS
wherever they are. The last line says how many were killed while they copied, how the rest ended,
and the rows of the last boot, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from workspace_agent.app.boot import run, workspace_steps
from workspace_agent.app.facts import Facts
from workspace_agent.config.schema import Profile
from workspace_agent.host.interpreter import Interpreter
from workspace_agent.model.outcome import Report
from workspace_agent.steps.volume import Choice

source, volume = sys.argv[1:3]
count, middle, others = map(int, sys.argv[3:])


def boot(number: int) -> Report:
    """Make the volume and the home."""
    facts = Facts(
        environ={"HOME": source}, root="/nowhere", runtime="/nowhere", container=True,
        system=False, uid=os.geteuid(), user="", image_home=source,
        volume=Choice(volume, True, "ext4"), python=Interpreter("", "", ""),
        boot_id=f"boot{number}",
    )  # fmt: skip
    ready, seed, *_ = workspace_steps(Profile(), facts)
    report = run((ready, seed), Report())
    while not seed.tidy():
        pass  # as the boots do that come after
    return report


def start(number: int, gate: int, keeper: int) -> int:
    """Return the process of a boot that waits until nobody has *keeper* open."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        signal.alarm(60)
        os.close(keeper)
        os.read(gate, 1)
        code = 3 if boot(number).problems else 0
    finally:
        os._exit(code)


def copying(boots: dict[int, int]) -> list[int]:
    """Return the processes that have a stage."""
    with suppress(FileNotFoundError):
        names = os.listdir(f"{volume}/.workspace-agent")
        return [boots[int(name[10:])] for name in names if name.startswith("stage-boot")]
    return []


gate, keeper = os.pipe()
boots = {number: start(number, gate, keeper) for number in range(count)}
os.close(keeper)
killed: set[int] = set()
in_the_middle = 0
while in_the_middle < middle and not os.path.lexists(f"{volume}/home/.packet-init"):
    for pid in [pid for pid in copying(boots) if pid not in killed][:1]:
        time.sleep(random.random() / 20)  # any moment will do
        in_the_middle += pid in copying(boots)
        os.kill(pid, signal.SIGKILL)  # not reaped before the end: nobody else has its number
        killed.add(pid)
for pid in random.sample(sorted(set(boots.values()) - killed), others):
    time.sleep(random.random() / 20)
    os.kill(pid, signal.SIGKILL)
    killed.add(pid)
ends = {pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in boots.values()}
codes = [code for pid, code in ends.items() if pid not in killed]
rows = [row.to_json() for row in boot(count).rows]
print(json.dumps({"copying": in_the_middle, "codes": codes, "rows": rows}))
