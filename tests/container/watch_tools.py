"""What the tests of the watcher share: the truth from outside, and what the agent says."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workspace_agent.rescue.store import Content, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HERE = Path(__file__).parent

# Two of its scans of everything, and some.
SCANNED = 150.0

# An image with something to change in it.
DOCKERFILE = """
FROM {base}
RUN mkdir -p /opt/image/remade /opt/image/moved/below /opt/image/gone-folder && cd /opt/image && \\
    for one in mapped linked mode owner attribute dated saved gone appended remade/old \\
    remade/other moved/one moved/below/two gone-folder/one untouched; do \\
    head -c 5000 /dev/urandom > $one; done
"""


def copied(name: str) -> str:
    """Return the option that shows a script of this folder to a container, as a mount."""
    return f"--volume={HERE / name}:/{name}:ro"


def truth(pod: Any, podman: Callable, enter: Callable) -> dict[str, dict[str, Any]]:
    """Return what is in the container's own layer, by path; but for what is below /run."""
    form = "{{.GraphDriver.Data.UpperDir}} {{.GraphDriver.Data.LowerDir}}"
    upper, lower = podman("inspect", "--format", form, pod.name).stdout.decode().split()
    done = enter(sys.executable, "-I", "-S", str(HERE / "upper.py"), upper, lower)
    assert done.returncode == 0, done.stderr
    found = {one["path"]: one for one in map(json.loads, done.stdout.splitlines())}
    return {path: one for path, one in found.items() if not path.startswith("/run/")}


def since(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what of *after* is new, or has changed since *before*."""
    return {
        path: one
        for path, one in after.items()
        if path not in before or before[path]["ctime"] != one["ctime"]
    }


def said(pod: Any, *words: str) -> dict[str, Any]:
    """Return the data of a verb."""
    found = json.loads(pod.text("workspace-agent", "--json", *words), parse_constant=_no_json)
    return found["data"]


def _no_json(word: str) -> None:
    pytest.fail(f"{word} is no JSON")


def watch(pod: Any) -> dict[str, Any]:
    """Return what the watcher says; {} before it does."""
    done = pod.exec("cat", "/run/workspace-agent/watch.json")
    return json.loads(done.stdout) if done.returncode == 0 else {}


def path_of(one: Mapping[str, Any]) -> str:
    """Return the path that a JSON object of the agent's names."""
    return os.fsdecode(base64.b64decode(one["b64"])) if "b64" in one else one["path"]


def sums(files: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Return files and bytes of each kind, from a list of files."""
    found: dict[str, tuple[int, int]] = {}
    for one in files:
        count, used = found.get(one["kind"], (0, 0))
        found[one["kind"]] = count + 1, used + one["bytes"]
    return found


def watched(pod: Any) -> dict[str, tuple[int, int]]:
    """Return the same as the watcher has it."""
    at_risk = watch(pod).get("at_risk", {})
    return {kind: (one["files"], one["bytes"]) for kind, one in at_risk.items()}


def watcher(pod: Any) -> int:
    """Return the watcher's process, as the container numbers it."""
    return watch(pod).get("pid", 0)


def kept(volume: Path, owner: str = "pods") -> Content:
    """Return what the next boot would look at; empty without anything."""
    try:
        with opened(str(volume), owner) as store:
            return store.chain()
    except FileNotFoundError:
        return Content()


def refusing(folder: Path, *rules: Mapping[str, Any]) -> str:
    """Return the option for a container in which the kernel refuses these calls."""
    path = folder / "seccomp.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules)}))
    return f"--security-opt=seccomp={path}"


def text(path: str) -> str:
    """Return *path* for an assertion's message."""
    return ascii(os.fsencode(path))
