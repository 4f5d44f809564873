"""Ways to copy a tree into an empty folder, each timed in the same way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ONCE = str(Path(__file__).with_name("copy_once.py"))

# "$1" is the source, "$2" the target. The first two are what is compared with.
PEERS = {
    "cp -r": 'cp -r "$1/." "$2/"',
    "cp -a": 'cp -a "$1/." "$2/"',
    "rsync -a": 'rsync -a "$1/" "$2/"',
    "tar": 'tar -C "$1" -cf - . | tar -C "$2" -xpf -',
}
OURS = "ours"

Sample = dict[str, float]


def engines(peers: Sequence[str]) -> list[str]:
    """Return what can be run here: ours, and which of *peers* are installed."""
    return [OURS, *(name for name in peers if shutil.which(name.split()[0]))]


def copy(engine: str, source: Path, target: Path, *, in_kernel: bool) -> Sample:
    """Copy *source* into the empty folder *target*: wall and CPU seconds of the copy alone."""
    if engine == OURS:
        argv = [sys.executable, "-S", "-I", ONCE, str(source), str(target), str(int(in_kernel))]
        return json.loads(
            subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
        )
    before, began = _children(), time.perf_counter()
    argv = ["bash", "-o", "pipefail", "-c", PEERS[engine], "copy", str(source), str(target)]
    subprocess.run(argv, check=True)
    return {"wall": time.perf_counter() - began, "cpu": _children() - before}


def _children() -> float:
    used = os.times()
    return used.children_user + used.children_system
