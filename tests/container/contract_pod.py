"""contract_pod.py dump | restore [SECONDS]: what the agent does, by hand and in one container each.

The workload is contract_workload.py beside this file; both lie on the volume.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, "/opt/workspace-agent")
from workspace_agent.checkpoint import identity, parts
from workspace_agent.checkpoint.contract import Attempt, Contract
from workspace_agent.checkpoint.criu import Criu

HERE = Path(__file__).parent
IMAGES = HERE / "images"
CONTROL = "/run/control"
FLOOR = 1000


def contract(**environ: str) -> Contract:
    return Contract(CONTROL, "/nowhere", "", environ, "/tmp/hooks.log", 60)


def run(argv: list[str]) -> None:
    log = IMAGES / f"{argv[1]}.log"
    if subprocess.run(argv, check=False, cwd=IMAGES).returncode:
        sys.exit(log.read_text()[-4000:] if log.exists() else "CRIU did not start")


def above_the_floor() -> None:
    last = 0
    while last < FLOOR:
        one = threading.Thread(target=lambda: None)
        one.start()
        one.join()
        last = one.native_id or 0


def dump() -> None:
    IMAGES.mkdir()
    pact = contract(PATH=os.environ["PATH"], TOKEN="old")
    pact.open()
    above_the_floor()
    out = (HERE / "out").open("ab")
    env = {**pact.environ, **pact.variables()}
    root = subprocess.Popen(
        [sys.executable, "-I", HERE / "contract_workload.py"], env=env,
        stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=HERE, start_new_session=True,
    )  # fmt: skip
    while not parts.clients(CONTROL):
        time.sleep(0.01)
    kinds = pact.before(Attempt("the dump's", 0))
    record = {"kinds": kinds, "pid": root.pid, "then": identity.observe()}
    run(Criu().dump(root.pid))
    root.kill()
    root.wait()
    (HERE / "record.json").write_text(json.dumps(record))


def restore(secs: float) -> None:
    record = json.loads((HERE / "record.json").read_text())
    nonce = os.urandom(8).hex()
    attempt = Attempt(nonce, 1, tuple(record["kinds"]))
    pact = contract()
    told = identity.renewed(record["then"], nonce, 1, {"TOKEN": "new"})
    pact.renew(told)
    run(Criu().restore("/tmp/pid", {}))
    os.kill(int(Path("/tmp/pid").read_text()), signal.SIGCONT)
    problems = [one.why for one in Contract(**{**pact.__dict__, "timeout": secs}).restored(attempt)]
    print(json.dumps({
        "answered": pact.answered(attempt), "pid": int(Path("/tmp/pid").read_text()),
        "expected": record["pid"], "problems": problems, "told": told,
    }))  # fmt: skip


if sys.argv[1] == "dump":
    dump()
else:
    restore(float(sys.argv[2]) if sys.argv[2:] else 60)
