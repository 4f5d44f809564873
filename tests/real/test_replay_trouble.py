"""Boots of the real agent with packages, where something around them is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agents import Place, Running, wait_until
from wheels import offline, wheel

Boot = Callable[..., Running]

HAS = "import hello; print('has', hello.__version__, flush=True)"


def end(pod: Running, place: Place) -> None:
    """End the pod once its environment is stored."""
    wait_until(lambda: stored(place), "the environment is stored")
    pod.process.terminate()
    pod.wait()
    wait_until(lambda: not place.started(), "all of the pod is gone")


def stored(place: Place) -> bool:
    return any(place.volume.glob(".workspace-agent/replay/store/*/*/manifest.json"))


@pytest.fixture
def boot(place: Place, agent: Callable[..., Running]) -> Callable[..., Running]:
    """Boot a pod with a new disk; its workload is a line of Python."""
    place.volume.mkdir(exist_ok=True)
    wheels = place.folder / "wheels"
    wheel(wheels, "hello", "1.0")

    def boot(code: str = HAS, **more: str) -> Running:
        assert not place.started()
        shutil.rmtree(place.runtime, ignore_errors=True)
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        env = place.environ(PATH=path, **{**offline(wheels), **more})
        return agent("python3", "-c", code, env=env)

    return boot


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("known", [True, False])
def test_a_read_only_volume_brings_back_and_builds(place: Place, boot: Boot, known: bool) -> None:
    (place.volume / "requirements.txt").write_text("hello\n")
    if known:
        end(boot(f"{HAS}; import time; time.sleep(1000)").until("has 1.0"), place)
        assert stored(place)
    with read_only(place.volume):
        pod = boot()
        assert (0, "has 1.0\n") == (pod.wait(), pod.out)
        assert "(volume.read-only)" in pod.err
        wait_until(lambda: not place.started(), "all of it is over")
