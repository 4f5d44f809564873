"""What was changed outside the volume is there again in the next container, or nothing is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from watch_tools import copied

pytestmark = pytest.mark.container

WORKER = "carry_worker.py"

# What is of the layer in one, and a file system of its own in the other.
MOUNTS = [
    pytest.param((), (), id="layer"),
    pytest.param(("--tmpfs=/run", "--tmpfs=/tmp"), ("--tmpfs=/run", "--tmpfs=/tmp"), id="tmpfs"),
    pytest.param(("--tmpfs=/tmp",), (), id="tmpfs, then layer"),
]


@pytest.fixture
def image(placeholder_image: str) -> str:
    return placeholder_image


@pytest.fixture
def start(pod, volume):
    def one(*options: str):
        entry = "--entrypoint=/opt/workspace-agent/entrypoint.sh"
        made = pod("sleep", "1000", volume=volume, options=[entry, copied(WORKER), *options])
        made.until("pgrep", "-x", "sleep")
        made.until("test", "-e", "/run/workspace-agent/watch.json")  # the boot is over
        return made

    return one


def worker(pod, verb: str) -> str:
    return pod.text("python3", "-I", "-B", f"/{WORKER}", verb)


def state(pod) -> dict[str, list]:
    return json.loads(worker(pod, "state"))


def differing(one: dict[str, list], other: dict[str, list]) -> dict[str, tuple]:
    return {path: (one.get(path), other.get(path)) for path in one.keys() | other.keys()
            if one.get(path) != other.get(path) and path not in ("/dev",)}  # fmt: skip


@pytest.mark.parametrize(("first", "second"), MOUNTS)
def test_all_changes_come_along_and_can_be_undone(start, first, second) -> None:
    old = start(*first)
    before = state(old)
    worker(old, "change")
    changed = state(old)
    packed = json.loads(worker(old, "pack"))
    old.remove()
    new = start(*second)
    fresh = state(new)
    worker(new, "unpack")
    unpacked = state(new)
    aside = {path for path in unpacked if ".carried-" in path}
    undone = json.loads(worker(new, "undo"))
    again = state(new)
    worker(new, "unpack")
    worker(new, "commit")

    assert len(differing(before, changed)) > 60
    assert {"usr/share/perl5", "etc/issue"} <= set(packed["deleted"])
    assert not {path for path in packed["deleted"] if path.startswith(("opt/", "workspace"))}
    assert {"a socket"} == {why for _, why in packed["left"]}
    assert ([], {}) == (undone, differing(fresh, again))
    assert {} == differing(changed, {k: v for k, v in unpacked.items() if k not in aside})
    assert {} == differing(changed, state(new))
