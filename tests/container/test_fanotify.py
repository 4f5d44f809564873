"""fanotify as a container has it: with CAP_SYS_ADMIN exact, without it a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.container

REPOSITORY = Path(__file__).parents[2]
ADMIN = ("--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined")

LISTEN = """
import json, os, select, subprocess, sys
sys.path.insert(0, "/agent")
from workspace_agent.host import fanotify
heard, why = fanotify.opened()
if heard is None:
    print(json.dumps({"why": why}))
    sys.exit()
before = len(os.listdir("/proc/self/fd"))
open("/root/own", "w").write("x")  # ours: not to be heard
writer = subprocess.Popen(["sh", "-c", '''
mkdir /root/many; mkfifo /root/fifo; sleep 100 <>/root/fifo & echo x >/root/fifo
echo x >/workspace/volume; echo x >/dev/shm/tmpfs; echo x >>/etc/motd
n=0; while [ $n -lt 3000 ]; do echo x >/root/many/$n; n=$((n+1)); done
echo x >/root/end; kill $!'''])
found, fds = {}, before
while "/root/end" not in found and select.select([heard.fd], [], [], 60)[0]:
    found |= dict(heard.read())
    fds = max(fds, len(os.listdir("/proc/self/fd")))
writer.wait()
print(json.dumps({"found": found, "writer": writer.pid, "fds": fds - before}))
"""


def listened(pod, volume: Path, options: tuple[str, ...]) -> dict[str, object]:
    options = [*options, f"--volume={REPOSITORY}/workspace_agent:/agent/workspace_agent:ro"]
    one = pod("sleep", "infinity", volume=volume, options=options)
    return json.loads(one.text("python3", "-I", "-S", "-c", LISTEN))


def test_with_the_right_each_write_to_the_layer_is_heard_with_its_process(plain_pod, volume):
    said = listened(plain_pod, volume, ADMIN)
    found = said["found"]
    many = {f"/root/many/{n}" for n in range(3000)}

    assert set() == (many | {"/root/end", "/etc/motd"}) - set(found)
    assert set() == {"/root/own", "/workspace/volume", "/dev/shm/tmpfs", ""} & set(found)
    assert {said["writer"]} == {found[path] for path in many}
    assert said["fds"] == 0


def test_without_it_there_is_a_reason(plain_pod, volume):
    assert {"why": "fanotify needs CAP_SYS_ADMIN"} == listened(plain_pod, volume, ())
