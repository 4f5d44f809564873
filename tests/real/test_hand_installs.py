"""What somebody installs by hand in a pod: noted on the volume, and back in the next one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
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


VERB = (
    f"import sys; sys.path.insert(0, {str(REPOSITORY)!r});"
    "from workspace_agent.cli.main import entry; entry()"
)


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
    running: Running | None = None
    more: dict[str, str] = field(default_factory=dict)

    @property
    def runtime(self) -> Path:
        return self.place.folder / f"runtime-{self.number}"

    @property
    def env(self) -> dict[str, str]:
        usual = dict(
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
        return self.place.environ(**{**usual, **self.more})

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

    def image(self) -> Path:
        """Make the image's own Python, and have it found first."""
        path = self.place.folder / "image"
        subprocess.run([sys.executable, "-m", "venv", path], check=True)
        self.more["PATH"] = f"{path}/bin:{os.environ['PATH']}"
        return path

    def boot(self, *argv: str) -> Running:
        """Start a fresh container on the same volume, with all of its packages in use."""
        self.number += 1
        usual = ("sh", "-c", "echo ready; exec sleep infinity")
        self.running = self.start(*(argv or usual), env=self.env).until("ready")
        return self.running

    def end(self) -> int:
        """Send a TERM; returns the exit code."""
        self.running.signal(signal.SIGTERM)
        return self.running.wait()

    def pip(self, *argv: str) -> None:
        self.do(self.python, "-m", "pip", *argv)

    def uv(self, verb: str, *argv: str) -> None:
        self.do(tool("uv"), "pip", verb, "--python", self.python, *argv)

    def do(self, *argv: str) -> None:
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def inside(self, *argv: str | Path) -> None:
        """Run a command in the namespaces of the pod."""
        subprocess.run(["nsenter", "-t", str(self.running.pid), "-p", "-m", *argv], check=True)

    def verb(self, *argv: str) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "-t", str(self.running.pid), "-p", "-m"]
        whole = [*inside, sys.executable, "-c", VERB, *argv]
        return subprocess.run(whole, env=self.env, capture_output=True, text=True, check=False)

    def has(self, name: str) -> bool:
        code = f"import {name}"
        return subprocess.run([self.python, "-c", code], check=False, stderr=-3).returncode == 0

    def imports(self, *names: str) -> list[str]:
        return [name for name in names if self.has(name)]


@pytest.fixture
def pod(place: Place, pid1: Callable[..., Running], tmp_path: Path) -> Pod:
    """Return a pod whose /proc is its own: installers of other tests are not seen."""
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
    return Pod(place, pid1, folder)


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
    pod.boot()
    pod.pip("install", "rich")
    pod.uv("install", "httpx")
    pod.pip("install", url)
    expected = ["httpx>=0.27.0", f"ours @ {url}@{commit}", "rich>=13.7.0"]
    wait_until(lambda: pod.captured == expected, "three packages are captured")
    pod.end()
    pod.boot()
    names = ("asked", "rich", "palette", "mdurl", "httpx", "anyio", "h11", "ours")

    assert list(names) == pod.imports(*names)

    pod.pip("uninstall", "-y", "rich", "ours")
    wait_until(lambda: pod.captured == ["httpx>=0.27.0"], "two are not captured any more")
    pod.end()
    pod.boot()

    assert ["asked", "httpx", "anyio", "h11"] == pod.imports(*names)


# Installs that do not end well

# Lays half of a package as pip does, says so, and goes on for ever, or until it is killed.
HALF = """
import os, sys, time
site, name = sys.argv[2:4]
os.mkdir(f"{site}/{name}-1.0.dist-info")
open(f"{site}/{name}.py", "w").close()
with open(f"{site}/{name}-1.0.dist-info/INSTALLER", "w") as out:
    out.write("pip")
if sys.argv[4:]:
    with open(f"{site}/{name}-1.0.dist-info/RECORD", "w") as out:
        out.write(f"{name}.py,,\\n")
print("half", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def half(pod: Pod) -> Callable[..., list[str]]:
    """Return the command line of an installer called `pip` that never ends."""
    path = pod.place.folder / "pip"
    path.write_text(HALF)
    return lambda name, *more: [sys.executable, str(path), "install", str(pod.site), name, *more]


def test_an_install_that_was_killed_half_way_is_named_and_not_captured(
    pod: Pod, half: Callable
) -> None:
    pod.boot()
    with subprocess.Popen(half("torn"), stdout=subprocess.PIPE, env=pod.env) as installer:
        assert installer.stdout is not None
        installer.stdout.readline()
        installer.kill()
    pod.pip("install", "rich")
    wait_until(lambda: pod.captured == ["rich>=13.7.0"], "the other one is captured")

    assert ("torn", False) == (pod.state["interrupted"], "torn" in pod.state["packages"])


# The same installer as the workload, in the environment of the pod.
AS_WORKLOAD = 'echo ready; "$0" "$1" install "$VIRTUAL_ENV"/lib/python3*/site-packages whole x'


def test_an_install_that_the_term_ends_is_never_captured(pod: Pod, half: Callable) -> None:
    """What is whole of it is not captured either: it may be half of what was asked for."""
    running = pod.boot("sh", "-c", AS_WORKLOAD, sys.executable, str(pod.place.folder / "pip"))
    running.until("half")

    assert 143 == pod.end()
    assert ([], "pip") == (pod.captured, pod.state["interrupted"])


def test_an_install_that_outlives_the_workload_is_never_captured(pod: Pod, half: Callable) -> None:
    text = AS_WORKLOAD.replace("echo ready; ", "setsid ") + " & echo ready; exec sleep infinity"
    running = pod.boot("sh", "-c", text, sys.executable, str(pod.place.folder / "pip"))
    running.until("half")
    asked = pod.verb("replay", "capture")

    assert (1, True) == (asked.returncode, "replay.installing" in asked.stderr + asked.stdout)
    assert 143 == pod.end()
    assert ([], "pip") == (pod.captured, pod.state["interrupted"])


def test_an_install_just_before_the_term_is_captured(pod: Pod) -> None:
    pod.boot()
    pod.pip("install", "rich")

    assert (143, ["rich>=13.7.0"]) == (pod.end(), pod.captured)


def test_an_install_just_before_the_workload_ends_is_captured(pod: Pod) -> None:
    gate = pod.place.folder / "gate"
    os.mkfifo(gate)
    running = pod.boot("sh", "-c", 'echo ready; read line < "$0"; exit 7', str(gate))
    pod.pip("install", "rich")
    gate.write_text("go\n")

    assert (7, ["rich>=13.7.0"]) == (running.wait(), pod.captured)


# What is not by hand


def test_what_setup_sh_installs_is_not_by_hand(pod: Pod) -> None:
    pod.place.script("pip install -q rich\n")
    pod.boot()
    pod.pip("install", "httpx")
    wait_until(lambda: pod.captured == ["httpx>=0.27.0"], "one is captured")

    assert pod.has("rich")


# Without a file that asks for packages


def test_what_is_installed_into_the_images_python_is_in_a_fresh_container(pod: Pod) -> None:
    (pod.place.volume / "requirements.txt").unlink()
    image = pod.image()
    pod.boot()
    pod.do(f"{image}/bin/python", "-m", "pip", "install", "rich")
    wait_until(lambda: pod.captured == ["rich>=13.7.0"], "it is captured")
    pod.end()
    shutil.rmtree(image)
    pod.image()
    pod.boot()

    assert ["rich", "palette", "mdurl"] == pod.imports("rich", "palette", "mdurl", "httpx")


def test_with_report_it_is_listed_and_not_brought_back_nor_forgotten(pod: Pod) -> None:
    pod.more["WORKSPACE_AGENT__REPLAY__CAPTURE"] = "report"
    pod.boot()
    pod.pip("install", "rich")
    pod.end()
    pod.boot()
    brought = pod.imports("asked", "rich")
    pod.pip("install", "httpx")
    pod.end()

    assert (["asked"], ["httpx>=0.27.0", "rich>=13.7.0"]) == (brought, pod.captured)


def test_with_off_nothing_is_listed(pod: Pod) -> None:
    pod.more["WORKSPACE_AGENT__REPLAY__CAPTURE"] = "off"
    pod.boot()
    pod.pip("install", "rich")
    pod.end()

    assert ([], {}) == (pod.captured, pod.state)


# People, and what they ask


def test_the_next_boot_follows_what_a_person_made_of_the_list(pod: Pod) -> None:
    pod.boot()
    pod.pip("install", "rich", "httpx")
    pod.end()
    path = pod.place.volume / ".workspace-agent/replay/captured.in"
    path.write_text(path.read_text().replace("httpx>=0.27.0", "mdurl  # mine"))
    pod.boot()
    first = pod.imports("rich", "httpx", "anyio", "mdurl")
    pod.pip("uninstall", "-y", "rich")
    pod.end()

    assert ["rich", "mdurl"] == first
    assert ["mdurl  # mine"] == pod.captured


def test_what_a_file_of_the_users_asks_for_is_that_files(pod: Pod) -> None:
    wheel(pod.wheels, "rich", "12.0")
    (pod.place.volume / "requirements.txt").write_text("rich<13\n")
    pod.boot()
    pod.pip("install", "rich==13.7.0", "httpx")
    pod.end()
    pod.boot()
    version = subprocess.run(
        [pod.python, "-c", "import rich; print(rich.__version__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert (["httpx>=0.27.0", "rich>=13.7.0"], "12.0\n") == (pod.captured, version.stdout)
    assert pod.has("httpx")


def test_the_verb_shows_and_notes_what_was_installed(pod: Pod) -> None:
    pod.boot()
    pod.pip("install", "rich")
    dry = pod.verb("replay", "capture", "--dry-run")
    before = pod.captured
    done = pod.verb("replay", "capture")
    again = pod.verb("--json", "replay", "capture")
    data = json.loads(again.stdout.splitlines()[-1])

    assert (0, 0, 0) == (dry.returncode, done.returncode, again.returncode), dry.stderr
    assert ("+ rich>=13.7.0", "+ rich>=13.7.0") == tuple(
        out.stdout.splitlines()[0] for out in (dry, done)
    )
    assert ([], ["rich>=13.7.0"]) == (before, pod.captured)
    assert "the next pod gets 4 packages back" in done.stdout
    assert "mdurl==0.1.2" in json.dumps(data)


# Volumes in trouble


@pytest.mark.parametrize("how", ["a folder", "a link", "read-only", "full"])
def test_a_volume_that_takes_no_note_costs_the_pod_nothing(how: str, pod: Pod) -> None:
    pod.boot()
    folder = pod.place.volume / ".workspace-agent/replay"
    if how == "a folder":
        (folder / "captured.in").mkdir(parents=True)
    elif how == "a link":
        (folder / "captured.in").symlink_to("/etc/passwd")
    elif how == "full":
        pod.inside("mount", "-t", "tmpfs", "-o", "nr_inodes=2", "none", pod.place.volume)
        pod.inside("mkdir", pod.place.volume / ".workspace-agent")
    else:  # of that container alone: nothing of it is left here
        volume = pod.place.volume
        pod.inside("mount", "--bind", volume, volume)
        pod.inside("mount", "-o", "remount,ro,bind", volume)
    pod.pip("install", "rich")
    code = pod.end()

    assert (143, True) == (code, "replay.not-captured" in pod.running.err)
