"""Faults at the borders of the agent's own functions: run at the end of each module that has them.

/faults/plan says {"at": "module.Class.function", "when": "before" or "after", "do": ...}; it is
taken away before it comes true, so it comes true once. Where there is a file /faults/trace, each
call of the process that is at work is noted there.
"""

import functools
import json
import os
import signal
import time
import types

FOLDER = "/faults"


def _met(name: str, when: str) -> None:
    try:
        trace = os.open(f"{FOLDER}/trace", os.O_WRONLY | os.O_APPEND)
        os.write(trace, f"{os.getpid()} {when} {name}\n".encode())
        os.close(trace)
    except OSError:
        pass
    try:
        with open(f"{FOLDER}/plan") as text:
            plan = json.load(text)
    except (OSError, ValueError):
        return
    if (plan["at"], plan.get("when", "before")) != (name, when):
        return
    try:
        os.rename(f"{FOLDER}/plan", f"{FOLDER}/done")
    except OSError:
        return
    _act(plan["do"])


def _act(what: str) -> None:
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "orphan":
        os.kill(os.getppid(), signal.SIGKILL)
    elif what == "both":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "hang":
        while True:  # as a call into a dead volume: no signal ends it but KILL
            time.sleep(0.1)
    elif what.isdigit():
        raise OSError(int(what), os.strerror(int(what)), "/workspace/x")


def _wrapped(name: str, function: types.FunctionType) -> types.FunctionType:
    @functools.wraps(function)
    def call(*args: object, **more: object) -> object:
        _met(name, "before")
        found = function(*args, **more)
        _met(name, "after")
        return found

    return call


def arm(module: dict) -> None:
    """Wrap all functions of a module, and the methods of its classes."""
    short = module["__name__"].rpartition(".")[2]
    for name, one in list(module.items()):
        if getattr(one, "__module__", None) != module["__name__"]:
            continue
        if isinstance(one, types.FunctionType):
            module[name] = _wrapped(f"{short}.{name}", one)
        elif isinstance(one, type):
            for below, method in list(vars(one).items()):
                if isinstance(method, types.FunctionType) and not below.startswith("__"):
                    setattr(one, below, _wrapped(f"{short}.{name}.{below}", method))
