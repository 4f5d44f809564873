"""What people run: a Jupyter server with a live kernel, and a training."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from checkpoint_tools import LEAST, command, more, starts, ticks, versions

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.container, pytest.mark.long]

DOCKERFILE = """
FROM {base}
RUN python3 -m pip install -q --break-system-packages --root-user-action=ignore \\
    jupyterlab scikit-learn
"""


@pytest.fixture(scope="module")
def real_image(build: Callable, placeholder_image: str) -> str:
    """The placeholder image with what people install."""
    return build("real", DOCKERFILE.format(base=placeholder_image), placeholder_image)


def test_a_notebooks_variable_is_there_in_the_next_pod(
    real_image: str, placeholder_pod: Callable, volume: Path, until: Callable
) -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = ("jupyter", "lab", "--allow-root", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
             "--ServerApp.token=t", "--ServerApp.root_dir=/workspace")  # fmt: skip
    env = {"PORT": port, "WORKSPACE_AGENT__WORKLOAD__GRACE": "60s"}

    def start():
        return placeholder_pod(
            *words, image=real_image, volume=volume, env=env, options=LEAST,
        )  # fmt: skip

    def notebook(pod, *more: str) -> str:
        return pod.text("workspace-agent", "env", "--", "python3", "/lab/notebook.py", *more)

    first = start()
    first.until("python3", "-c", "import os, urllib.request as r;"
                "r.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/api?token=t\")")  # fmt: skip
    kernel = notebook(first, "start")
    assert notebook(first, "x = 42; import os; print(os.getpid())").strip().isdigit()
    number = notebook(first, "print(os.getpid())")
    assert first.stop(60) == 143, first.err
    second = start()
    second.until("test", "-e", "/run/workspace-agent/restored.json")

    assert notebook(second, "x += 1; print(x, os.getpid())") == f"43 {number}"
    assert kernel and second.stop(60) == 143  # it may be frozen again
    third = start()
    third.until("test", "-e", "/run/workspace-agent/restored.json")
    assert notebook(third, "print(x)") == "43\n"
    # The history of the kernel is a database in the home, which is on the volume.
    assert "readonly database" not in second.err + third.err


def test_a_training_goes_on_where_its_loss_was(
    real_image: str, placeholder_pod: Callable, volume: Path, until: Callable
) -> None:
    lives = []
    for _ in range(3):
        lives.append(placeholder_pod(*command("training"), image=real_image, volume=volume,
                                     options=LEAST))  # fmt: skip
        more(lives[-1], until)
        assert lives[-1].stop() == 143

    said = [one for life in lives for one in ticks(life)]
    assert [n for n, _, _ in said] == list(range(1, len(said) + 1))
    assert {verdict for _, verdict, _ in said} == {"ok"}
    assert len(starts(volume)) == 1 and versions(volume)
