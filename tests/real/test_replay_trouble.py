"""Boots of the real agent with packages, where something around them is broken."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from agents import REPOSITORY, Place, Running, wait_until
from pods import uv
from slow_volumes import mounted
from wheels import offline, wheel

from workspace_agent.host import command

Boot = Callable[..., Running]

LATER = partial(pytest.param, marks=pytest.mark.long)

VERB = (
    f"import sys; sys.path.insert(0, {str(REPOSITORY)!r});"
    "from workspace_agent.cli.main import entry; entry()"
)

HAS = "import hello; print('has', hello.__version__, flush=True)"


def end(pod: Running, place: Place) -> None:
    """End the pod once its environment is stored."""
    wait_until(lambda: stored(place), "the environment is stored")
    pod.process.terminate()
    pod.wait()
    wait_until(lambda: not place.started(), "all of the pod is gone")


def stored(place: Place) -> bool:
    return any(place.volume.glob(".workspace-agent/replay/store/*/*/manifest.json"))


def clear(place: Place) -> None:
    """Remove the pod's disk, and what it had in memory, which is this machine's."""
    for link in place.runtime.glob("python/envs/*"):
        if link.is_symlink():
            shutil.rmtree(link.readlink(), ignore_errors=True)
    shutil.rmtree(place.runtime, ignore_errors=True)


@pytest.fixture
def boot(place: Place, agent: Callable[..., Running]) -> Iterator[Boot]:
    """Boot a pod with a new disk; its workload is a line of Python."""
    place.volume.mkdir(exist_ok=True)
    wheels = place.folder / "wheels"
    wheel(wheels, "hello", "1.0")

    def boot(code: str = HAS, *, tool: str = "pip", **more: str) -> Running:
        assert not place.started()
        clear(place)
        path = f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin"
        if tool == "uv":
            path += f":{os.path.dirname(uv())}"
        given = more if any("PIP" in name for name in more) else {**offline(wheels), **more}
        return agent("python3", "-c", code, env=place.environ(PATH=path, **given))

    yield boot
    clear(place)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("known", [True, LATER(False)])
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


def test_what_a_person_mends_in_a_running_pod_is_degraded_no_more(place: Place, boot: Boot) -> None:
    path = f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin"
    environ = place.environ(PATH=path, **offline(place.folder / "wheels"))

    def verb(*words: str) -> dict[str, object]:
        argv = (sys.executable, "-c", VERB, "--json", *words)
        done = subprocess.run(argv, env=environ, capture_output=True, text=True)
        return json.loads(done.stdout)

    asked = place.volume / "requirements.txt"
    asked.write_text("hello==9\n")
    pod = boot("import time; print('up', flush=True); time.sleep(1000)").until("up")
    wait_until(lambda: (place.runtime / "status.json").exists(), "the boot is recorded")
    assert "hello==9" in verb("replay", "status")["data"]["failed"]
    assert "degraded" == verb("replay", "run")["status"] == verb("status")["status"]
    asked.write_text("hello==1.0\n")
    assert "ok" == verb("replay", "run")["status"] == verb("status")["status"]
    assert "" == verb("replay", "status")["data"]["failed"]
    end(pod, place)


def test_a_place_from_which_nothing_can_be_started_is_told(place: Place, boot: Boot) -> None:
    (place.volume / "requirements.txt").write_text("hello\n")
    envs = place.folder / "envs"
    envs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,size=64m", "none", envs], check=True)
    try:
        pod = boot(WORKSPACE_AGENT_ENVS=str(envs))
        assert (0, "has 1.0\n") == (pod.wait(), pod.out)
        assert "(replay.no-exec)" in pod.err
        wait_until(lambda: not place.started(), "all of it is over")
    finally:
        subprocess.run(["umount", "--lazy", envs], check=True)


class Index:
    """An index on 127.0.0.1 that takes everything it is asked, and answers only if it *says*."""

    def __init__(self, says: bytes = b"") -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.asked, self._says = self._socket.getsockname()[1], b"", says
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._socket.accept()
                self._open.append(one)
                self.asked += one.recv(1 << 16)
                if self._says:
                    one.sendall(self._says)
                    one.close()

    def close(self) -> None:
        for one in (self._socket, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def index() -> Iterator[Callable[..., Index]]:
    made: list[Index] = []

    def make(says: bytes = b"") -> Index:
        made.append(Index(says))
        return made[-1]

    yield make
    for one in made:
        one.close()


def refusing() -> str:
    """Return the address of an index that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/simple"


def network(url: str) -> dict[str, str]:
    return {"PIP_INDEX_URL": url, "PIP_CONFIG_FILE": "/dev/null"}


@pytest.mark.parametrize("answers", [True, LATER(False)])
def test_without_a_network_what_is_stored_comes_back(
    place: Place, boot: Boot, index: Callable[..., Index], answers: bool
) -> None:
    (place.volume / "requirements.txt").write_text("hello\n")
    url = f"http://127.0.0.1:{index().port}/simple" if answers else refusing()
    env = {"PIP_CONFIG_FILE": str(place.folder / "pip.conf")}
    wheels = f"[global]\nno-index = true\nfind-links = {place.folder}/wheels\n"
    (place.folder / "pip.conf").write_text(wheels)
    end(boot(f"{HAS}; import time; time.sleep(1000)", **env).until("has 1.0"), place)

    (place.folder / "pip.conf").write_text(f"[global]\nindex-url = {url}\n")
    pod = boot(**env)
    assert (0, "has 1.0\n") == (pod.wait(), pod.out)
    assert "replay." not in pod.err


@pytest.mark.parametrize("answers", [True, LATER(False)])
def test_without_a_network_a_change_leaves_the_last_good_one(
    place: Place, boot: Boot, index: Callable[..., Index], answers: bool
) -> None:
    (place.volume / "requirements.txt").write_text("hello\n")
    end(boot(f"{HAS}; import time; time.sleep(1000)").until("has 1.0"), place)
    (place.volume / "requirements.txt").write_text("hello\nmore\n")
    silent = index()
    url = f"http://127.0.0.1:{silent.port}/simple" if answers else refusing()
    code = f"{HAS}; import time; time.sleep(1000)"
    pod = boot(code, **network(url), WORKSPACE_AGENT__REPLAY__WAIT="1s").until("has 1.0")
    assert "(replay.late)" in pod.err
    wait_until(lambda: not answers or b"/simple/" in silent.asked, "the index is asked")


CANARY = "c4nary-v4lue"


def everything_below(*folders: Path) -> bytes:
    found = b""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found += gzip.decompress(data) if path.name.endswith(".gz") else data
    return found


@pytest.mark.parametrize("tool", ["uv", "pip"])
@pytest.mark.parametrize(
    "way",
    ["userinfo", *map(LATER, ("netrc", "token", "variable", "by name"))],
)
def test_a_credential_is_nowhere(
    place: Place, boot: Boot, index: Callable[..., Index], way: str, tool: str
) -> None:
    server = index(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    host = f"127.0.0.1:{server.port}/simple"
    netrc, more = place.folder / "netrc", {}
    line = {
        "userinfo": f"--index-url http://user:{CANARY}@{host}\n",
        "token": f"--index-url http://{CANARY}@{host}\n",
        "netrc": f"--index-url http://{host}\n",
        "variable": "",
        "by name": f"--index-url http://user:${{SECRET}}@{host}\n",
    }[way]
    if way == "netrc":
        netrc.write_text(f"machine 127.0.0.1 login user password {CANARY}\n")
        netrc.chmod(0o600)
        more = {"NETRC": str(netrc)}
    elif way == "variable":
        more = {"PIP_INDEX_URL": f"http://user:{CANARY}@{host}"}
    elif way == "by name":
        more = {"SECRET": CANARY}
    elsewhere = place.folder / "asks"
    elsewhere.mkdir()
    (elsewhere / "r.txt").write_text(f"{line}hello\n")
    (place.volume / "requirements.txt").write_text(f"-r {elsewhere}/r.txt\n")
    given = {"PIP_CONFIG_FILE": "/dev/null", **more}
    code = "print('runs', flush=True); import time; time.sleep(1000)"
    pod = boot(code, tool=tool, **given, WORKSPACE_AGENT__REPLAY__WAIT="1s").until("runs")
    seen: set[bytes] = set()

    def is_over() -> bool:
        running = [one for one in lines_of(place) if tool.encode() in one.split(b" -c ")[0]]
        seen.update(running)
        return not running and "replay.build-failed" in failure(place)

    wait_until(is_over, "the installer has given up")
    pod.process.terminate()
    pod.wait()
    said = everything_below(place.volume, place.runtime / "logs") + pod.err.encode()
    said += (place.runtime / "status.json").read_bytes()
    assert server.asked, "the index was asked"
    assert CANARY.encode() not in said
    assert CANARY.encode() not in b"\n".join(seen)


def lines_of(place: Place) -> list[bytes]:
    """Return the command lines of what runs there."""
    found = []
    for pid in place.started():
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
    return found


def failure(place: Place) -> str:
    path = place.runtime / "status.json"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    "content", ["import sys; sys.exit(3)\n", LATER("import os; os.nonsense()\n")]
)
def test_a_package_with_a_broken_pth_does_not_reach_the_agent(
    place: Place, boot: Boot, content: str
) -> None:
    wheel(place.folder / "wheels", "bad", "1", {"bad.py": "", "bad.pth": content, "x.pth": "\0"})
    (place.volume / "requirements.txt").write_text("hello\nbad\n")
    for _ in range(2):  # once built, once restored
        pod = boot("pass")
        pod.wait()
        assert "workspace ready" in pod.err
        assert "degraded" not in pod.err
        wait_until(lambda: not place.started(), "all of it is over")


def test_a_package_with_the_names_of_pythons_own_modules_changes_nothing(
    place: Place, boot: Boot
) -> None:
    names = ("re", "enum", "typing", "json", "os", "hashlib")
    content = {f"{name}.py": "raise SystemExit(9)\n" for name in names}
    wheel(place.folder / "wheels", "evil", "1", content)
    (place.volume / "requirements.txt").write_text("hello\nevil\n")
    pod = boot("import hello, re, enum, typing, json, hashlib; print('has', json.__file__)")
    assert 0 == pod.wait()
    assert "site-packages" not in pod.out
    assert "degraded" not in pod.err


def test_a_volume_that_hangs_during_the_restore_lets_the_workload_start(
    place: Place, boot: Boot
) -> None:
    with mounted(place.volume, place.folder / "back") as volume:
        large = {"hello.py": "__version__ = '1.0'\n", "noise.bin": os.urandom(8 << 20)}
        wheel(place.folder / "wheels", "hello", "1.0", large)
        (place.volume / "requirements.txt").write_text("hello\n")
        end(boot(f"{HAS}; import time; time.sleep(1000)").until("has 1.0"), place)
        volume.ctl("bw 1", "reset")  # 8 s for the part
        soon = {"WORKSPACE_AGENT__REPLAY__WAIT": "1s", "WORKSPACE_AGENT__VOLUME__DEADLINE": "1s"}
        pod = boot("print('runs', flush=True)", **soon)
        wait_until(lambda: volume.stats()["bytes_read"] > 1 << 20, "the restore has begun")
        volume.ctl("hang on")
        assert 0 == pod.until("runs").wait()
        assert "(volume.not-responding)" in pod.err


def test_the_end_of_a_commands_output_is_its_own(tmp_path: Path) -> None:
    """Else a failure is the network's because an earlier one was."""
    said = []
    for code in ("echo 'connection refused'; exit 1", "exit 2"):
        argv, log = ["sh", "-c", code], f"{tmp_path}/log"
        said.append(command.run(argv, log=log, env=dict(os.environ), timeout=10).tail)
    assert ["connection refused", ""] == said
