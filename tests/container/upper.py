"""What is really on a container's own disk: reads its upper folder, from outside, folder by folder.

upper.py UPPER LOWER: a line of JSON for each thing that is no folder: its path, size, bytes on
disk, change time, whether it was copied up from the image, and whether LOWER, the image's folders
with ":" between, have something of that name. No code of the agent's.
"""

from __future__ import annotations

import json
import os
import stat
import sys


def copied_up(fd: int, name: str) -> bool:
    """Say whether the kernel has noted where *name* came from."""
    path = f"/proc/self/fd/{fd}/{name}"
    return "trusted.overlay.origin" in os.listxattr(path, follow_symlinks=False)


def walk(fd: int, path: str, lowers: list[int]) -> None:
    for name in os.listdir(fd):
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
            walk(below, f"{path}/{name}", lowers)
            os.close(below)
        elif not (stat.S_ISCHR(info.st_mode) and info.st_rdev == 0):  # that is a removal
            tell(fd, f"{path}/{name}", name, info, lowers)


def tell(fd: int, path: str, name: str, info: os.stat_result, lowers: list[int]) -> None:
    print(json.dumps({
        "path": path, "size": info.st_size, "bytes": info.st_blocks * 512,
        "ctime": info.st_ctime_ns, "origin": copied_up(fd, name),
        "in_image": any(is_there(path, lower) for lower in lowers),
    }))  # fmt: skip


def is_there(path: str, lower: int) -> bool:
    try:
        info = os.stat(path[1:], dir_fd=lower, follow_symlinks=False)
    except OSError:  # too long a path, too: the image of the tests has none
        return False
    return not (stat.S_ISCHR(info.st_mode) and info.st_rdev == 0)


if __name__ == "__main__":
    folders = [os.open(one, os.O_RDONLY) for one in sys.argv[2].split(":")]
    walk(os.open(sys.argv[1], os.O_RDONLY), "", folders)
