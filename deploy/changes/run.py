"""run.py FOLDER CMD...: run CMD and keep what it changed in the file system as FOLDER/tree.

A Dockerfile can then copy the work of root into an image without changing that image's user.
Changes are found by their change time, which nobody can set back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# Caches, and what no image carries.
PASSED = ("/dev", "/proc", "/root/.cache", "/run", "/sys", "/tmp", "/var/tmp")


def changed(since: int, folder: str) -> list[str]:
    """List what has changed *since* on the file system of the root, but not what is in *folder*."""
    device = os.lstat("/").st_dev
    found = []
    for one, folders, names in os.walk("/"):
        links = [name for name in folders if os.path.islink(os.path.join(one, name))]
        folders[:] = [
            name
            for name in folders
            if (path := os.path.join(one, name)) not in (*PASSED, folder)
            and os.stat(path).st_dev == device
        ]
        paths = (os.path.join(one, name) for name in {*folders, *links, *names})
        found += [path for path in paths if os.lstat(path).st_ctime_ns >= since]
    return found


def main(folder: str, *command: str) -> int:
    """Do as the module says; returns the exit code of *command*."""
    stamp = os.path.join(folder, "stamp")
    open(stamp, "w").close()
    since = os.stat(stamp).st_ctime_ns
    code = subprocess.run(command, check=False).returncode
    tree = os.path.join(folder, "tree")
    os.mkdir(tree)
    for path in changed(since, folder):
        if os.path.isdir(path) and not os.path.islink(path):
            _folder(path, tree)
        else:
            _folder(os.path.dirname(path), tree)
            shutil.copy2(path, tree + path, follow_symlinks=False)
    return code


def _folder(path: str, tree: str) -> None:
    """Make the folder *path* in *tree*, with its mode: COPY takes that over."""
    if not os.path.isdir(tree + path):
        _folder(os.path.dirname(path), tree)
        os.mkdir(tree + path)
        shutil.copystat(path, tree + path)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
