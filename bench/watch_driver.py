"""One measurement of bench/watch, inside a container, by the agent's own Python; prints JSON.

watch_driver.py PART ROUNDS: `scan`, `rescue`, `close`, `idle`, `burst` or `untar`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, "/opt/workspace-agent")

SMALL, LARGE = 15_000, 2 << 30
IDLE = 180


def make(folder: str, amount: int, end: str = "py", data: bytes = b"x" * 700) -> None:
    """Make so many small files, twenty in a folder."""
    for n in range(amount):
        if n % 20 == 0:
            os.makedirs(f"{folder}/{n // 2000}/{n // 20}", exist_ok=True)
        with open(f"{folder}/{n // 2000}/{n // 20}/{n}.{end}", "wb") as out:
            out.write(data)


def timed(work) -> tuple[float, float]:
    """Return the seconds of *work*, and the CPU of this process."""
    cpu, began = time.process_time(), time.perf_counter()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def scan(rounds: int) -> dict[str, float]:
    """Look at everything: as the watcher does each minute, as `at-risk` does, and by a full walk.

    The one remembers the folders that it has met; the other begins with nothing.
    """
    from workspace_agent.app import session, survey
    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.watch.layer import now_ns

    opening = session.find({}).open()
    here = survey.ground(opening.profile, opening.facts)
    inventory, root = here.inventory(), SafeRoot.at("/")

    def again() -> None:
        inventory.begin()
        here.scan(root, inventory).run()
        inventory.end()
        inventory.fresh = now_ns()

    found = {}
    for name, amount in (("none", 0), ("20k", 20_000)):
        make("/root/at-risk", amount)
        again()
        took = [[timed(work) for work in (walk, again, lambda: survey.survey(here))]
                for _ in range(rounds + 1)][1:]  # fmt: skip
        for n, column in enumerate(("full", "again", "first")):
            found[f"{name} {column}"] = statistics.median(one[n][0] for one in took)
            spent = statistics.median(one[n][1] for one in took)
            found[f"{name} {column} us"] = spent / max(1, amount) * 1e6
    entries = survey.survey(here, lambda _: True).entries
    return {**found, "found": len(entries), "image": walk() - amount}


def walk() -> int:
    """Return how many files and folders there are, each looked at."""
    count = 0
    for above, folders, names in os.walk("/"):
        if above == "/":
            folders[:] = [one for one in folders if one not in ("proc", "sys", "dev", "workspace")]
        for name in (*folders, *names):
            os.lstat(f"{above}/{name}")
            count += 1
    return count


def rescue(rounds: int) -> dict[str, float]:
    """Keep small files, a large one, and the same again; each beside cp, in turn."""
    from workspace_agent.app import rescue_verbs, session

    here = session.find({})
    told = []

    def ours() -> None:
        told.append(rescue_verbs.now(here, 0, lambda _: None).data)

    def cp(*words: str) -> float:
        done = timed(lambda: subprocess.run(["cp", *words, "/workspace/cp"], check=True))[0]
        shutil.rmtree("/workspace/cp", ignore_errors=True)
        if os.path.exists("/workspace/cp"):
            os.remove("/workspace/cp")
        return done

    def fresh() -> None:
        shutil.rmtree("/workspace/.workspace-agent/rescue", ignore_errors=True)

    def large() -> None:
        with open("/root/large.dat", "wb") as out:
            for _ in range(LARGE >> 24):
                out.write(os.urandom(1 << 24))

    found: dict[str, float] = {}
    for name, prepare, words in (
        ("small", lambda: make("/root/small", SMALL), ("-a", "/root/small")),
        ("large", large, ("/root/large.dat",)),
    ):
        prepare()
        took = []
        for _ in range(rounds + 1):
            fresh()
            os.sync()
            first, again = timed(ours)[0], timed(ours)[0]
            os.sync()
            took.append((first, cp(*words), again, told[-2]["secs"] / max(told[-1]["secs"], 0.001)))
        for n, column in enumerate(("ours", "cp", "again", "saver")):
            found[f"{name} {column}"] = statistics.median(one[n] for one in took[1:])
        found[f"{name} ratio"] = statistics.median(one[1] / one[0] for one in took[1:])
        found[f"{name} saved"], found[f"{name} bytes again"] = told[-2]["saved"], told[-1]["bytes"]
        shutil.rmtree("/root/small", ignore_errors=True)
    return found


def watched() -> dict:
    try:
        with open("/run/workspace-agent/watch.json") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def count(kind: str) -> int:
    return watched().get("at_risk", {}).get(kind, {}).get("files", 0)


def until(holds, secs: float = 300) -> None:
    end = time.monotonic() + secs
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"not within {secs} s")
        time.sleep(0.02)


def close(rounds: int) -> dict[str, float]:
    """Close notebooks at odd times, and look when each is in what the watcher says."""
    dice, made, took = random.Random(7), [], []
    os.makedirs("/root/notebooks", exist_ok=True)
    make("/root/notebooks", 1, "ipynb")
    until(lambda: count("notebooks") == 1)
    for n in range(rounds * 6):
        with open(f"/root/notebooks/{n}.ipynb", "w") as out:
            out.write("{}")
        made.append(time.monotonic())
        end = made[-1] + dice.uniform(0.5, 4)
        while time.monotonic() < end:
            took += [time.monotonic() - one for one in made[len(took) : count("notebooks") - 1]]
            time.sleep(0.02)
    until(lambda: count("notebooks") > len(made))
    took += [time.monotonic() - one for one in made[len(took) :]]
    took.sort()
    return {
        "bell": watched()["doorbell"],
        "p50": statistics.median(took),
        "p95": took[int(len(took) * 0.95)],
        "worst": took[-1],
    }


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(rounds: int) -> dict[str, float]:
    """Let the watcher be, with 50,000 files at risk: so long that it looks at all of them twice."""
    make("/root/at-risk", 50_000, "o")
    until(lambda: count("other") == 50_000)
    settled()
    pid = watched()["pid"]
    before = cpu(pid)
    time.sleep(IDLE)
    used = cpu(pid) - before
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return {"cpu": used / IDLE, "rss": int(lines["VmRSS"].split()[0]) / 1024,
            "peak": int(lines["VmHWM"].split()[0]) / 1024}  # fmt: skip


def settled() -> None:
    """Wait until the watcher has done what there was to do: two seconds of hardly any CPU."""
    pid, last = watched()["pid"], -1.0
    while (now := cpu(pid)) - last > 0.05:
        last = now
        time.sleep(2)


OBSERVER = """
import sys, time
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer
class Seen(FileSystemEventHandler):
    def on_any_event(self, event):
        pass
observer = Observer()
observer.schedule(Seen(), "/root", recursive=True)
observer.start()
print("ready", flush=True)
sys.stdin.read()
"""


def burst(rounds: int) -> dict[str, float]:
    """Make 100,000 files in new folders; the watcher and a plain observer hear of the same."""
    argv = [sys.executable, "-I", "-c", OBSERVER]
    peer = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    peer.stdout.readline()
    pid = watched()["pid"]
    before, theirs = cpu(pid), cpu(peer.pid)
    make("/root/burst", 100_000, "o")
    until(lambda: count("other") == 100_000)
    settled()
    ours, last = cpu(pid) - before, -1.0
    while (now := cpu(peer.pid)) - last > 0.02:  # what it has in its queue is its work, too
        last = now
        time.sleep(1)
    found = {"ours": ours, "observer": now - theirs}
    peer.kill()
    return found


def untar(rounds: int) -> dict[str, float]:
    """Be the writer: unpack 50,000 files, once."""
    shutil.rmtree("/root/untar", ignore_errors=True)
    os.makedirs("/root/untar")
    os.sync()
    return {"secs": timed(lambda: subprocess.run(
        ["tar", "-xf", "/workspace/50k.tar", "-C", "/root/untar"], check=True))[0]}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](int(sys.argv[2]))))
