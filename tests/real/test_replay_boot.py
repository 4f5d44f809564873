"""Packages that a file on the volume asks for, through the real agent, without a network."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from agents import Place, Running, wait_until
from wheels import offline, wheel

TORCH = """
class version:
    cuda = "12.4"
class cuda:
    def get_arch_list():
        return ["sm_80", "sm_90"]
"""

SETUP = 'python3 -c "import hello; print(hello.__file__)" > "$WORKSPACE_VOLUME/said"\n'

USE = ("python3", "-c", "import hello, beside; print('has', hello.__version__)")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    if not importlib.util.find_spec("pip"):
        pytest.skip("needs an interpreter with pip: python -m ensurepip")
    folder = tmp_path / "wheels"
    wheel(folder, "hello", "1.0", needs=("beside>=2",))
    wheel(folder, "beside", "2.1")
    wheel(folder, "torch", "99.0", {"torch.py": TORCH})
    return folder


@pytest.fixture
def environ(place: Place, wheels: Path) -> Callable[..., Mapping[str, str]]:
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    return lambda **more: place.environ(PATH=path, **{**offline(wheels), **more})


def is_stored(place: Place) -> bool:
    store = place.volume / ".workspace-agent/replay/store"
    return any(store.glob("*/*/manifest.json"))


def end(running: Running, place: Place) -> None:
    """End the pod; what was in the container ends with it."""
    running.process.terminate()
    running.wait()
    wait_until(lambda: not place.started(), "all of the pod is gone")
    shutil.rmtree(place.runtime)


def test_a_requirements_file_needs_no_profile_and_no_second_installation(
    place: Place, agent: Callable[..., Running], wheels: Path, environ: Callable
) -> None:
    place.script(SETUP)
    (place.volume / "requirements.txt").write_text("hello\n")

    first = agent(
        *USE[:2], f"{USE[2]}; import time; time.sleep(1000)", env=environ(PYTHONUNBUFFERED="1")
    )
    assert "1.0" == first.word("has")
    wait_until(lambda: is_stored(place), "the environment is stored")
    end(first, place)
    assert f"{place.runtime}/python/env" in (place.volume / "said").read_text()
    (place.volume / "said").unlink()

    shutil.rmtree(wheels)
    second = agent(*USE, env=environ())
    assert 0 == second.wait()
    assert "has 1.0\n" == second.out
    assert f"{place.runtime}/python/env" in (place.volume / "said").read_text()
    assert "error" not in second.err


def test_a_torch_from_another_card_is_told_where_it_does_not_run(
    place: Place, agent: Callable[..., Running], environ: Callable
) -> None:
    place.volume.mkdir()
    (place.volume / "requirements.txt").write_text("torch==99.0\n")

    hopper = agent("sleep", "1000", env=environ(WORKSPACE_AGENT_GPU="9.0"))
    wait_until(lambda: is_stored(place), "the environment is stored")
    end(hopper, place)
    assert "replay." not in hopper.err

    blackwell = agent("sleep", "1000", env=environ(WORKSPACE_AGENT_GPU="12.0"))
    wait_until(lambda: "(replay.wrong-arch)" in blackwell.err, "the torch does not fit")
    assert "requirements_blackwell.txt" in blackwell.err
