"""A pod that is told to end: out in time, the dearest first, and what is left is named."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from watch_tools import kept, said, watch

from workspace_agent.watch.kinds import KINDS, PRECIOUS

pytestmark = pytest.mark.container

GRACE = {"WORKSPACE_AGENT__WORKLOAD__GRACE": "10s"}

# What the runtime gives beyond the workload's own grace, here as in Kubernetes.
RUNTIMES = 5

# All at once when the volume says so, and then only waits: nothing of it was quiet before.
WORK = """
mkdir -p /root/work /data/runs
until [ -e /workspace/go ]; do sleep 0.05; done
n=0; while [ $n -lt {big} ]; do
    head -c {size}M /dev/urandom >/data/runs/part-$n.dat; n=$((n+1)); done
head -c 20M /dev/urandom >/data/runs/model.pt
python3 - <<'END'
import os
for n in range({small}):
    os.makedirs(f"/root/work/{{n % 50}}", exist_ok=True)
    with open(f"/root/work/{{n % 50}}/{{n}}.py", "wb") as out:
        out.write(os.urandom(40) * 100)
END
echo key >/root/work/id_rsa
touch /workspace/done
exec sleep infinity
"""


def hashes(pod) -> dict[str, str]:
    """Return the hash of each file below /root/work and /data."""
    said = pod.text("sh", "-c", "find /root/work /data -type f -exec sha256sum {} + 2>/dev/null")
    return {path: digest for digest, path in (line.split("  ", 1) for line in said.splitlines())}


@pytest.mark.parametrize(
    ("small", "big", "size", "most"),
    [
        pytest.param(3_000, 2, 500, "600MiB", id="1 GB, no room"),
        pytest.param(20_000, 8, 1_000, "10GiB", marks=pytest.mark.long, id="8 GB, no time"),
    ],
)
def test_it_ends_in_time_with_all_that_is_precious(
    pod, volume, podman, small, big, size, most
) -> None:
    """The large ones take longer, or more room, than there is."""
    script = WORK.format(small=small, big=big, size=size)
    env = {**GRACE, "WORKSPACE_AGENT__RESCUE__MOST": most}
    one = pod("sh", "-c", script, volume=volume, env=env)
    one.until("test", "-e", "/run/workspace-agent/watch.json")
    (volume / "go").touch()
    one.until("test", "-e", "/workspace/done", what="all of it is written")
    before = hashes(one)
    began = time.monotonic()
    one.stop(10 + RUNTIMES)
    took = time.monotonic() - began
    state = podman("inspect", "--format", "{{.State.ExitCode}}", one.name).stdout.decode().strip()
    content, ended = kept(volume), last_line(volume)
    precious = {
        path
        for path, line in content.saved.items()
        if line.kind in PRECIOUS_KINDS and line.type == "f"
    }
    second = pod("sleep", "infinity", volume=volume)
    second.until("test", "-e", "/run/workspace-agent/status.json")
    second.text("workspace-agent", "rescue", "restore", "/data/runs/model.pt")
    back = {path: digest for path, digest in hashes(second).items() if path in before}
    shown = said(second, "rescue", "show", runs(volume)[0].stem)
    left = {line["path"]: line["why"] for line in shown["left"]}
    print(f"\n{small} small, {big * size} MB: out in {took:.1f} s, {len(precious)} precious kept")

    assert "143" == state, "its own end: a KILL would say 137"
    assert {path for path in before if "part-" not in path} <= set(back)
    assert {path: before[path] for path in back} == back
    assert small + 2 == len(precious)
    assert {"end": "the workload has ended"} == ended
    parts = {path for path in before if "part-" in path} - set(content.saved)
    assert parts
    assert parts == covered(left, parts)
    assert all(left.values())


PRECIOUS_KINDS = {name for name, kind in KINDS.items() if kind.value >= PRECIOUS}


def covered(left: dict[str, str], paths: set[str]) -> set[str]:
    """Return which of *paths* are named, or the folder that they are in."""
    return {path for path in paths if path in left or path.rpartition("/")[0] in left}


def runs(volume: Path) -> list[Path]:
    return sorted(volume.glob(".workspace-agent/rescue/pods/**/*.jsonl"))


def last_line(volume: Path) -> dict:
    return json.loads(runs(volume)[-1].read_text().splitlines()[-1])


def test_the_workloads_own_end_is_one_too(pod, volume) -> None:
    """Over before the watcher would have looked; the code is its own."""
    script = "mkdir /root/work; echo mine >/root/work/mine.py; exit 7"
    first = pod("sh", "-c", script, volume=volume)
    code = first.wait()
    second = pod("sleep", "infinity", volume=volume)
    second.until("test", "-e", "/run/workspace-agent/status.json")

    assert 7 == code
    assert "mine\n" == second.text("cat", "/root/work/mine.py")


@pytest.fixture
def busy(pod, volume, until):
    """A pod with 300 files of which nothing is kept before it is told to end."""
    env = {**GRACE, "WORKSPACE_AGENT__RESCUE__MODE": "stop"}
    one = pod("sh", "-c", WORK.format(small=300, big=1, size=1), volume=volume, env=env)
    (volume / "go").touch()
    one.until("test", "-e", "/workspace/done")
    until(lambda: watch(one), "there is a watcher")
    return one


HOOK = ("workspace-agent", "--json", "hooks", "pre-stop")


def test_a_hook_that_is_delivered_twice_does_its_work_once(busy, volume) -> None:
    first, second = (json.loads(busy.text(*HOOK))["data"] for _ in range(2))
    lines = runs(volume)[0].read_text().splitlines()
    busy.stop()
    ended = runs(volume)[0].read_text().splitlines()

    assert first["saved"] >= 303
    assert 0 == second["saved"]
    assert second["unchanged"] == first["saved"]
    assert 1 == len(runs(volume))
    assert lines == ended[: len(lines)]
    assert not [line for line in ended[len(lines) :] if '"path"' in line], "nothing is saved again"
    assert [{"end": "the workload has ended"}] == [json.loads(line) for line in ended[-1:]]


def test_two_hooks_at_once_do_it_once(busy, volume, tmp_path) -> None:
    both = "for n in 1 2; do {} >/workspace/hook-$n & done; wait".format(" ".join(HOOK))
    busy.text("sh", "-c", both)
    data = [json.loads((volume / f"hook-{n}").read_text())["data"] for n in (1, 2)]

    assert 0 in {one["saved"] for one in data}
    assert 303 <= sum(one["saved"] for one in data)
    assert 1 == len(runs(volume))
    paths = [json.loads(line).get("path") for line in runs(volume)[0].read_text().splitlines()]
    paths = [path for path in paths if path]
    assert len(paths) == len(set(map(str, paths)))
