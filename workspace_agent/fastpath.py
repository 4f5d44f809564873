"""Is there anything to do at all? If not, here is the environment.

A baked image carries its compiled plan (`app/plans.py` makes it); a volume carries one stamp for
each image that found it complete. When both agree, a boot needs no engine. Only `os` calls, and
those that touch the volume run in a thread: a hung volume must not hang PID 1.
"""

from __future__ import annotations

import _thread
import marshal

from workspace_agent import __version__
from workspace_agent.host import files
from workspace_agent.host.chalf import os
from workspace_agent.model import layout
from workspace_agent.model.recipe import path_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypedDict

    from workspace_agent.model.recipe import Recipe

    class Plan(TypedDict):
        """A boot, compiled: what must be true, and what follows. Builtins only (`marshal`)."""

        version: str
        key: str  # changes with the agent, the profile and what the bake put into /etc
        path: str  # PATH at the bake, which decided on the interpreter
        settings: dict[str, str]  # the agent's variables that the plan was made with
        uid: int
        image_home: str
        user: str  # whose passwd line leads to `recipe.home`; empty: nobody's
        volume: str
        marker: str
        stamp: str
        absent: list[str]  # whoever makes one of these wants the engine
        asks: tuple[str, tuple[str, ...], tuple[str, ...]]  # as do names, and prefixes, in a folder
        packages: list[str]
        watch: list[str]  # where somebody may install something by hand
        budget: float  # of the watcher, after the workload; 0: there is none
        floor: int  # where the workload's process numbers begin; 0: anywhere
        freeze: bool  # whether it is frozen when the pod ends
        profiles: list[tuple[str, int, int]]  # path, mtime in s, size; -1 when absent
        recipe: Recipe
        fish: bool  # whether the image has a fish to tell
        command: list[str]
        grace: float
        termination_log: str


BAKED = "baked"

# These answer or fail; an ext4 may well stand on a network block device, and hang as NFS does.
_LOCAL = ("tmpfs", "overlay")

# How long the fast path itself waits for the volume before it leaves the question to the engine,
# which has its own, longer patience and says what it found.
PATIENCE = 0.5

# The agent's variables that change nothing of the plan.
_HARMLESS = tuple(
    f"WORKSPACE_AGENT_{name}"
    for name in ("BANNER", "DISABLE", "JSON", "PARENT_DEATH", "PRIVATE", "QUIET", "VERBOSE")
)


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of *environ* that steer the agent."""
    return {
        name: value
        for name, value in environ.items()
        if name.startswith("WORKSPACE_") and name not in _HARMLESS
    }


def load(root: str) -> Plan | None:
    """Return the plan baked into the install at *root*; None when there is none of this version.

    The file is root's and part of the image, as the code is: marshal is safe on nothing less.
    """
    data = files.read(f"{root}/{BAKED}")
    if data is None:
        return None
    try:
        plan: Plan = marshal.loads(data)
    except (EOFError, TypeError, ValueError):
        return None
    return plan if isinstance(plan, dict) and plan.get("version") == __version__ else None


def holds(
    plan: Plan,
    environ: Mapping[str, str],
    mounts: Mapping[str, tuple[str, str, bool]],
    runtime: str = layout.RUNTIME,
) -> bool:
    """Say whether the whole of *plan* is true here, so that nothing has to be done."""
    return (
        plan["volume"] in mounts
        and plan["uid"] == os.geteuid()
        and runtime == layout.RUNTIME  # the hooks in the image name that one
        # A restarted container has the home that we put into passwd.
        and environ.get("HOME", plan["image_home"]) in (plan["image_home"], plan["recipe"]["home"])
        and plan["path"] == path_beside(environ.get("PATH", ""), plan["volume"])
        and plan["settings"] == settings(environ)
        and all(layer_state(path) == (path, when, size) for path, when, size in plan["profiles"])
        and _within(PATIENCE, plan, mounts[plan["volume"]][0] in _LOCAL)
    )


def volume_holds(plan: Plan) -> bool:
    """Say whether the volume is as the stamp says: complete, writable, with room, unchanged."""
    volume = plan["volume"]
    try:
        if files.read(plan["stamp"]) != stamp_text(plan) or not os.access(volume, os.W_OK):
            return False
        room = os.statvfs(volume)
        full = room.f_bavail == 0 or (room.f_files > 0 and room.f_favail == 0)
        absent = not any(files.exists(path) for path in plan["absent"])
        return not full and absent and not asks(plan) and files.exists(plan["marker"])
    except OSError:
        return False  # the engine asks again, and says what it found


def asks(plan: Plan) -> bool:
    """Say whether a file on the volume asks for packages; raises OSError."""
    folder, names, prefixes = plan["asks"]
    return bool(folder) and any(
        name in names or name.startswith(prefixes) for name in os.listdir(folder)
    )


def stamp_text(plan: Plan) -> bytes:
    """Return what the stamp must hold: the plan's key, and the packages folders as they are."""
    lines = [f"{plan['version']} {plan['key']}"]
    lines += [f"{path} {when}" for path, when, _ in map(file_state, plan["packages"])]
    return os.fsencode("\n".join([*lines, ""]))


def file_state(path: str) -> tuple[str, int, int]:
    """Return (*path*, mtime in ns, size), both -1 when it is not there."""
    try:
        info = os.stat(path)
    except OSError:
        return (path, -1, -1)
    return (path, info.st_mtime_ns, info.st_size)


def layer_state(path: str) -> tuple[str, int, int]:
    """Return `file_state` in whole seconds: an image's layers keep no more."""
    name, when, size = file_state(path)
    return (name, when // 10**9, size)


def _within(seconds: float, plan: Plan, local: bool) -> bool:
    if local:
        return volume_holds(plan)
    answer = []
    done = _thread.allocate_lock()
    done.acquire()

    def ask() -> None:
        answer.append(volume_holds(plan))
        done.release()

    _thread.start_new_thread(ask, ())
    return done.acquire(timeout=seconds) and answer == [True]
