"""How much an index would send for a package: asked by a person, never while a pod boots."""

from __future__ import annotations

import urllib.request
from contextlib import suppress

from workspace_agent.config.toml import parser
from workspace_agent.replay.lines import normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# For all of them together it is a person who waits.
_PATIENCE = 10.0


def sizes(lock: bytes, abi: str) -> dict[str, int]:
    """Return the bytes of each package's wheel in a *lock* (PEP 751), where that can be known."""
    found = {}
    with suppress(ValueError):
        for one in parser()(lock.decode("utf-8", "replace")).get("packages", ()):
            wheels = [wheel for wheel in one.get("wheels", ()) if _fits(wheel, abi)]
            if wheels and (size := wheels[0].get("size") or _asked(wheels[0].get("url", ""))):
                found[normal(one["name"])] = size
    return found


def _fits(wheel: dict[str, Any], abi: str) -> bool:
    """Say whether *wheel* is for the interpreter *abi*, such as cp311-x86_64."""
    python, _, machine = abi.removesuffix("-musl").partition("-")
    name = str(wheel.get("name") or wheel.get("url", "")).rpartition("/")[2]
    tags = name.removesuffix(".whl").split("-")[-3:]
    fits = python in tags[0] or "abi3" in tags[1:2] or "py3" in tags[0]
    return fits and ("any" in tags[-1] or ("linux" in tags[-1] and machine in tags[-1]))


def _asked(url: str) -> int:
    if not url.startswith("https://"):
        return 0
    request = urllib.request.Request(url, method="HEAD")  # https alone
    with (
        suppress(OSError, ValueError),
        urllib.request.urlopen(request, timeout=_PATIENCE) as answer,
    ):
        return int(answer.headers.get("Content-Length", 0))
    return 0
