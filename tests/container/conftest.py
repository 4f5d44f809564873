"""Real images, real containers, real volumes.

Everything goes through `harness/podman`, which is plain podman on an ordinary host. A test waits
for conditions, never for a time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).parents[2]
HARNESS = Path(__file__).parent / "harness"
GUIDE = REPOSITORY / "docs" / "guide" / "base-image.md"

# Long enough for a loaded machine; reached only when something hangs.
DEADLINE = 90.0

INSTALL = "apt-get install -y podman crun buildah debootstrap"


def podman(
    *argv: str | bytes, check: bool = True, under: Sequence[str] = (), **options: object
) -> subprocess.CompletedProcess:
    """Run podman, by the command *under* if that is given; a failure shows what it said."""
    command = [*under, HARNESS / "podman", *argv]
    done = subprocess.run(command, capture_output=True, timeout=600, **options)
    if check and done.returncode:
        words = b" ".join(os.fsencode(a) for a in argv).decode(errors="replace")
        pytest.fail(
            f"podman {words}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}"
        )
    return done


def wait_until(holds: Callable[[], object], what: str, deadline: float = DEADLINE) -> object:
    """Poll *holds* and return its first true answer."""
    until = time.monotonic() + deadline
    while not (answer := holds()):
        if time.monotonic() > until:
            pytest.fail(f"after {deadline:.0f} s still not true: {what}")
        time.sleep(0.05)
    return answer


def dockerfiles(guide: str) -> list[str]:
    """Return the whole Dockerfiles of a guide page: fenced blocks that have a FROM."""
    blocks = re.findall(r"^```dockerfile\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if re.search(r"^FROM ", block, re.MULTILINE)]


@dataclass
class Pod:
    """One container, from `podman run -d` to `podman rm`."""

    name: str

    def exec(
        self,
        *argv: str,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        **options: object,
    ) -> subprocess.CompletedProcess:
        """Run *argv* in the container with the environment of its configuration."""
        flags = [f"--env={name}={value}" for name, value in (env or {}).items()]
        if user is not None:
            flags.append(f"--user={user}")
        if "input" in options:
            flags.append("--interactive")
        return podman("exec", *flags, self.name, *argv, check=False, **options)

    def text(self, *argv: str, **options: object) -> str:
        """Run *argv*, which has to succeed, and return what it printed."""
        done = self.exec(*argv, **options)
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}\n{said}"
        return done.stdout.decode(errors="replace")

    @property
    def out(self) -> str:
        """What the container wrote to stdout so far."""
        return podman("logs", self.name).stdout.decode(errors="replace")

    @property
    def err(self) -> str:
        """What the container wrote to stderr so far."""
        return podman("logs", self.name).stderr.decode(errors="replace")

    def is_running(self) -> bool:
        return self._state("Status") == "running"

    def until(self, *argv: str, what: str = "") -> None:
        """Wait until *argv* succeeds in the container; one that has ended never will."""

        def holds() -> bool:
            if not self.is_running():
                pytest.fail(f"the container ended, code {self._state('ExitCode')}:\n{self.err}")
            return self.exec(*argv).returncode == 0

        wait_until(holds, what or " ".join(argv))

    def wait(self) -> int:
        """Wait for the end and return the container's exit code."""
        wait_until(lambda: self._state("Status") in ("exited", "stopped"), f"{self.name} has ended")
        return int(self._state("ExitCode"))

    def stop(self, grace: int = 30) -> int:
        """TERM, and a KILL after *grace* seconds; return the exit code."""
        podman("stop", "--time", str(grace), self.name)
        return self.wait()

    def remove(self) -> None:
        podman("rm", "--force", "--time", "0", "--ignore", self.name, check=False)

    def _state(self, name: str) -> str:
        """Ask podman, which fails when the process ends while it looks; then it is asked again."""
        argv = ("inspect", "--format", f"{{{{.State.{name}}}}}", self.name)
        for _ in range(20):
            shown = podman(*argv, check=False)
            if shown.returncode == 0:
                return shown.stdout.decode().strip()
        return podman(*argv).stdout.decode().strip()


@dataclass
class Pods:
    """Starts containers, and removes each whatever happens."""

    image: str
    made: list[Pod] = field(default_factory=list)

    def __call__(
        self,
        *command: str,
        image: str | None = None,
        volume: Path | str | None = None,
        env: Mapping[str, str | bytes] | None = None,
        user: str | None = None,
        read_only: bool = False,
        options: Sequence[str] = (),
        under: Sequence[str] = (),
    ) -> Pod:
        """Start a container; *volume* is what is bound to /workspace (`PATH` or `PATH:ro`).

        *under* is a command that runs podman, such as `unshare --time`.
        """
        pod = Pod(f"workspace-agent-test-{uuid.uuid4().hex[:12]}")
        self.made.append(pod)
        flags: list[str | bytes] = [*options]
        if volume is not None:
            path, _, mode = str(volume).partition(":")
            flags.append(f"--volume={path}:/workspace{':' + mode if mode else ''}")
        if user is not None:
            flags.append(f"--user={user}")
        if read_only:
            # without podman's own tmpfs mounts on /run and /tmp: a test asks for those it wants
            flags += ["--read-only", "--read-only-tmpfs=false"]
        for name, value in (env or {}).items():
            flags.append(os.fsencode(f"--env={name}=") + os.fsencode(value))
        words = ("--name", pod.name, *flags, image or self.image, *command)
        podman("run", "--detach", *words, under=under)
        return pod

    def named(self, name: str) -> Pod:
        """Return a container that podman started otherwise."""
        self.made.append(Pod(name))
        return self.made[-1]


@pytest.fixture(scope="session")
def machine() -> None:
    """Containers can be made here."""
    if os.geteuid() != 0:
        pytest.skip("container tests need root: run them with sudo")
    if not shutil.which("podman"):
        pytest.skip(f"container tests need podman: {INSTALL}")


@pytest.fixture(scope="session")
def make_base(machine: None) -> Callable[..., str]:
    """Make a base image with these Debian packages, or find the one that was made before."""

    def make(*packages: str, suite: str = "") -> str:
        if not shutil.which("debootstrap"):
            pytest.skip(f"base images need debootstrap: {INSTALL}")
        flags = ["--packages", ",".join(packages)] if packages else []
        flags += ["--suite", suite] if suite else []
        made = subprocess.run([HARNESS / "base-image", *flags], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    return make


@pytest.fixture(scope="session")
def base(machine: None, make_base: Callable[..., str]) -> str:
    """Debian with every shell that the environment has to reach, and no python3-venv."""
    return os.environ.get("CTR_BASE_IMAGE") or make_base()


@pytest.fixture(scope="session")
def build(
    machine: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, str], str]:
    """Build a Dockerfile's text on a base, with the repository as its context."""

    def make(name: str, dockerfile: str, on: str) -> str:
        path = tmp_path_factory.mktemp("dockerfile") / "Dockerfile"
        path.write_text(dockerfile)
        # one name for each checkout: two of them may run their tests at the same time
        checkout = hashlib.sha256(os.fsencode(REPOSITORY)).hexdigest()[:8]
        tag = f"localhost/workspace-agent-test:{name}-{checkout}"
        before = podman("image", "inspect", "--format", "{{.Id}}", tag, check=False).stdout.strip()
        command = [HARNESS / "build-image", "--base", on, "-f", path, "-t", tag, REPOSITORY]
        made = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert made.returncode == 0, f"{made.stdout[-2000:]}{made.stderr[-4000:]}"
        after = podman("image", "inspect", "--format", "{{.Id}}", tag).stdout.strip()
        if before not in (b"", after):
            podman("rmi", before, check=False)
        return tag

    return make


@pytest.fixture(scope="session")
def guide() -> tuple[str, str]:
    """The two Dockerfiles of the guide: with the bake, and without."""
    baked, unbaked = dockerfiles(GUIDE.read_text())
    return baked, unbaked


@pytest.fixture(scope="session")
def image(build: Callable[[str, str, str], str], guide: tuple[str, str], base: str) -> str:
    """The guide's image, as a platform engineer builds it."""
    return build("baked", guide[0], base)


@pytest.fixture(scope="session")
def unbaked_image(build: Callable[[str, str, str], str], guide: tuple[str, str], base: str) -> str:
    """The same files, no bake."""
    return build("unbaked", guide[1], base)


@pytest.fixture(scope="session")
def make_placeholder(build: Callable[[str, str, str], str], base: str) -> Callable[..., str]:
    """Make a placeholder image on any base: `make_placeholder("NAME", BASE, "--wrapped")`."""

    def make(name: str, on: str, *flags: str) -> str:
        env = {**os.environ, "BUILDER": str(HARNESS / "podman")}
        argv = [REPOSITORY / "deploy/placeholder", *flags, "--print", on]
        text = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
        if "CTR_BASE_IMAGE" not in os.environ:  # there may be no registry
            text = text.replace("ARG CRIU_BASE=debian:13-slim", f"ARG CRIU_BASE={base}")
        return build(name, text, on)

    return make


@pytest.fixture(scope="session")
def placeholder_image(make_placeholder: Callable[..., str], base: str) -> str:
    """The usual base with CRIU and the agent, and all else as it was."""
    return make_placeholder("placeholder", base)


@contextmanager
def pods(image: str) -> Iterator[Pods]:
    started = Pods(image)
    try:
        yield started
    finally:
        for pod in started.made:
            pod.remove()


@pytest.fixture
def plain_pod(base: str) -> Iterator[Pods]:
    """Starts containers of the base image, without the agent."""
    with pods(base) as started:
        yield started


@pytest.fixture
def pod(image: str) -> Iterator[Pods]:
    """Starts containers of the baked image."""
    with pods(image) as started:
        yield started


@pytest.fixture
def placeholder_pod(placeholder_image: str) -> Iterator[Pods]:
    """Starts containers of the placeholder image."""
    with pods(placeholder_image) as started:
        yield started


@pytest.fixture(scope="module")
def shared_pod(image: str) -> Iterator[Pods]:
    """The same for containers that all tests of a module look into."""
    with pods(image) as started:
        yield started


@pytest.fixture(scope="session", name="podman")
def podman_fixture(machine: None) -> Callable[..., subprocess.CompletedProcess]:
    """Any podman command."""
    return podman


@pytest.fixture(scope="session")
def until() -> Callable[..., object]:
    """Poll a condition: `until(lambda: path.exists(), "what it means")`."""
    return wait_until


@pytest.fixture
def settled() -> Callable[[str], tuple[str, ...]]:
    """Return `settled(then)`: wait in the pod for what a boot does beside it, and do *then*."""
    state = "/workspace/.workspace-agent"
    seen = "until ls {} >/dev/null 2>&1; do sleep 0.05; done"
    base, stamp = seen.format(f"{state}/defaults/*.gz"), seen.format(f"{state}/stamps/*")
    script = f"{base}; [ ! -e /opt/workspace-agent/baked ] || {stamp}"
    return lambda then: ("sh", "-c", f"{script}; {then}")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An empty volume."""
    path = tmp_path / "volume"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def enter(machine: None) -> Callable[..., subprocess.CompletedProcess]:
    """Run a command where containers see its mounts."""

    def run(*argv: str) -> subprocess.CompletedProcess:
        return subprocess.run([HARNESS / "enter", *argv], capture_output=True, text=True)

    return run


@pytest.fixture
def mounted(
    enter: Callable[..., subprocess.CompletedProcess], tmp_path: Path
) -> Iterator[Callable[..., Path]]:
    """Mount a file system of its own for a volume: `mounted("tmpfs", "size=1m")`.

    Only containers and `enter` see what is in it.
    """
    with ExitStack() as stack:

        def mount(kind: str, options: str, source: str = "none") -> Path:
            path = tmp_path / f"{kind}-{uuid.uuid4().hex[:6]}"
            path.mkdir()
            done = enter("mount", "-t", kind, "-o", options, source, str(path))
            if done.returncode:
                pytest.skip(f"cannot mount a {kind} here: {done.stderr.strip()}")
            stack.callback(enter, "umount", "--lazy", str(path))
            return path

        yield mount
