"""What is at risk is what is in the container's own layer, to the file: looked up from outside."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from watch_tools import (
    DOCKERFILE,
    SCANNED,
    copied,
    kept,
    path_of,
    refusing,
    said,
    since,
    sums,
    text,
    truth,
    watch,
    watched,
    watcher,
)

from workspace_agent.watch.kinds import KINDS, PRECIOUS

pytestmark = pytest.mark.container

AMOUNTS = [2_000, pytest.param(20_000, marks=pytest.mark.long)]
SCRATCH = "--tmpfs=/scratch"


@pytest.fixture(scope="module")
def image(build, image: str) -> str:
    return build("watch", DOCKERFILE.format(base=image), image)


def everything(pod) -> dict[str, dict]:
    return {path_of(one): one for one in said(pod, "at-risk", "--all", "--hidden")["files"]}


def compared(found: dict[str, dict], true: dict[str, dict]) -> str:
    """Hold *found* to the truth; returns the figures as a line."""
    missed, extra = set(true) - set(found), set(found) - set(true)
    recall = 1 - len(missed) / len(true)
    precision = 1 - len(extra) / len(found)
    used, really = (sum(one["bytes"] for one in each.values()) for each in (found, true))
    line = (f"{len(true)} files, recall {recall:.5f}, precision {precision:.5f},"
            f" {used} of {really} bytes")  # fmt: skip
    assert recall == 1.0, (line, sorted(map(text, missed))[:20])
    assert precision >= 0.999, (line, sorted(map(text, extra))[:20])
    assert abs(used - really) <= really / 100, line
    return line


def nasty(pod, volume: Path, *options: str, amount: int = 300):
    script = ("python3", "/nasty.py", str(amount))
    return pod(*script, volume=volume, options=[copied("nasty.py"), SCRATCH, *options])


@pytest.fixture
def at_work(pod, volume, until):
    """Return `at_work(*options, amount)`: a pod that waits for /workspace/go to be nasty."""

    def start(*options: str, amount: int = 300):
        one = nasty(pod, volume, *options, amount=amount)
        until(lambda: watch(one), "the watcher looks")
        return one

    return start


def go(pod, volume: Path, until) -> None:
    (volume / "go").touch()
    pod.until("test", "-e", "/workspace/done", what="all that is nasty is done")


def agrees(pod, found: dict[str, dict], until) -> None:
    """Wait until the watcher itself, which hears of changes, has the same sums."""
    wanted = sums(list(found.values()))
    until(lambda: watched(pod) == wanted, f"the watcher has {wanted}", SCANNED)


@pytest.mark.parametrize("amount", AMOUNTS)
def test_all_of_a_nasty_load_is_found_and_nothing_else(
    at_work, volume, podman, enter, until, amount
) -> None:
    pod = at_work(amount=amount)
    before, found_before = truth(pod, podman, enter), everything(pod)
    go(pod, volume, until)
    found, data = everything(pod), said(pod, "at-risk")
    after = truth(pod, podman, enter)
    true = since(before, after)
    print("\n" + compared(found, true))
    known = {path: one["added"] for path, one in found.items() if one["added"] is not None}
    whole = sum(one["bytes"] for one in after.values())

    assert {} == found_before
    assert {"deep.py"} >= {os.path.basename(path) for path in set(found) - set(known)}
    assert {path: not true[path]["origin"] for path in known} == known, "new, or copied up"
    assert {"mapped", "linked", "linked-too", "mode", "owner", "attribute", "appended"} == {
        os.path.basename(path) for path, added in known.items() if not added
    }
    assert not [path for path in found if path.startswith(("/scratch", "/dev", "/workspace"))]
    assert "/scratch" in {one["path"] for one in data["volatile"]}
    assert "exact" == data["mode"]
    assert abs(data["bytes"] - whole) <= whole / 100
    agrees(pod, found, until)


# The kernel's word for "no more", and for "no more of these".
NO_INSTANCE = {"names": ["inotify_init", "inotify_init1"], "action": "SCMP_ACT_ERRNO",
               "errnoRet": errno.EMFILE}  # fmt: skip
NO_WATCH = {"names": ["inotify_add_watch"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSPC}


@pytest.mark.parametrize(
    ("rules", "states"),
    [
        pytest.param((), {"on"}, id="healthy"),
        # each waits for a scan of everything, which comes once a minute
        pytest.param((NO_WATCH,), {"off"}, id="no watches", marks=pytest.mark.long),
        pytest.param((NO_INSTANCE,), {"off"}, id="refused"),
    ],
)
def test_the_watcher_finds_and_keeps_the_same_whatever_becomes_of_inotify(
    at_work, volume, podman, enter, until, tmp_path, rules, states
) -> None:
    pod = at_work(*([refusing(tmp_path, *rules)] if rules else []))

    state = same(pod, volume, podman, enter, until)

    assert state["doorbell"] in states, state
    assert bool(state["doorbell_why"]) is bool(rules)


# A namespace of its own, in which users have a purse of their own; nothing starts before it is set.
OWN_PURSE = ("--uidmap=0:0:65536", """--entrypoint=["sh", "-c", "until [ -e /workspace/limited ];\
 do sleep 0.05; done; exec /opt/workspace-agent/entrypoint.sh \\"$@\\"", "sh"]""")  # fmt: skip


def test_the_same_with_fewer_watches_than_folders(pod, volume, podman, enter, until) -> None:
    one = nasty(pod, volume, *OWN_PURSE)
    number = podman("inspect", "--format", "{{.State.Pid}}", one.name).stdout.decode().strip()
    set_limit = "echo 60 >/proc/sys/user/max_inotify_watches"
    done = enter("nsenter", "--user", "--target", number, "sh", "-c", set_limit)
    assert 0 == done.returncode, done.stderr
    (volume / "limited").touch()
    until(lambda: watch(one), "the watcher looks")

    state = same(one, volume, podman, enter, until)

    assert "fewer" == state["doorbell"], state
    assert "watches are used up" in state["doorbell_why"]


def same(pod, volume, podman, enter, until) -> dict:
    """See that all is found and all that is precious kept; returns what the watcher says first."""
    before, state = truth(pod, podman, enter), watch(pod)
    go(pod, volume, until)
    found = everything(pod)
    compared(found, since(before, truth(pod, podman, enter)))
    agrees(pod, found, until)
    wanted = {path for path, one in found.items() if is_kept_at_once(path, one)}
    until(lambda: wanted <= files_of(kept(volume)), "what is precious is on the volume")
    assert files_of(kept(volume)) == wanted
    return state


def is_kept_at_once(path: str, one: dict) -> bool:
    precious = KINDS[one["kind"]].value >= PRECIOUS and one["size"] <= 64 << 20
    return precious and not path.endswith(("-wal", "-shm"))


def files_of(content) -> set[str]:
    return {path for path, one in content.saved.items() if one.type != "d"}


@pytest.mark.parametrize("amount", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_what_happened_while_it_was_frozen_is_found_by_the_next_scan(
    at_work, volume, until, amount
) -> None:
    """More events than the kernel's queue has room for."""
    pod = at_work()
    go(pod, volume, until)
    agrees(pod, everything(pod), until)
    number = watcher(pod)
    names = f"touch $(seq -f /root/many/$d/%.0f.py {amount // 10})"
    many = f"for d in $(seq 10); do mkdir -p /root/many/$d; {names}; done"
    pod.text("kill", "-STOP", str(number))
    pod.text("sh", "-c", many)
    pod.text("kill", "-CONT", str(number))
    found = everything(pod)

    assert amount <= sum(path.startswith("/root/many/") for path in found)
    agrees(pod, found, until)
    assert number == watcher(pod)
