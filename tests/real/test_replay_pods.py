"""Pods on one volume, pods of another image, pods that are short of room."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from agents import Running, children
from pods import Pods, digests, fleet, wait_until
from slow_volumes import mounted
from wheels import wheel


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def inside(pod: Running) -> list[int]:
    """Return the processes of *pod*."""
    found, queue = [], children(pod.pid)
    while queue:
        found.append(queue.pop())
        queue += children(found[-1])
    return found


def test_two_pods_at_once_make_one_environment(pods: Pods) -> None:
    expected = fleet(pods.wheels)
    pods.ask("p0\n")
    both = [pods.start(), pods.start()]
    for pod in both:
        assert "settled well" in pod.until("settled").out
        assert expected == {name: pods.dists(pod)[name] for name in expected}
    assert 1 == len(pods.manifests())
    assert 1 == sum("tells making" in pod.out for pod in both)  # the other one waited


@pytest.mark.long  # until the frozen pod's lease is over
def test_a_frozen_pod_holds_nobody_up(pods: Pods) -> None:
    expected = fleet(pods.wheels)
    pods.ask("p0\n")
    frozen = pods.start().until("tells installing")
    stopped = inside(frozen)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    other = pods.start()
    wait_until(lambda: "tells another" in other.out, "the other one waits")
    for _ in range(5):  # 30 s each
        if "settled" not in other.out:
            with_patience(lambda: "settled" in other.out)
    assert "settled well" in other.out
    assert expected == {name: pods.dists(other)[name] for name in expected}
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    assert "settled well" in frozen.until("settled").out
    assert 1 == len(pods.manifests())


def with_patience(holds: Callable[[], object]) -> None:
    with suppress(pytest.fail.Exception):
        wait_until(holds, "the lease of a pod that does nothing is over")


def test_a_pod_without_room_leaves_the_build_to_others(pods: Pods) -> None:
    expected = fleet(pods.wheels)
    pods.ask("p0\n")
    with tmpfs(pods.folder / "small", "300k") as small:
        pod = pods.whole(disk=small)
        assert "failed replay.no-room" in pod.out or "failed os [Errno 28]" in pod.out
        assert {"bare"} == set(os.listdir(small / "envs"))
        assert not (small / "work/cache").exists()
        pods.kill_now(pod)
    after = pods.whole()
    assert "settled well" in after.out
    assert expected == {name: pods.dists(after)[name] for name in expected}


@pytest.mark.long
def test_a_pod_without_room_for_what_is_stored_says_so(pods: Pods) -> None:
    fleet(pods.wheels, files=60)
    pods.ask("p0\n")
    pods.whole()
    with tmpfs(pods.folder / "small", "400k") as small:
        pod = pods.whole(disk=small)
        assert "failed replay.no-room" in pod.out
        pods.kill_now(pod)
    assert 1 == len(pods.manifests())
    assert "tells restoring" in pods.whole().out


def test_memory_is_used_where_there_is_some_and_the_disk_else(pods: Pods) -> None:
    expected = fleet(pods.wheels)
    pods.ask("p0\n")
    pods.whole()
    pod = pods.whole(memory="64m", hold=True)
    assert os.readlink(pods.env_of(pod)).startswith("/dev/shm/")
    seen = Path(f"/proc/{inside(pod)[-1]}/root") / os.readlink(pods.env_of(pod))[1:]
    infos = (seen / "lib").glob("python3*/site-packages/*.dist-info")
    assert expected.keys() <= {one.name.split("-")[0] for one in infos}

    for too_small in ("40k", "64m,noexec"):  # the second is what engines make
        assert not pods.env_of(pods.whole(memory=too_small)).is_symlink()


def test_a_volume_that_is_full_takes_nothing_and_the_pod_has_its_packages(pods: Pods) -> None:
    expected = fleet(pods.wheels)
    with mounted(pods.volume, pods.folder / "back") as volume:
        pods.ask("p0\n")
        volume.ctl("quota 1")
        pod = pods.whole()
        assert "settled replay.not-stored" in pod.out
        assert expected == {name: pods.dists(pod)[name] for name in expected}
        assert not any(volume.back.rglob("part-*"))
        volume.ctl("heal")
        assert "settled well" in pods.whole().out
        assert 1 == len(pods.manifests())


def pythons() -> list[str]:
    """Return the folders of two interpreters of different ABIs, or skip the test."""
    found = {}
    for path in (*Path("/root/.pyenv/versions").glob("3.1[0-9]*/bin"), Path("/usr/bin")):
        python = path / "python3"
        if (path.parent / "lib").exists() and python.exists():
            real = os.path.basename(os.path.realpath(python))
            has_pip = subprocess.run([python, "-m", "pip", "-V"], capture_output=True, check=False)
            if has_pip.returncode == 0:
                found[real] = str(path)
    return list(found.values())[:2] if len(found) > 1 else pytest.skip("one interpreter only")


@pytest.mark.long
def test_another_python_has_its_own_environment_and_the_first_one_stays(pods: Pods) -> None:
    fleet(pods.wheels, count=2)
    pods.ask("p0\n")
    one, other = pythons()
    said = []
    for path in (one, other, one, other):
        pods.path = path
        said.append("tells restoring" in pods.whole().out)
    assert [False, False, True, True] == said
    assert 2 == len(pods.manifests())


def test_an_upgrade_of_the_image_below_builds_anew_and_back_does_not(pods: Pods) -> None:
    wheel(pods.wheels, "top", "1.0", needs=("base>=1",))
    pods.ask("top\n")
    image = pods.image()
    said = []
    for version in ("1.0", "2.0", "1.0"):
        for old in image.glob("lib/python3*/site-packages/base-*"):
            shutil.rmtree(old)
        info = next(image.glob("lib/python3*/site-packages")) / f"base-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: base\nVersion: {version}\n")
        (info / "RECORD").write_text("")
        (info / "INSTALLER").write_text("pip\n")
        before = digests(image)
        pod = pods.whole()
        said.append("tells restoring" in pod.out)
        assert {"top": "1.0"} == pods.dists(pod)  # the image's own is not there twice
        assert before == digests(image)
    assert [False, False, True] == said


@pytest.mark.long
def test_a_truncated_part_is_built_anew(pods: Pods) -> None:
    expected = fleet(pods.wheels)
    pods.ask("p0\n")
    pods.whole()
    (manifest,) = pods.manifests()
    part = manifest.with_name("part-00")
    os.truncate(part, part.stat().st_size // 2)
    pod = pods.whole()
    assert "settled well" in pod.out
    assert "tells making" in pod.out
    assert expected == json.loads(pods.manifests()[0].read_text())["mark"]["dists"]
    assert "tells restoring" in pods.whole().out
