"""Freeze and thaw workloads of the zoo in a container, and say what was predicted of it.

`drive.py zoo NAME...` and `drive.py bake|cell ...` print a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, "/opt/workspace-agent")

from workspace_agent.checkpoint import lint, powers, tree
from workspace_agent.checkpoint.criu import BUNDLED, Criu, causes

VOLUME = Path("/workspace")
FLOOR, BAKED = 1000, 3000


def until(holds, what: str):
    end = time.monotonic() + 30
    while not (answer := holds()):
        if time.monotonic() > end:
            sys.exit(f"after 30 s still not true: {what}")
        time.sleep(0.01)
    return answer


def above(floor: int) -> None:
    """Use process numbers up, until they are above *floor*."""
    number = 0
    while number < floor:
        if (number := os.fork()) == 0:
            os._exit(0)
        os.waitpid(number, 0)


def start(argv: list[str], log: str, passed: int = -1, leader: bool = True) -> int:
    """Start *argv* as a child of PID 1's, and with nothing else of ours."""
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        if (root := os.fork()) == 0:
            if leader:
                os.setsid()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644), 1)
            os.dup2(1, 2)
            if passed >= 0:
                os.dup2(passed, 3)
                os.set_inheritable(3, True)
            os.closerange(3 if passed < 0 else 4, 4096)
            os.execvp(argv[0], argv)
        os.write(writer, b"%d" % root)
        os._exit(0)
    os.waitpid(between, 0)
    root = int(os.read(reader, 16))
    os.close(reader)
    os.close(writer)
    until(lambda: (one := tree.task(root)) and one.parent == 1, "PID 1 has adopted it")
    return root


def tool() -> Criu:
    return Criu(unprivileged=not powers.is_full(powers.read(BUNDLED)))


def run(verb: str, argv: list[str], images: Path) -> str:
    """Return why CRIU failed; "" when it did not."""
    done = subprocess.run(argv, capture_output=True, text=True, cwd=images)
    log = images / f"{verb}.log"
    said = causes(log.read_text(errors="replace")) if log.exists() else done.stderr.split("\n")
    return " | ".join(said)[-400:] or f"exit {done.returncode}" if done.returncode else ""


def images(name: str) -> Path:
    path = VOLUME / f"images-{name}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def ticks(log: str) -> int:
    return Path(log).stat().st_size if os.path.exists(log) else 0


def is_gone(pid: int) -> bool:
    return tree.task(pid) is None


def zoo(name: str) -> dict[str, object]:
    """Start it, ask the lint, and do what it has judged."""
    log = f"/tmp/{name}.log"
    kept, passed = outside(name)
    root = start([sys.executable, "/lab/zoo.py", name], log, passed, name != "no_leader")
    ready = lambda: os.path.exists(log) and Path(log).read_bytes().startswith(b"1\n")  # noqa: E731
    until(lambda: ready() or is_gone(root), f"{name} ticks")
    if is_gone(root):
        return {"name": name, "skipped": Path(log).read_text()}
    before = tree.tree(root)
    found = lint.findings(
        before, powers.read(BUNDLED), floor=FLOOR, tcp="close", volume=str(VOLUME)
    )
    held = [(one.state, powers.status(one.pid)["TracerPid"]) for one in before if one.pid == root]
    seen = ticks(log)
    until(lambda: ticks(log) > seen, f"{name} ticks after the lint")
    into, criu = images(name), tool()
    dump = run("dump", criu.dump(root), into)
    restore, goes_on = "", False
    if dump:
        seen = ticks(log)
        goes_on = bool(until(lambda: ticks(log) > seen, f"{name} ticks after a failed dump"))
    else:
        frozen = tree.tree(root)
        signal_all(frozen, signal.SIGKILL)
        until(lambda: all(is_gone(one.pid) for one in frozen), f"{name} is buried")
        restore = run("restore", criu.restore("pid", {}), into)
        if not restore:
            signal_all(tree.tree(root), signal.SIGCONT)
            until(lambda: ticks(log) > seen, f"{name} ticks after the restore")
    signal_all((*before, *tree.tree(root)), signal.SIGKILL)
    end(kept)
    return {
        "name": name, "dump": dump, "restore": restore, "goes_on": goes_on, "held": held,
        "findings": [{"stops": one.stops, **asdict(one.problem)} for one in found],
    }  # fmt: skip


def signal_all(tasks, number: int) -> None:
    for one in tasks:
        if tree.is_same(one.pid, one.started):
            os.kill(one.pid, number)


def outside(name: str) -> tuple[list, int]:
    """Return the other side of what *name* is connected with, and what it inherits of that."""
    if name == "pipe_outside":
        reader, writer = os.pipe()
        return [reader, writer], writer
    if name == "pair_outside":
        near, far = socket.socketpair()
        return [near, far], near.fileno()
    if name == "terminal_outside":
        master, slave = os.openpty()
        (VOLUME / "outside.tty").symlink_to(os.ttyname(slave))
        return [master, slave], -1
    kind = {"stream_outside": "stream", "datagram_outside": "dgram"}.get(name)
    if kind is None:
        return [], -1
    one = socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM
    )
    one.bind(str(VOLUME / f"outside.{kind}"))
    if kind == "stream":
        one.listen()
    return [one], -1


def end(kept: list) -> None:
    for one in kept:
        os.close(one) if isinstance(one, int) else one.close()


def sleeper() -> int:
    root = start(["sleep", "100000"], "/dev/null")
    until(lambda: tree.task(root).name == "sleep", "it sleeps")
    return root


def bake(name: str) -> dict[str, object]:
    """Make a checkpoint that other containers restore."""
    above(BAKED)
    root, into = sleeper(), images(name)
    had = int(powers.status(root)["CapPrm"], 16)
    why = run("dump", tool().dump(root), into)
    os.kill(root, signal.SIGKILL)
    return {"name": name, "had": had, "why": why}


def cell(*baked: str) -> dict[str, object]:
    """Dump a process, and restore what was baked: *baked* are names and capabilities by turns."""
    above(FLOOR)
    said = json.loads(subprocess.run(
        ["workspace-agent", "--json", "doctor", "--for", "restore"], capture_output=True
    ).stdout)  # fmt: skip
    may, root, criu = powers.read(BUNDLED), sleeper(), tool()
    into = Path("/tmp/images")
    into.mkdir()
    rows = {
        "dump": (
            said["data"]["dump"],
            run("dump", criu.dump(root), into),
        )
    }
    os.kill(root, signal.SIGCONT)
    until(lambda: tree.task(root).state == "S", "it goes on")
    unhurt = powers.status(root)["TracerPid"] == "0"
    os.kill(root, signal.SIGKILL)
    for name, had in zip(baked[::2], baked[1::2], strict=True):
        at = Path(shutil.copytree(VOLUME / f"images-{name}", f"/tmp/images-{name}"))
        predicted = said["data"]["restore"] and not powers.against_restore(may, int(had))
        pidfile = at / "probe.pid"
        rows[name] = (predicted, run("restore", criu.restore(str(pidfile), {}), at))
        if not rows[name][1]:
            os.kill(int(pidfile.read_text()), signal.SIGKILL)
            until(lambda at=pidfile: is_gone(int(at.read_text())), "what came back is buried")
    return {
        "rows": rows,
        "unhurt": unhurt,
        "proof": said["data"]["proof"],
        "code": said["exit_code"],
    }


if __name__ == "__main__":
    what, *names = sys.argv[1:]
    if what == "zoo":
        above(FLOOR)
        for name in names:
            try:
                row = zoo(name)
            except (SystemExit, OSError, AttributeError) as error:
                row = {"name": name, "broken": repr(error)}  # the others are asked all the same
            print(json.dumps(row), flush=True)
    else:
        print(json.dumps({"bake": bake, "cell": cell}[what](*names)), flush=True)
