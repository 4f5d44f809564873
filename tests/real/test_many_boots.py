"""Many pods boot at once on one fresh volume, and some of them die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

DRIVER = str(Path(__file__).with_name("boots_at_once.py"))

# Enough to be killed in the middle of it, and still small enough to be copied at all.
FOLDERS, FILES = 60, 25


def contents(folder: Path) -> dict[str, bytes]:
    found = {}
    for here, _, names in os.walk(folder):
        for name in names:
            path = f"{here}/{name}"
            with open(path, "rb") as handle:
                found[os.path.relpath(path, folder)] = handle.read()
    return found


def test_of_32_first_boots_one_makes_the_home_whoever_dies(tmp_path: Path) -> None:
    image, volume = tmp_path / "image", tmp_path / "volume"
    for folder in range(FOLDERS):
        (image / f"{folder}").mkdir(parents=True)
        for number in range(FILES):
            (image / f"{folder}/{number}").write_bytes(b"%d " % number * (1 + 40 * number))
    volume.mkdir()
    expected, marker = contents(image), volume / "home/.packet-init"
    argv = [sys.executable, DRIVER, str(image), str(volume), "32", "5", "12"]
    looks, torn, markers = 0, 0, set()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as driver:
        while driver.poll() is None:
            if os.path.lexists(marker):  # from here on the tree has to be whole
                found = contents(volume / "home")
                markers.add(found.pop(marker.name))
                torn += found != expected
            looks += 1
        said = json.loads(driver.stdout.read().splitlines()[-1])
    found = contents(volume / "home")
    markers.add(found.pop(marker.name))
    left = os.listdir(volume / ".workspace-agent")

    assert (0, expected) == (torn, found)
    assert 1 == len(markers)
    assert {0} == set(said["codes"])
    assert ["ok", "ok"] == [row["status"] for row in said["rows"]]
    assert said["copying"] > 0
    assert looks > 0
    assert [] == [name for name in left if name.startswith("stage-")]
    assert 1 >= len([name for name in left if name[:6] == "lease." and name[6:].isdigit()])
