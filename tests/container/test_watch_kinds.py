"""What people really leave outside the volume: one word for each kind, and what makes it again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from watch_tools import SCANNED, kept, path_of, said, watched
from wheels import wheel

pytestmark = pytest.mark.container

SLOWVOL = str(Path(__file__).parents[1] / "tools/slowvol/slowvol.sh")
REVISION = "a" * 40

# A package of the distribution's that nobody has; 3 MB, as most are.
DEB = """
set -e; umask 022
mkdir -p /tmp/deb/DEBIAN /tmp/deb/usr/bin /tmp/deb/usr/share/mytool
printf 'Package: mytool\\nVersion: 4.2\\nArchitecture: all\\nMaintainer: me <me@here>\\n' \\
    >/tmp/deb/DEBIAN/control
echo 'Description: a tool' >>/tmp/deb/DEBIAN/control
printf '#!/bin/sh\\necho tool\\n' >/tmp/deb/usr/bin/mytool; chmod 755 /tmp/deb/usr/bin/mytool
head -c 3M /dev/urandom >/tmp/deb/usr/share/mytool/data
dpkg-deb --build /tmp/deb /workspace/mytool.deb; rm -r /tmp/deb
"""
APT = "apt-get install -y /workspace/mytool.deb"

PIP = "pip install --break-system-packages --root-user-action=ignore --no-index"
PIP += " --find-links /workspace/wheels hello other==2.3"
EDIT = "echo 'def mine(): pass' >>\"$(python3 -c 'import hello; print(hello.__file__)')\""

# As the library lays it out: bytes by hash, links by name.
MODEL = f"""
cache=/root/.cache/huggingface/hub/models--org--name
mkdir -p $cache/blobs $cache/refs $cache/snapshots/{REVISION}
head -c 25M /dev/urandom >$cache/blobs/0123; echo '{{}}' >$cache/blobs/4567
ln -s ../../blobs/0123 $cache/snapshots/{REVISION}/model.safetensors
ln -s ../../blobs/4567 $cache/snapshots/{REVISION}/config.json
printf {REVISION} >$cache/refs/main
"""

# As Jupyter does (by another name, then renamed), and as others do.
NOTEBOOKS = """
import json, os
for n in range(30):
    for name in ("jupyter", "other"):
        path = f"/root/{name}.ipynb"
        text = json.dumps({"cells": [{"source": f"cell {n}" * 100}], "nbformat": 4})
        with open(f"{path}.~" if name == "jupyter" else path, "w") as out:
            out.write(text)
        if name == "jupyter":
            os.rename(f"{path}.~", path)
"""


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with wheels, and with a repository that has a commit and a change."""
    folder = tmp_path / "volume"
    code = "def main():\n    print('hello')\n"
    wheel(folder / "wheels", "hello", "1.0", {"hello.py": code}, scripts={"hello": "hello:main"})
    wheel(folder / "wheels", "other", "2.3")
    wheel(folder / "wheels", "other", "2.4")
    repository(folder / "repository")
    return folder


def repository(path: Path) -> None:
    path.mkdir()
    git = ("git", "-c", "user.name=me", "-c", "user.email=me@here", "-C", str(path))
    try:
        subprocess.run([*git, "init", "-q"], check=True)
    except FileNotFoundError:
        pytest.skip("a repository needs git")
    for n in range(200):
        (path / f"src{n % 9}").mkdir(exist_ok=True)
        (path / f"src{n % 9}/{n}.py").write_text(f"print({n})\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)
    (path / "src0/0.py").write_text("print('changed')\n")


def in_git(path: Path, *words: str) -> str:
    """Ask git about a repository that somebody else made."""
    argv = ["git", "-c", "safe.directory=*", "-C", str(path), *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def advice(pod) -> list[str]:
    """Return what the pod's log says of files outside the volume, without who says it."""
    lines = pod.err.splitlines()
    return [line.partition("outside the volume: ")[2] for line in lines
            if "outside the volume: " in line]  # fmt: skip


def test_real_work_gets_a_line_a_kind_and_comes_back_or_is_named(
    pod, volume, until, settled
) -> None:
    pod_env = {"WORKSPACE_AGENT__RESCUE__SECRETS": "always"}
    one = pod("sleep", "infinity", volume=volume, env=pod_env)
    one.until("test", "-e", "/run/workspace-agent/watch.json")
    for script in (DEB, APT, PIP, EDIT, MODEL, "cp -a /workspace/repository /root/repository"):
        one.text("sh", "-c", script)
    one.text("python3", "-c", NOTEBOOKS)
    wanted = ("Python packages", "system packages", "downloaded models", "repositories",
              "notebooks", "code")  # fmt: skip
    until(lambda: len(advice(one)) >= len(wanted), "each kind has its advice", SCANNED)
    found = {path_of(each): each["kind"] for each in said(one, "at-risk", "--all")["files"]}
    rows = {each["kind"]: each for each in said(one, "at-risk")["kinds"]}
    notebooks = one.text("cat", "/root/jupyter.ipynb", "/root/other.ipynb")
    edited = next(path for path in found if path.endswith("/hello.py"))
    code = one.text("cat", edited)
    one.stop()
    content = kept(volume)
    left = {line.path: line.why for line in content.left.values()}
    lock = (volume / ".workspace-agent/replay/captured.lock").read_text()

    for many in wanted:
        assert 1 == sum(line.startswith(f"{many}, ") for line in advice(one)), (many, one.err)
    assert len(advice(one)) == len({line.partition(",")[0] for line in advice(one)})
    assert "code" == found[edited], "edited since it was installed"
    assert {"pip"} == {kind for path, kind in found.items() if "/other-2.3.dist-info/" in path}
    assert "apt" == found["/usr/share/mytool/data"] == found["/usr/bin/mytool"]
    assert rows["pip"]["rescued"] == rows["apt"]["rescued"] == rows["models"]["rescued"] == "recipe"
    assert {"hello==1.0", "other==2.3"} <= set(lock.split())
    assert any(f"org/name --revision {REVISION}" in why for why in left.values()), left
    assert not [path for path in content.saved if "models--" in path and "blobs" in path]

    second = pod("sleep", "infinity", volume=volume, env=pod_env)
    second.until("test", "-e", "/run/workspace-agent/status.json")
    assert notebooks == second.text("cat", "/root/jupyter.ipynb", "/root/other.ipynb")
    assert code == second.text("cat", edited)
    second.text("cp", "-a", "/root/repository", "/workspace/back")
    assert " M src0/0.py" == in_git(volume / "back", "status", "--porcelain").rstrip()
    assert "all" == in_git(volume / "back", "log", "--format=%s").strip()
    in_git(volume / "back", "fsck", "--strict")


KEYS = """
mkdir -p /root/.ssh /data/keys
for name in /root/.ssh/id_ed25519 /data/keys/server.pem /root/.netrc; do
    echo "PRIVATE-$(basename $name)-KEY" >$name; done
echo 'print(1)' >/data/mine.py
touch /workspace/go; sleep infinity & wait
"""


def no_keys(pod, volume: Path, until, env: dict[str, str], word: str, back: Path) -> None:
    """See that no byte of a key gets to *volume*, whose content is *back*, and why is said."""
    one = pod("sh", "-c", KEYS, volume=volume, env=env)
    until(lambda: "secrets" in watched(one), "the keys are seen", SCANNED)
    one.text("workspace-agent", "rescue")
    one.stop()
    left = {line.path: line.why for line in kept(back).left.values()}
    files = [path for path in back.rglob("*") if path.is_file()]

    assert "/data/mine.py" in kept(back).saved
    assert not [path for path in files if b"PRIVATE-" in path.read_bytes()]
    assert {why for path, why in left.items() if path.startswith(("/root", "/data/keys"))} == {
        next(why for why in left.values() if word in why)
    }


def test_keys_stay_where_they_are_when_the_profile_says_so(pod, tmp_path, until) -> None:
    volume = tmp_path / "plain"
    volume.mkdir()
    no_keys(pod, volume, until, {"WORKSPACE_AGENT__RESCUE__SECRETS": "never"}, "never", volume)


def test_keys_stay_off_a_volume_that_others_may_read(pod, tmp_path, until, enter) -> None:
    back, volume = tmp_path / "back", tmp_path / "volume"
    back.mkdir()
    volume.mkdir()
    done = enter(SLOWVOL, "up", str(back), str(volume))
    if done.returncode:
        pytest.skip(f"no FUSE here: {done.stderr.strip()}")
    try:
        no_keys(pod, volume, until, {}, "file server", back)
    finally:
        enter(SLOWVOL, "down", str(volume))


def test_what_the_json_says_of_them_adds_up(pod, volume) -> None:
    one = pod("sh", "-c", KEYS, volume=volume)
    one.until("test", "-e", "/workspace/go")
    data = said(one, "at-risk", "--all")
    of_kind = {row["kind"]: row["files"] for row in data["kinds"]}

    assert {"secrets": 3, "code": 1} == of_kind, json.dumps(data)
    assert 4 == len(data["files"])
