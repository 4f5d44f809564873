"""Files that are hard to keep, and places that are hard to put them back: nothing is made worse."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from nasty import NAMES
from watch_tools import DOCKERFILE, SCANNED, kept, said, watch, watched

pytestmark = pytest.mark.container

# Rows and lines without end, each named on the volume when it is there; TERM ends it in order.
WRITER = """
import os, signal, sqlite3, zipfile
os.makedirs("/data/ckpt")
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
live = sqlite3.connect("/data/live.db", isolation_level=None)
live.execute("PRAGMA journal_mode=WAL")
live.execute("PRAGMA wal_autocheckpoint=100000000")
live.execute("CREATE TABLE rows (n INTEGER, text TEXT)")
log = open("/data/train.log", "a", buffering=1)
with zipfile.ZipFile("/data/ckpt/step1.pt", "w") as whole:
    whole.writestr("data.pkl", os.urandom(12 << 20))
half = open("/data/ckpt/step2.pt", "wb")
half.write(open("/data/ckpt/step1.pt", "rb").read()[:-(1 << 20)])
half.flush()
n = 0
while not stopped:
    n += 1
    live.execute("INSERT INTO rows VALUES (?, ?)", (n, "x" * 100))
    log.write(f"line {n}\\n")
    with open("/workspace/part", "w") as out:
        out.write(str(n))
    os.rename("/workspace/part", "/workspace/rows")
os._exit(0)  # nothing is closed, nothing is checkpointed
"""


def test_a_live_database_a_growing_log_and_a_checkpoint_that_is_half_written(
    pod, volume, until
) -> None:
    one = pod("python3", "-c", WRITER, volume=volume)
    until(lambda: "/data/live.db" in kept(volume).saved, "it was kept while it was live", SCANNED)
    one.stop()
    rows = int((volume / "rows").read_text())
    content = kept(volume)
    left = {line.path: line.why for line in content.left.values()}
    second = pod("sleep", "infinity", volume=volume)
    second.until("test", "-e", "/run/workspace-agent/status.json")
    second.text("sh", "-c", "cp /data/live.db /data/train.log /workspace/")
    with sqlite3.connect(volume / "live.db") as back:
        (integrity,) = back.execute("PRAGMA integrity_check").fetchone()
        found = [n for (n,) in back.execute("SELECT n FROM rows ORDER BY n")]
    lines = (volume / "train.log").read_text().splitlines()

    assert "ok" == integrity
    assert len(found) >= rows
    assert list(range(1, 1 + len(found))) == found
    assert lines == [f"line {n}" for n in range(1, 1 + len(lines))]
    assert len(lines) >= rows
    assert "/data/ckpt/step1.pt" in content.saved
    assert "/data/ckpt/step2.pt" not in content.saved
    assert "not complete" in left["/data/ckpt/step2.pt"]
    assert not [path for path in content.saved if path.endswith(("-wal", "-shm"))]


MINE = """
mkdir -p /srv/work /data/work
echo mine >/srv/work/nb.py; echo mine >/data/work/nb.py; echo mine >/opt/image/plain.py
touch /workspace/go; sleep infinity & wait
"""

# What a hostile, or a careless, image has in the places of files that come back.
PLANTED = """
FROM {base}
RUN mkdir -p /srv/work /victim && echo safe >/victim/nb.py && ln -s /victim/nb.py /srv/work/nb.py \\
    && ln -s /victim /data && echo image >/opt/image/plain.py
"""


def test_links_that_a_newer_image_has_in_their_places_lead_nowhere(
    pod, volume, until, build, image
) -> None:
    first = build("watch", DOCKERFILE.format(base=image), image)
    planted = build("watch-planted", PLANTED.format(base=first), first)
    one = pod("sh", "-c", MINE, volume=volume, image=first)
    one.until("test", "-e", "/workspace/go")
    one.stop()
    assert {"/srv/work/nb.py", "/data/work/nb.py", "/opt/image/plain.py"} <= set(kept(volume).saved)
    second = pod("sleep", "infinity", volume=volume, image=planted)
    second.until("test", "-e", "/run/workspace-agent/status.json")
    beside = second.text("sh", "-c", "cat /srv/work/nb.py.rescued-* /opt/image/plain.py.rescued-*")

    assert "safe\n" == second.text("cat", "/victim/nb.py")
    assert "nb.py\n" == second.text("ls", "-A", "/victim"), "nothing came in by the folder's link"
    assert "/victim/nb.py\n" == second.text("readlink", "/srv/work/nb.py")
    assert "image\n" == second.text("cat", "/opt/image/plain.py")
    assert "mine\nmine\n" == beside
    again = second.text("workspace-agent", "rescue", "restore", "--dry-run")
    assert "replaced" not in again


def test_a_volume_that_is_full_stops_nobody(pod, mounted, until) -> None:
    script = """
until [ -e /workspace/go ]; do sleep 0.05; done; rm /workspace/go
mkdir -p /root/work; for n in $(seq 60); do head -c 100k /dev/urandom >/root/work/$n.py; done
trap 'exit 9' TERM; while :; do sleep 0.1; done
"""
    volume = mounted("tmpfs", "size=2m")
    env = {"WORKSPACE_AGENT__VOLUME__MIN_FREE": "0", "WORKSPACE_AGENT__HOME__MODE": "off"}
    one = pod("sh", "-c", script, volume=volume, env=env)
    until(lambda: watch(one), "there is a watcher")
    one.text("touch", "/workspace/go")
    until(lambda: "rescue.not-saved" in one.err, "it says that it keeps no more", SCANNED)
    one.text("sh", "-c", "head -c 10k /dev/zero >/workspace/still-mine")
    free = one.text("df", "--output=avail", "/workspace").split()[-1]
    code = one.stop()

    assert 9 == code
    assert int(free) > 0, "some room is left to the owner"
    second = pod("sh", "-c", "ls /root/work | wc -l; ls /workspace", volume=volume, env=env)
    assert 0 == second.wait()
    assert 0 < int(second.out.split()[0]) < 60
    assert "still-mine" in second.out


FOLDER = "/data/\x1b[31mred\n\u202e"
ODD = f"""
import os
os.makedirs({FOLDER!r})
for name in {NAMES!r}:
    with open(os.path.join(os.fsencode({FOLDER!r}), name), "wb") as out:
        out.write(name)
"""
LIST = f"""
import json, os
print(json.dumps(sorted(name.hex() for name in os.listdir(os.fsencode({FOLDER!r})))))
"""

VERBS = (
    ("status",), ("at-risk", "--all", "--hidden"), ("rescue",), ("rescue", "plan"),
    ("rescue", "show"), ("rescue", "ls"), ("rescue", "restore", "--dry-run"),
)  # fmt: skip


def test_no_name_that_somebody_chose_gets_raw_to_a_terminal_or_breaks_json(
    pod, volume, until
) -> None:
    one = pod("sleep", "infinity", volume=volume)
    until(lambda: watch(one), "there is a watcher")
    one.text("python3", "-c", ODD)
    until(lambda: {"code"} <= set(watched(one)), "they are seen", SCANNED)
    texts = []
    for verb in VERBS:
        said(one, *verb)
        texts.append(one.text("workspace-agent", *verb))
    gone = one.text("workspace-agent", "why-gone", f"{FOLDER}/new\nline.py")
    until(lambda: any("outside the volume: " in line for line in one.err.splitlines()),
          "the log has its advice", SCANNED)  # fmt: skip
    one.stop()
    second = pod("sleep", "infinity", volume=volume)
    second.until("test", "-e", "/run/workspace-agent/status.json")
    listed = second.text("python3", "-c", LIST)

    for text in (*texts, gone, one.err, one.out, second.err):
        bad = [line for line in text.split("\n") if not line.isprintable()]
        assert not bad
    assert sorted(name.hex() for name in NAMES) == json.loads(listed)
