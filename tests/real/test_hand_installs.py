"""What somebody installs by hand in a pod: noted on the volume, and back in the next one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from agents import REPOSITORY, Place, Running, wait_until
from wheels import offline, wheel

GIT_BACKEND = """
import shutil
def build_wheel(folder, config_settings=None, metadata_directory=None):
    return shutil.copy("ours-1.0-py3-none-any.whl", folder).rpartition("/")[2]
"""
GIT_PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "ours"
version = "1.0"
"""


def tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: pip install {name}, or the system's package of that name")
    return found


@dataclass
class Pod:
    """A pod on the place's volume, in a container of its own, with packages to install from."""

    place: Place
    start: Callable[..., Running]
    wheels: Path
    number: int = 0

    @property
    def runtime(self) -> Path:
        return self.place.folder / f"runtime-{self.number}"

    @property
    def env(self) -> dict[str, str]:
        return self.place.environ(
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            WORKSPACE_AGENT_RUNTIME=str(self.runtime),
            WORKSPACE_AGENT__REPLAY__CAPTURE="replay",
            WORKSPACE_AGENT__REPLAY__WAIT="0s",
            UV_FIND_LINKS=str(self.wheels),
            UV_OFFLINE="1",
            UV_NO_INDEX="1",
            UV_CACHE_DIR=str(self.place.folder / "cache"),
            **offline(self.wheels),
        )

    @property
    def captured(self) -> list[str]:
        """The packages of captured.in."""
        try:
            text = (self.place.volume / ".workspace-agent/replay/captured.in").read_text()
        except FileNotFoundError:
            return []
        return sorted(line for line in text.splitlines() if line and line[0] != "#")

    @property
    def state(self) -> dict[str, object]:
        path = self.place.volume / ".workspace-agent/replay/captured.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def python(self) -> str:
        return str(self.runtime / "python/env/bin/python")

    @property
    def site(self) -> Path:
        (found,) = (self.runtime / "python/env/lib").glob("python3*/site-packages")
        return found

    def boot(self, *argv: str) -> Running:
        """Start a fresh container on the same volume, with all of its packages in use."""
        self.number += 1
        running = self.start(
            *(argv or ("sh", "-c", "echo ready; exec sleep infinity")), env=self.env
        )
        return running.until("ready")

    def pip(self, *argv: str) -> None:
        self.do(self.python, "-m", "pip", *argv)

    def uv(self, verb: str, *argv: str) -> None:
        self.do(tool("uv"), "pip", verb, "--python", self.python, *argv)

    def do(self, *argv: str) -> None:
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def verb(self, *argv: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, "-m", "workspace_agent", *argv]
        return subprocess.run(
            whole, env=self.env, capture_output=True, text=True, check=False, cwd=REPOSITORY
        )

    def has(self, name: str) -> bool:
        code = f"import {name}"
        return subprocess.run([self.python, "-c", code], check=False, stderr=-3).returncode == 0

    def imports(self, *names: str) -> list[str]:
        return [name for name in names if self.has(name)]


@pytest.fixture
def pod(place: Place, agent: Callable[..., Running], tmp_path: Path) -> Pod:
    folder = tmp_path / "wheels"
    wheel(folder, "asked", "1.0")
    wheel(folder, "rich", "13.7.0", needs=("palette>=2", "markdown-it-py"))
    wheel(folder, "palette", "2.17.0")
    wheel(folder, "markdown-it-py", "3.0", needs=("mdurl~=0.1",))
    wheel(folder, "mdurl", "0.1.2")
    wheel(folder, "httpx", "0.27.0", needs=("anyio", "h11; python_version > '3'"),
          extras={"cli": ["rich"]})  # fmt: skip
    wheel(folder, "anyio", "4.0", needs=("h11",))
    wheel(folder, "h11", "0.14")
    place.volume.mkdir()
    (place.volume / "requirements.txt").write_text("asked\n")
    return Pod(place, agent, folder)


def repository(folder: Path) -> str:
    """Make a repository of the package `ours`; returns its commit."""
    wheel(folder, "ours", "1.0")
    (folder / "backend.py").write_text(GIT_BACKEND)
    (folder / "pyproject.toml").write_text(GIT_PROJECT)
    git = [tool("git"), "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for argv in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *argv], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_what_was_installed_by_hand_is_in_a_fresh_container(pod: Pod) -> None:
    commit = repository(pod.place.volume / "src/ours")
    url = f"git+file://{pod.place.volume}/src/ours"
    first = pod.boot()
    pod.pip("install", "rich")
    pod.uv("install", "httpx")
    pod.pip("install", url)
    expected = ["httpx>=0.27.0", f"ours @ {url}@{commit}", "rich>=13.7.0"]
    wait_until(lambda: pod.captured == expected, "three packages are captured")
    first.signal(signal.SIGTERM)
    first.wait()
    second = pod.boot()
    names = ("asked", "rich", "palette", "mdurl", "httpx", "anyio", "h11", "ours")

    assert list(names) == pod.imports(*names)

    pod.pip("uninstall", "-y", "rich", "ours")
    wait_until(lambda: pod.captured == ["httpx>=0.27.0"], "two are not captured any more")
    second.signal(signal.SIGTERM)
    second.wait()
    pod.boot()

    assert ["asked", "httpx", "anyio", "h11"] == pod.imports(*names)
