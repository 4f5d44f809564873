"""What the tests of checkpoints share: containers that may freeze, and what their logs say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LAB = Path(__file__).parent / "checkpoint_lab"

# The least that is generally of use: containers.md, mode U2.
LEAST = (
    "--cap-add=CHECKPOINT_RESTORE,SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    f"--volume={LAB}:/lab:ro",
    "--entrypoint=/opt/workspace-agent/entrypoint.sh",
)

_TICK = re.compile(r"^(\d+) (.*) ([0-9a-f]{16})$")


def ticks(pod: Any) -> list[tuple[int, str, str]]:
    """Return what a workload of lives.py has said: number, verdict, token."""
    found = [_TICK.match(line) for line in pod.out.splitlines()]
    return [(int(one[1]), one[2], one[3]) for one in found if one]


def starts(volume: Path) -> list[list[str]]:
    """Return the starts of the workload, as (number, token)."""
    path = volume / "starts"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def more(pod: Any, until: Callable, count: int = 5) -> list[tuple[int, str, str]]:
    """Wait until the workload has said something *count* times; returns all that it said."""
    before = len(ticks(pod))
    until(lambda: len(ticks(pod)) >= before + count, "the workload ticks")
    return ticks(pod)


def ledger(volume: Path) -> list[dict[str, Any]]:
    """Return the lines of the ledgers on a volume."""
    paths = sorted((volume / ".workspace-agent/checkpoints").glob("*/attempts.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def versions(volume: Path) -> list[Path]:
    """Return the folders of all versions, the newest last."""
    return sorted((volume / ".workspace-agent/checkpoints").glob("*/versions/*"))


def of(volume: Path, name: str) -> dict[str, Any]:
    """Return what the newest version's manifest says of *name*."""
    return json.loads((versions(volume)[-1] / "MANIFEST.json").read_text())[name]


def command(name: str) -> tuple[str, ...]:
    """Return the command of a workload."""
    return ("python3", "/lab/lives.py", name)


def goes_on(*pods: Any) -> None:
    """Assert that the log of all is one: no gap, no repeat, all well, one memory."""
    said = [one for pod in pods for one in ticks(pod)]
    assert [n for n, _, _ in said] == list(range(1, len(said) + 1))
    assert {verdict for _, verdict, _ in said} == {"ok"}
    assert len({token for _, _, token in said}) == 1


def starter(placeholder_pod: Callable) -> Callable:
    """Return what starts containers that may freeze: `pod("plain", volume)`."""

    def start(name: str | tuple[str, ...], volume: Path, *options: str, **more: object) -> Any:
        words = command(name) if isinstance(name, str) else name
        return placeholder_pod(*words, volume=volume, options=(*LEAST, *options), **more)

    return start
