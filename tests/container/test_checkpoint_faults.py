"""Whatever dies, fills up or was tampered with: the workload runs, and nothing bad comes back."""

from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from checkpoint_tools import LEAST, command, ledger, more, starts, ticks, versions

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.container

PACKAGE = Path(__file__).parents[2] / "workspace_agent"
IN_IMAGE = "/opt/workspace-agent/workspace_agent"

# What can be broken at the border of each function: checkpoint_lab/faults.py.
ARMED = (
    "app/carrying", "app/checkpointing", "app/engine", "app/perform", "app/reviving",
    "app/standby", "checkpoint/artifact", "checkpoint/contract", "checkpoint/digests",
    "checkpoint/dump", "checkpoint/freezing", "checkpoint/journal", "checkpoint/restore",
    "checkpoint/unpack",
)  # fmt: skip
_ARM = """
exec(compile(open("/lab/faults.py").read(), "faults.py", "exec"), _faults := {})
_faults["arm"](globals())
"""


@dataclass
class Shaky:
    """Starts containers whose agent breaks as planned."""

    start: Callable
    folder: Path
    options: tuple[str, ...]

    def __call__(self, *words: str, options: tuple[str, ...] = (), **more: object):
        return self.start(*words, options=(*LEAST, *self.options, *options), **more)

    def plan(self, at: str, do: str) -> None:
        """Do so where the call *at* begins, or with `at.` before it, where it ended."""
        when, name = ("after", at[6:]) if at.startswith("after ") else ("before", at)
        (self.folder / "plan").write_text(json.dumps({"at": name, "when": when, "do": do}))

    def has_struck(self) -> bool:
        """Say whether that has come true, and forget it."""
        try:
            (self.folder / "done").unlink()
        except FileNotFoundError:
            return False
        return True


@pytest.fixture
def shaky(placeholder_pod: Callable, tmp_path: Path) -> Shaky:
    armed, faults, none = tmp_path / "armed", tmp_path / "faults", tmp_path / "none"
    for folder in (armed, faults, none):
        folder.mkdir()
    mounts = [f"--volume={faults}:/faults"]
    for name in ARMED:
        copy = armed / f"{Path(name).parent}-{Path(name).name}.py"
        copy.write_text((PACKAGE / f"{name}.py").read_text() + _ARM)
        mounts.append(f"--volume={copy}:{IN_IMAGE}/{name}.py:ro")
    for name in ("app", "checkpoint"):  # the image's bytecode is not compared with its source
        mounts.append(f"--volume={none}:{IN_IMAGE}/{name}/__pycache__:ro")
    return Shaky(placeholder_pod, faults, tuple(mounts))


def lives(pod, until: Callable) -> None:
    """Assert that the workload runs, all of it, and has not missed anything."""
    until(lambda: not stopped(pod), "nobody in it is stopped")
    before = len(ticks(pod))
    said = more(pod, until, 4)[before:]
    assert {verdict for _, verdict, _ in said} == {"ok"}
    assert len({token for _, _, token in said}) == 1, "one workload runs, and no other beside it"


def stopped(pod) -> list[str]:
    return [row for row in pod.text("ps", "-e", "-o", "stat=,pid=,args=").splitlines()
            if row[:1] in "Tt"]  # fmt: skip


def stages(volume: Path) -> list[Path]:
    return list((volume / ".workspace-agent/checkpoints").glob("*/tmp-*"))


def current(volume: Path) -> str:
    (path,) = (volume / ".workspace-agent/checkpoints").glob("*/current")
    return path.read_text().strip()


DUMP_STEPS = (
    "contract.Contract.before", "after contract.Contract.before", "artifact.Shelf.stage",
    "dump._dump", "after dump._dump", "dump._carry", "after carrying.listed",
    "digests.Follower.finish", "after digests.Follower.finish", "artifact.Shelf.publish",
    "artifact.Shelf.accept", "artifact.Shelf.choose",
)  # fmt: skip


@pytest.mark.parametrize(
    "how", ["--label=frozen", pytest.param("--leave-running", marks=pytest.mark.long)]
)
def test_whoever_makes_a_checkpoint_may_die_anywhere(
    how: str, shaky: Shaky, volume: Path, until: Callable
) -> None:
    pod = shaky(*command("tree"), volume=volume)
    more(pod, until)
    pod.text("workspace-agent", "checkpoint", "--leave-running")
    first = current(volume)
    for at in DUMP_STEPS:
        shaky.plan(at, "die")
        done = pod.exec("workspace-agent", "checkpoint", how)
        assert shaky.has_struck(), at
        assert done.returncode == 1, (at, done)
        lives(pod, until)
        assert stages(volume) == [], at
        assert current(volume) == first, at
    pod.remove()
    second = shaky(*command("tree"), volume=volume)
    more(second, until)
    assert len(starts(volume)) == 1


def test_a_checkpoint_goes_on_without_its_guardian(
    shaky: Shaky, volume: Path, until: Callable
) -> None:
    pod = shaky(*command("tree"), volume=volume)
    more(pod, until)
    for at in ("dump._dump", "artifact.Shelf.publish"):
        shaky.plan(at, "orphan")
        done = pod.exec("workspace-agent", "checkpoint", "--leave-running")
        assert done.returncode == 137 and shaky.has_struck()
        until(lambda: not pod.exec(*NOBODY).returncode, "it is made all the same")
        lives(pod, until)
    assert len(versions(volume)) == 2 and not stages(volume)


# Nobody makes a checkpoint.
NOBODY = ("flock", "-n", "/run/workspace-agent/freezing.lock", "true")


def test_the_next_one_wakes_a_workload_whose_checkpoint_died_with_its_guardian(
    shaky: Shaky, volume: Path, until: Callable
) -> None:
    pod = shaky(*command("tree"), volume=volume)
    more(pod, until)
    shaky.plan("artifact.Shelf.publish", "both")
    assert pod.exec("workspace-agent", "checkpoint").returncode == 137
    until(lambda: shaky.has_struck() and stopped(pod), "it is stopped")
    pod.text("workspace-agent", "checkpoint", "--leave-running")

    lives(pod, until)
    assert not stages(volume)
    shaky.plan("artifact.Shelf.publish", "both")
    pod.exec("workspace-agent", "checkpoint")
    assert pod.stop() == 143  # and so does that of the pod's end
    second = shaky(*command("tree"), volume=volume)
    more(second, until)
    assert len(starts(volume)) == 1


# Where the volume fails, and what the verb calls it.
VOLUME_STEPS = {
    "artifact.want": "cannot be reached", "artifact.Shelf.stage": "could not be written",
    "dump._carry": "could not be written", "digests.Follower.finish": "could not be written",
    "artifact.Shelf.publish": "could not be written",
    "artifact.Shelf.accept": "could not be written",
    "artifact.Shelf.choose": "could not be written",
    "after artifact.Shelf.choose": "could not be written",
}  # fmt: skip


def test_a_volume_that_fails_anywhere_leaves_the_workload_and_the_last_checkpoint(
    shaky: Shaky, volume: Path, until: Callable
) -> None:
    pod = shaky(*command("tree"), volume=volume)
    more(pod, until)
    pod.text("workspace-agent", "checkpoint", "--leave-running")
    first = current(volume)
    for count, (at, words) in enumerate(VOLUME_STEPS.items()):
        number = (errno.ENOSPC, errno.EIO, errno.EROFS)[count % 3]
        shaky.plan(at, str(number))
        done = pod.exec("workspace-agent", "checkpoint")
        said = done.stderr.decode()
        assert shaky.has_struck() and done.returncode == 1, (at, said)
        assert words in said and os.strerror(number) in said, (at, said)
        lives(pod, until)
        assert not stages(volume) and current(volume) == first, at
        assert [one.name for one in versions(volume)] == [first], at
        assert ledger(volume)[-1]["state"] == "failed" or at == "artifact.want", at
    pod.remove()
    second = shaky(*command("tree"), volume=volume)
    more(second, until)
    assert len(starts(volume)) == 1


# Notes on the volume what the container's layer is like where a start of its own begins.
LOOK = (
    "sh", "-c", "{ ls /opt /root /root/scratch; cat /etc/motd; } > /workspace/layer.$(cat"
    " /proc/sys/kernel/random/uuid) 2>&1; exec python3 /lab/lives.py outside",
)  # fmt: skip

RESTORE_STEPS = (
    "restore.restore", "after unpack._Unpacking.act", "after restore._run", "after restore._wake",
    "contract.Contract.restored", "engine._answer",
)  # fmt: skip
MORE_RESTORE_STEPS = (
    "restore._unpack", "unpack._Unpacking.act", "after restore._unpack", "restore._run",
    "restore._compare", "restore._wake", "reviving.Revive._restored", "after reviving.Revive.apply",
)  # fmt: skip


@pytest.mark.parametrize(
    "steps", [RESTORE_STEPS, pytest.param(MORE_RESTORE_STEPS, marks=pytest.mark.long)]
)
def test_whoever_restores_may_die_anywhere(
    steps: tuple[str, ...], shaky: Shaky, volume: Path, until: Callable
) -> None:
    frozen(shaky(*LOOK, volume=volume), until)
    for count, at in enumerate(steps, 2):
        shaky.plan(at, "die")
        pod = shaky(*LOOK, volume=volume)
        until(partial(has_started, volume, count), f"{at}: it starts afresh")
        assert shaky.has_struck(), (at, pod.err)
        lives(pod, until)
        running = pod.text("pgrep", "-f", "lives.py outside").split()
        assert len(running) == 2, (at, running)  # PID 1 has it in its command
        for name in ("restoring.json", "restored.json", "restoring.undo"):
            assert pod.exec("test", "-e", f"/run/workspace-agent/{name}").returncode, (at, name)
        assert pod.text("ls", "/run/workspace-agent/control") == "", at
        assert len({one.read_text() for one in volume.glob("layer.*")}) == 1, at
        frozen(pod, until)


def test_whoever_restores_may_die_once_pid_1_knows(
    shaky: Shaky, volume: Path, until: Callable
) -> None:
    frozen(shaky(*LOOK, volume=volume), until)
    for at in ("restore.keep", "after restore.keep"):
        shaky.plan(at, "die")
        pod = shaky(*LOOK, volume=volume)
        lives(pod, until)
        assert shaky.has_struck(), at
        frozen(pod, until)
    assert len(starts(volume)) == 1


def has_started(volume: Path, count: int) -> bool:
    return len(starts(volume)) == count


def frozen(pod, until: Callable) -> None:
    """Let a workload run for a while, and freeze it by stopping its pod."""
    more(pod, until)
    assert pod.stop() == 143
    pod.remove()
