"""notebook.py start | CODE: start a kernel of the Jupyter server here, or run CODE in it.

Prints what the kernel printed. The server is at PORT, with the token `t`.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path

from jupyter_client import BlockingKernelClient
from jupyter_core.paths import jupyter_runtime_dir


def asked(method: str) -> object:
    url = f"http://127.0.0.1:{os.environ['PORT']}/api/kernels?token=t"
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
        return json.load(answer)


def run(code: str) -> str:
    (kernel,) = asked("GET")
    (file,) = Path(jupyter_runtime_dir()).glob(f"kernel-{kernel['id']}.json")
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    said: list[str] = []
    client.execute_interactive(
        code, timeout=120,
        output_hook=lambda one: said.append(one["content"].get("text", "")),
    )  # fmt: skip
    client.stop_channels()
    return "".join(said)


if sys.argv[1] == "start":
    print(asked("POST")["id"])
else:
    print(run(sys.argv[1]), end="")
