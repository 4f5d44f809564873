"""A mounted slow volume (tests/tools/slowvol) for tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOWVOL = str(REPOSITORY / "tests/tools/slowvol/slowvol.sh")


@dataclass(frozen=True)
class Volume:
    """The *mount*, and *back*, the folder behind it: what is really there."""

    mount: Path
    back: Path

    def ctl(self, *commands: str) -> None:
        """Write *commands* to the control file."""
        subprocess.run([SLOWVOL, "ctl", str(self.mount), *commands], check=True)

    def stats(self) -> dict[str, int]:
        """Return the counters; each read of the file makes its text anew, so there is only one."""
        fd = os.open(self.mount / ".slowvol", os.O_RDONLY)
        try:
            return json.loads(os.read(fd, 1 << 16))
        finally:
            os.close(fd)


@contextmanager
def mounted(mount: Path, back: Path, options: str = "") -> Iterator[Volume]:
    """Mount *back* at *mount* or skip the test; every fault is undone at the end."""
    missing = [tool for tool in ("fusermount3", "gcc", "pkg-config") if not shutil.which(tool)]
    if os.geteuid() != 0 or missing or not Path("/dev/fuse").exists():
        pytest.skip("needs root, /dev/fuse, and apt-get install gcc pkg-config libfuse3-dev fuse3")
    for folder in (mount, back):
        folder.mkdir(exist_ok=True)
    argv = [SLOWVOL, "up", str(back), str(mount), *([options] if options else [])]
    up = subprocess.run(argv, capture_output=True, check=False)
    if up.returncode == 3:
        pytest.skip(up.stderr.decode())
    assert up.returncode == 0, up.stderr
    try:
        yield Volume(mount, back)
    finally:
        with suppress(subprocess.CalledProcessError):
            Volume(mount, back).ctl("heal", "hang off")
        subprocess.run([SLOWVOL, "down", str(mount)], check=True)
