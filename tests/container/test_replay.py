"""Packages that a file on the volume asks for, in real containers of an image with its own Python.

The wheels lie on the volume: no network.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from wheels import wheel

pytestmark = pytest.mark.container

FIRST = "/opt/workspace-env/env/bin"

# What the image's own Python has, byte for byte; but for the line of a boot that leads to the
# volume, and for bytecode.
BASE = (
    "find /usr/lib/python3* /usr/local/lib/python3* -type f -not -name '*.pyc' -not -name '*.pth'"
    " -exec sha256sum {} + | sort"
)

IS_STORED = "ls /workspace/.workspace-agent/replay/store/*/*/manifest.json >/dev/null 2>&1"


@pytest.fixture
def image(build: Callable, guide: tuple[str, str], base: str) -> str:
    """The guide's image, with the PATH that finds packages from anywhere."""
    dockerfile = guide[0].replace("ENV PATH=/workspace/bin", f"ENV PATH={FIRST}:/workspace/bin")
    assert FIRST in dockerfile
    return build("replay", dockerfile, base)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "volume"
    scripts = {"hello": "hello:main"}
    code = "__version__ = '1.0'\ndef main():\n    print('hello from', __file__)\n"
    wheel(folder / "wheels", "hello", "1.0", {"hello.py": code}, scripts=scripts)
    (folder / "requirements.txt").write_text("--no-index\n--find-links ./wheels\nhello\n")
    return folder


def test_packages_come_back_and_are_seen_from_everywhere(
    pod: Callable, plain_pod: Callable, volume: Path
) -> None:
    untouched = plain_pod("sleep", "infinity").text("sh", "-c", BASE)
    for number in range(2):
        one = pod("sleep", "infinity", volume=volume)
        one.until("sh", "-c", IS_STORED, what="the environment is stored")
        one.until(f"{FIRST}/hello", what="its command is there")
        for command in (
            ("hello",),
            ("python3", "-c", "import hello; hello.main()"),
            ("sh", "-c", "hello"),
            ("bash", "-lc", "hello"),
            ("bash", "-lc", "python3 -c 'import hello; hello.main()'"),
        ):
            said = one.text(*command)
            assert "hello from" in said, command
            assert "/workspace-env" in said, command
        assert untouched.splitlines() == one.text("sh", "-c", BASE).splitlines()
        status = json.loads(one.text("workspace-agent", "--json", "replay", "status"))
        assert status["data"]["used"] == status["data"]["wanted"]
        log = one.text("sh", "-c", "cat /run/workspace-agent/logs/replay.log 2>/dev/null || true")
        assert (number == 0) is bool(log), "only the first one installs"
        one.remove()
