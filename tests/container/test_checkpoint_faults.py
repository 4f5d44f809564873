"""Whatever dies, fills up or was tampered with: the workload runs, and nothing bad comes back."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from checkpoint_tools import LEAST, command, ledger, more, starter, starts, ticks, versions

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


@pytest.fixture
def pod(placeholder_pod: Callable) -> Callable:
    """Starts containers that may freeze."""
    return starter(placeholder_pod)


@pytest.fixture
def kept(pod: Callable, volume: Path, until: Callable, tmp_path: Path) -> Callable[[], Path]:
    """Return what makes a copy of a volume with two versions of one workload."""
    first = pod("plain", volume)
    more(first, until)
    first.text("workspace-agent", "checkpoint", "--leave-running")
    frozen(first, until)
    count = itertools.count()

    def copy() -> Path:
        to = tmp_path / f"copy-{next(count)}"
        shutil.copytree(volume, to, symlinks=True)
        return to

    return copy


def flip(path: Path, at: int = -1) -> None:
    """Turn one bit of a file, by default in its middle."""
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 2] ^= 4
    path.write_bytes(data)


def images(version: Path, kind: str) -> Path:
    return sorted(version.glob(f"criu/{kind}*.img"))[0]


def swap(version: Path) -> None:
    other = next(one for one in version.parent.iterdir() if one != version)
    version.rename(version.parent / "x")
    other.rename(version)
    (version.parent / "x").rename(other)


def graft(version: Path) -> None:
    """Take the pages of another version: whole, and well formed."""
    other = next(one for one in version.parent.iterdir() if one != version)
    shutil.copy(images(other, "pages"), images(version, "pages"))


def link(version: Path) -> None:
    path = images(version, "core")
    path.rename(version.parent.parent / "elsewhere")
    path.symlink_to("../../../elsewhere")


def link_folder(version: Path) -> None:
    version.rename(version.parent.parent / "elsewhere")
    version.symlink_to("../elsewhere")


def edit(version: Path) -> None:
    path = version / "MANIFEST.json"
    text = path.read_text()
    assert '"generation": 0' in text
    path.write_text(text.replace('"generation": 0', '"generation": 4'))


# What is done to a version, and what the message names.
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the pages": (lambda one: flip(images(one, "pages")), "criu/pages-1.img"),
    "a bit of the registers": (lambda one: flip(images(one, "core")), "criu/core-"),
    "a bit of the tree": (lambda one: flip(images(one, "pstree")), "criu/pstree.img"),
    "a bit of what is carried": (lambda one: flip(one / "carried.tar"), "carried.tar"),
    "a digit of the manifest": (edit, "versions/"),
    "a shorter image": (lambda one: os.truncate(images(one, "pages"), 4096), "criu/pages-1.img"),
    "no pages": (lambda one: images(one, "pages").unlink(), "criu/pages-1.img"),
    "no manifest": (lambda one: (one / "MANIFEST.json").unlink(), "versions/"),
    "one file more": (lambda one: (one / "criu/x.img").write_text("x"), "criu/x.img"),
    "another version's place": (swap, "versions/"),
    "another version's pages": (graft, "criu/pages-1.img"),
    "a link for a file": (link, "criu/core-"),
    "a link for the folder": (link_folder, "versions/"),
}


# The others take as long, and go the same ways.
USUAL = ("a bit of the pages", "a bit of the tree", "a bit of what is carried", "a shorter image",
         "no manifest", "another version's pages", "a link for the folder")  # fmt: skip


@pytest.mark.parametrize("which", ["usual", pytest.param("other", marks=pytest.mark.long)])
def test_a_version_that_is_not_as_it_was_written_is_not_restored(
    which: str, pod: Callable, kept: Callable[[], Path], until: Callable
) -> None:
    for what, (damage, named) in DAMAGE.items():
        if (what in USUAL) == (which == "usual"):
            copy = kept()
            damage(versions(copy)[-1])
            starts_afresh(what, pod("plain", copy), copy, named, until)


@pytest.mark.long
def test_no_bit_of_any_file_of_a_version_may_differ(
    pod: Callable, kept: Callable[[], Path], until: Callable
) -> None:
    paths = [path for path in versions(kept())[-1].rglob("*") if path.is_file()]
    assert len(paths) > 12
    for number, path in enumerate(path for path in paths if path.stat().st_size):
        copy = kept()
        version = versions(copy)[-1]
        there = version / str(path).partition(f"/{version.name}/")[2]
        flip(there, random.Random(number).randrange(there.stat().st_size))
        name = str(there.relative_to(version))
        named = name if name != "MANIFEST.json" else "versions/"
        starts_afresh(name, pod("plain", copy), copy, named, until)


def starts_afresh(what: str, one, volume: Path, named: str, until: Callable) -> None:
    """Assert that a workload is a new one, and that the log says why, and names that."""
    until(partial(has_started, volume, 2), f"{what}: it starts afresh")
    until(lambda: ticks(one), f"{what}: it ticks")
    assert {token for _, _, token in ticks(one)} == {starts(volume)[-1][1]}, what
    assert named in one.err and "(checkpoint." in one.err, (what, one.err)
    one.remove()


SLOW = """#!/bin/sh
[ "$1" != dump ] || { touch /workspace/dumping; sleep 1000; }
exec /opt/criu/lib/ld.so --library-path /opt/criu/lib /opt/criu/criu.bin "$@"
"""

# Ends well at a TERM.
POLITE = ("python3", "-c", "import signal, sys\n"
          "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
          "print('up', flush=True)\nwhile True: signal.pause()")  # fmt: skip


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """Mount a CRIU that dumps for ever."""
    path = tmp_path / "criu"
    path.write_text(SLOW)
    path.chmod(0o755)
    return f"--volume={path}:/opt/criu/criu:ro"


@pytest.mark.parametrize("times", [1, 2])
def test_a_checkpoint_that_takes_too_long_leaves_the_workload_its_own_end(
    times: int,
    slow: str,
    placeholder_pod: Callable,
    volume: Path,
    until: Callable,
    podman: Callable,
) -> None:
    env = {"WORKSPACE_AGENT__WORKLOAD__GRACE": "6s"}
    one = placeholder_pod(*POLITE, volume=volume, options=(*LEAST, slow), env=env)
    until(lambda: "up" in one.out, "it runs")
    for _ in range(times):
        podman("kill", "--signal", "TERM", one.name)
        until((volume / "dumping").exists, "it is dumped")

    assert one.wait() == 7
    assert not stages(volume) and not versions(volume)
    assert ledger(volume)[-1]["state"] == "failed"


def test_a_checkpoint_may_be_stopped_and_another_one_waits_for_no_one(
    slow: str, pod: Callable, volume: Path, until: Callable
) -> None:
    one = pod("plain", volume, slow)
    more(one, until)
    one.text("sh", "-c", "workspace-agent checkpoint > /tmp/said 2>&1 & echo $! > /tmp/pid")
    until((volume / "dumping").exists, "it is dumped")
    assert one.exec("workspace-agent", "checkpoint").returncode == 5
    one.text("sh", "-c", "kill $(cat /tmp/pid)")
    until(lambda: not one.exec(*NOBODY).returncode, "it has ended")
    lives(one, until)
    late = one.exec("workspace-agent", "checkpoint", "--timeout", "1")

    assert late.returncode == 1, late
    lives(one, until)
    assert not stages(volume) and not versions(volume)
    assert "criu" not in one.text("ps", "-e", "-o", "args=")


HOOK = """#!/bin/sh
echo "$(basename $(dirname $0)) $WORKSPACE_CHECKPOINT_OUTCOME" >> /workspace/told
"""


@pytest.mark.parametrize("how", ["exit 3", "exec sleep 1000", "kill -9 $$"])
def test_a_hook_that_says_no_hangs_or_dies_keeps_a_checkpoint_from_being_made(
    how: str, pod: Callable, volume: Path, until: Callable
) -> None:
    for name, text in (("before.d/10-well", HOOK), ("before.d/05-bad", HOOK + how),
                       ("after.d/10-well", HOOK), ("after.d/05-bad", HOOK),
                       ("after.d/01-never", HOOK)):  # fmt: skip
        path = volume / "checkpoint.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    one = pod("plain", volume, "--env=WORKSPACE_AGENT__CHECKPOINT__TIMEOUT=2s")
    more(one, until)
    done = one.exec("workspace-agent", "checkpoint")

    assert done.returncode == 1 and b"05-bad" in done.stderr
    lives(one, until)
    assert not stages(volume) and not versions(volume)
    told = (volume / "told").read_text().split("\n")[:-1]
    assert told == ["before.d ", "before.d ", "after.d failed", "after.d failed"]


def test_a_workload_that_ends_while_it_is_asked_has_ended(
    pod: Callable, volume: Path, until: Callable
) -> None:
    path = volume / "checkpoint.d/before.d/end"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\npkill -9 -f lives.py\n")
    path.chmod(0o755)
    one = pod("plain", volume)
    more(one, until)
    one.exec("workspace-agent", "checkpoint")

    assert one.wait() == 137
    assert not versions(volume)


def test_a_volume_that_is_too_small_is_told_and_keeps_what_it_has(
    mounted: Callable, enter: Callable, pod: Callable, until: Callable
) -> None:
    path = mounted("tmpfs", "size=40m")
    one = pod("plain", path)
    until(lambda: ticks(one), "it ticks")
    one.text("workspace-agent", "checkpoint", "--leave-running")
    enter("sh", "-c", f"head -c 30m /dev/zero > {path}/ballast")
    first = one.text("sh", "-c", "cat /workspace/.workspace-agent/checkpoints/*/current")
    said = one.exec("workspace-agent", "checkpoint")

    assert said.returncode == 1 and b"no room" in said.stderr, said
    lives(one, until)
    assert one.text("sh", "-c", "cat /workspace/.workspace-agent/checkpoints/*/current") == first
    assert one.stop() == 143


def test_a_criu_whose_boot_was_killed_restores_nothing_later(
    placeholder_pod: Callable, volume: Path, until: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "criu"
    path.write_text(SLOW.replace("dump ]", "restore ]").replace("sleep 1000", LATE))
    path.chmod(0o755)
    options = (*LEAST, f"--volume={path}:/opt/criu/criu:ro")
    first = placeholder_pod(*command("plain"), volume=volume, options=options)
    frozen(first, until)
    one = placeholder_pod(*command("plain"), volume=volume, options=options)
    until((volume / "dumping").exists, "CRIU is at it")
    one.text("sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")  # the boot, and not CRIU
    until(partial(has_started, volume, 2), "it starts afresh")
    (volume / "go").touch()
    until(lambda: one.exec("pgrep", "-f", "/opt/criu/").returncode == 1, "CRIU is gone")

    lives(one, until)
    assert len(one.text("pgrep", "-f", "lives.py plain").split()) == 2


LATE = "until [ -e /workspace/go ]; do sleep 0.1; done"
