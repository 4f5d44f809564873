"""What the workload watches with inotify and fanotify, and whether it can be found again."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache

from workspace_agent.checkpoint import powers
from workspace_agent.model.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from workspace_agent.checkpoint.scene import Found, Open, Scene

# Where CRIU looks for what is watched when the kernel has no handle for it (criu/irmap.c).
_LOOKED_AT = (
    "/etc", "/var/spool", "/var/log", "/usr/share/dbus-1/system-services", "/lib/udev",
    "/var/lib/polkit-1/localauthority", "/usr/share/polkit-1/actions",
)  # fmt: skip


def judge(one: Open, scene: Scene) -> Iterator[Found]:
    """Look whether what is watched can be found again: by a handle, or in a few known folders."""
    for line in one.info.split("\n"):
        words = dict(word.partition(":")[::2] for word in line.split()[1:])
        if not ("ino" in words and "sdev" in words):
            continue
        device, number = int(words["sdev"], 16), int(words["ino"], 16)
        place = device >> 20, device & 0xFFFFF
        layered = scene.devices.get(place) == "overlay"
        if scene.may.has(powers.DAC_READ_SEARCH) and not layered:
            continue
        if (place, number) not in _looked_at():
            yield Problem(
                "checkpoint.watch", f"{one} watches files or folders",
                "they are on the container's own file system, which has no handles for them"
                if layered else "without DAC_READ_SEARCH they cannot be found again",
                "let the program poll; or add the capability DAC_READ_SEARCH, and let it watch the"
                " volume only",
            ), True, ""  # fmt: skip
            return


@cache
def _looked_at() -> frozenset[tuple[tuple[int, int], int]]:
    found = set()
    for top in _LOOKED_AT:
        for folder, _, names in os.walk(top):
            for path in (folder, *(f"{folder}/{name}" for name in names)):
                with suppress(OSError):
                    info = os.lstat(path)
                    found.add((_place(info.st_dev), info.st_ino))
    info = os.lstat("/")
    return frozenset({*found, (_place(info.st_dev), info.st_ino)})


def _place(device: int) -> tuple[int, int]:
    return os.major(device), os.minor(device)
