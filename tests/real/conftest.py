"""The fixtures of `agents.py`; whatever a test started ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # test modules import `agents`

from agents import (
    ENTRYPOINT,
    NAMESPACE,
    REPOSITORY,
    Place,
    Running,
    Terminal,
    children,
    is_over,
    wait_until,
)
from pods import Pods, can_contain
from rescued import on_disk  # noqa: F401  (a fixture)
from slow_volumes import Volume, mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    here = Place(tmp_path)
    here.home.mkdir()
    yield here
    while left := [pid for pid in here.started() if not is_over(pid)]:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def agent(place: Place) -> Iterator[Callable[..., Running]]:
    """Start `entrypoint.sh` with a workload; *before* stands in front of it."""
    started = []

    def start(
        *argv: str | bytes,
        env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
        entrypoint: str = ENTRYPOINT,
        **options: object,
    ) -> Running:
        given = place.environ() if env is None else env
        started.append(Running(place, [*before, entrypoint, *argv], env=given, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def volume(place: Place, tmp_path: Path) -> Iterator[Volume]:
    """Mount a slow volume where the place's volume is; skips where that cannot be."""
    with mounted(place.volume, tmp_path / "back") as volume:
        yield volume


@pytest.fixture
def install(tmp_path: Path) -> Path:
    """Return a copy of the agent that a test may damage."""
    root = tmp_path / "install"
    shutil.copytree(
        REPOSITORY / "workspace_agent", root / "workspace_agent",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    shutil.copy(ENTRYPOINT, root)
    shutil.copytree(REPOSITORY / "profiles", root / "profiles")
    return root


@pytest.fixture
def pid1(agent: Callable[..., Running]) -> Callable[..., Running]:
    """Start an agent as PID 1 of a namespace."""
    probe = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"needs the right to make PID namespaces (root): {probe.stderr.strip()}")

    def start(*argv: str, **options: object) -> Running:
        running = agent(*argv, before=NAMESPACE, **options)
        outer = running.process
        wait_until(lambda: children(outer.pid) or outer.poll() is not None, "the namespace")
        running.pid = next(iter(children(outer.pid)), outer.pid)
        return running

    return start


@pytest.fixture
def terminal(place: Place) -> Iterator[Callable[..., Terminal]]:
    """Start a command line as the leader of a session on a new terminal."""
    for name in ("setsid", "bash"):
        if not shutil.which(name):
            pytest.skip(f"needs {name}: apt-get install util-linux bash")
    started = []

    def start(*argv: str, **env: str) -> Terminal:
        given = place.environ(PS1="$ ", TERM="dumb", **env)
        started.append(Terminal(place, list(argv), given))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        os.close(one.master)


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    can_contain()
    made = Pods(tmp_path)
    yield made
    for pod in made.pods:
        pod.process.kill()
        pod.process.wait()
