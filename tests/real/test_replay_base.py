"""What the image has already: it stays, it is not fetched again, and what is at odds is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import wheels

from workspace_agent.host import interpreter
from workspace_agent.model.problem import AgentError
from workspace_agent.replay.asked import Asked
from workspace_agent.replay.key import Policy
from workspace_agent.replay.place import Place
from workspace_agent.replay.step import Replay


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an index: a newer torch than the image's, and what needs one."""
    made = tmp_path_factory.mktemp("index")
    for version in ("2.6.0", "2.9.0"):
        wheels.wheel(made, "torch", version, needs=["nvidia-cuda"])
    wheels.wheel(made, "nvidia-cuda", "12.4", {"nvidia_cuda.py": "x = 1\n" * 500_000})
    wheels.wheel(made, "accelerate", "0.0.1")
    wheels.wheel(made, "accelerate", "1.5.0", needs=["torch>=2.0"])
    return made


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the image's Python, with a torch of a local version that no index has."""
    tmp_path = tmp_path_factory.mktemp("image")
    base = tmp_path / "image"
    subprocess.run([sys.executable, "-m", "venv", str(base)], check=True)
    own = wheels.wheel(tmp_path / "own", "torch", "2.8.0+cu128")
    pip = [f"{base}/bin/python", "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(own)], check=True)
    return base


@pytest.fixture(params=["uv", "pip"])
def replay(request: pytest.FixtureRequest, tmp_path: Path, image: Path, index: Path):
    """Return a function that makes the step for a requirements file's text and a policy."""
    tools = tmp_path / "tools"
    tools.mkdir()
    if request.param == "uv":
        uv = shutil.which("uv", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
        if uv is None:
            pytest.skip("needs uv: pip install uv")
        (tools / "uv").symlink_to(uv)
    env = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path), **wheels.offline(index)}

    def make(text: str, **policy: object) -> Replay:
        (tmp_path / "volume").mkdir(exist_ok=True)
        (tmp_path / "volume/requirements.txt").write_text(text)
        return Replay(
            asked=Asked((f"{tmp_path}/volume/requirements.txt",), "requirements.txt"),
            place=Place(f"{tmp_path}/place"),
            volume=f"{tmp_path}/volume",
            python=interpreter.find(f"{image}/bin"),
            policy=Policy(protected=("torch", "nvidia-*"), **policy),
            env=env,
            logs=f"{tmp_path}/logs",
            boot_id="b",
        )

    return make


def version(python: str) -> str:
    words = "import torch; print(torch.__version__)"
    done = subprocess.run([python, "-I", "-c", words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_images_torch_stays_and_what_needs_it_is_the_newest(replay, image: Path) -> None:
    step = replay("accelerate\n")
    step.apply(lambda _: None)
    mark = step.place.mark(step.place.used())

    assert {"accelerate": "1.5.0"} == mark.dists
    assert () == mark.said
    assert "2.8.0+cu128" == version(f"{step.place.env}/bin/python")


def test_a_pin_against_the_image_is_laid_over_it_and_told_with_its_cost(
    replay, image: Path
) -> None:
    step = replay("accelerate\n\ntorch==2.6.0\n")
    step.apply(lambda _: None)
    mark = step.place.mark(step.place.used())

    assert {"accelerate": "1.5.0", "nvidia-cuda": "12.4", "torch": "2.6.0"} == mark.dists
    (said,) = mark.said
    words = "requirements.txt:3 wants torch==2.6.0; the image has 2.8.0+cu128; this adds 2.9 MiB"
    assert f"{words} per restore" == said
    assert ["2.6.0", "2.8.0+cu128"] == [
        version(f"{one}/bin/python") for one in (step.place.env, image)
    ]


def test_keep_base_keeps_the_images_and_says_so(replay) -> None:
    step = replay("torch==2.6.0\naccelerate\n", on_conflict="keep-base")
    step.apply(lambda _: None)
    mark = step.place.mark(step.place.used())

    assert "torch" not in mark.dists
    assert "1.5.0" == mark.dists["accelerate"]
    assert "wants torch==2.6.0; the image has 2.8.0+cu128" in mark.said[0]
    assert "2.8.0+cu128" == version(f"{step.place.env}/bin/python")


def test_fail_adds_nothing(replay) -> None:
    step = replay("torch==2.6.0\naccelerate\n", on_conflict="fail")
    with pytest.raises(AgentError) as raised:
        step.apply(lambda _: None)

    assert "replay.conflict" == raised.value.problem.slug
    assert "2.8.0+cu128" == version(f"{step.place.env}/bin/python")
    assert not list(Path(step.place.env).glob("lib/*/site-packages/accelerate*"))
