"""Pods that have only their packages brought back: a namespace each, with a disk of its own.

A killed pod loses all of its processes and its disk at once, as a container does; the place of the
environments has the same path in every pod, as in every container of an image.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from agents import Place, Running, wait_until
from wheels import offline, wheel

PROGRAM = str(Path(__file__).with_name("replay_pod.py"))

# A PID namespace, so that all of it ends with its first process, and mounts of its own.
CONTAINER = (
    "unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c",
    'mount --bind "$1" "$2" && mount -t tmpfs -o "$3" none /dev/shm && shift 3 && exec "$@"',
    "sh",
)  # fmt: skip


@dataclass
class Pods:
    """Pods on one *volume*, with *wheels* for an index."""

    folder: Path
    uv: bool = False
    pods: list[Running] = field(default_factory=list)
    path: str = os.path.dirname(sys.executable)

    def __post_init__(self) -> None:
        for path in (self.volume, self.top, self.folder / "home"):
            path.mkdir(exist_ok=True)

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def top(self) -> Path:
        """Where each pod has its environments."""
        return self.folder / "place"

    @property
    def store(self) -> Path:
        return self.volume / ".workspace-agent/replay"

    def ask(self, text: str) -> None:
        (self.volume / "requirements.txt").write_text(text)

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment of a pod; its PATH has uv only where the tests want it."""
        path = f"{self.path}:/usr/local/bin:/usr/bin:/bin"
        if self.uv:
            tools = self.folder / "tools"
            tools.mkdir(exist_ok=True)
            if not (tools / "uv").exists():
                (tools / "uv").symlink_to(uv())
            path += f":{tools}"
        return {"PATH": path, "HOME": str(self.folder / "home"), **offline(self.wheels), **more}

    def start(
        self,
        *,
        memory: str = "4k",
        disk: Path | None = None,
        env: Mapping[str, str] | None = None,
        **told: object,
    ) -> Running:
        """Start a pod on a new disk; *memory* are size and options of its /dev/shm."""
        if disk is None:
            disk = self.folder / f"disk-{len(self.pods)}"
            disk.mkdir()
        said = {
            "files": [str(self.volume / "requirements.txt")],
            "place": str(self.top),
            "volume": str(self.volume),
            "boot_id": uuid.uuid4().hex[:8],
            **told,
        }
        argv = [*CONTAINER, str(disk), str(self.top), f"size={memory}", sys.executable, PROGRAM]
        place = Place(self.folder)
        pod = Running(place, [*argv, json.dumps(said)], env=self.environ() if env is None else env)
        pod.disk = disk
        self.pods.append(pod)
        return pod

    def whole(self, **more: object) -> Running:
        """Let a pod come and settle."""
        return self.start(**more).until("settled")

    def kill(self, pod: Running) -> None:
        """End the pod, as a node does that dies."""
        pod.signal(signal.SIGKILL)
        pod.process.wait()

        def is_gone() -> bool:  # the last of it may be ending just now
            shutil.rmtree(pod.disk, ignore_errors=True)
            return not pod.disk.exists()

        wait_until(is_gone, "the pod's disk is gone")

    def kill_now(self, pod: Running) -> None:
        """End the pod, and leave its disk to who made it."""
        pod.process.kill()
        pod.process.wait()

    def image(self) -> Path:
        """Make an interpreter of our own, which has nothing but pip, and use it from now on."""
        top = self.folder / "image"
        argv = [sys.executable, "-m", "venv", "--without-pip", str(top)]
        subprocess.run(argv, check=True)
        site = next(top.glob("lib/python3*/site-packages"))
        own = Path(sys.prefix, site.relative_to(top))
        for one in own.glob("pip*"):
            (site / one.name).symlink_to(one)
        self.path = f"{top}/bin"
        return top

    def env_of(self, pod: Running) -> Path:
        """Return the environment that the pod has in use, on its disk."""
        return pod.disk / "envs" / os.readlink(pod.disk / "env").rpartition("/")[2]

    def dists(self, pod: Running) -> dict[str, str]:
        """Return what is installed in the pod's environment, but for nothing."""
        infos = (self.env_of(pod) / "lib").glob("python3*/site-packages/*.dist-info")
        return dict(one.name.removesuffix(".dist-info").rsplit("-", 1) for one in infos)

    def manifests(self) -> list[Path]:
        return sorted(self.store.glob("store/*/*/manifest.json"))


def uv() -> str:
    """Return uv, or skip the test."""
    found = shutil.which("uv", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    return found or pytest.skip("needs uv: pip install uv")


def fleet(folder: Path, count: int = 4, files: int = 40) -> dict[str, str]:
    """Make *count* wheels, each of which needs the next; returns what is then installed."""
    for n in range(count):
        content = {f"p{n}/m{k}.py": f"value = {n * k}\n" * 40 for k in range(files)}
        needs = (f"p{n + 1}>=1",) if n + 1 < count else ()
        wheel(folder, f"p{n}", f"1.{n}", {f"p{n}/__init__.py": "", **content}, needs=needs)
    return {f"p{n}": f"1.{n}" for n in range(count)}


def digests(folder: Path) -> dict[str, str]:
    """Return every file below *folder* with its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }


def can_contain() -> None:
    """Skip the test where no namespaces can be made."""
    argv = [*CONTAINER[:6], "--mount-proc", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to make namespaces (root): {done.stderr.strip()}")
    if subprocess.run([sys.executable, "-m", "pip", "-V"], capture_output=True).returncode:
        pytest.skip("needs an interpreter with pip: python -m ensurepip")


__all__ = ["Pods", "can_contain", "digests", "fleet", "uv", "wait_until"]
