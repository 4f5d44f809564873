"""Packages in the image's own Python: which files they are, so that the next container has them.

For images whose services start that interpreter by its path. There is no moment in which all of
it is switched over, as an environment is: a container that is killed meanwhile is made again.
"""

from __future__ import annotations

import os
from contextlib import suppress

from workspace_agent.replay.dists import infos, record
from workspace_agent.replay.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def prefix(site: str) -> str:
    """Return the folder that the files of packages in *site* are all below."""
    return site.partition("/lib/python3")[0]


def files_of(site: str, names: Iterable[str]) -> list[str]:
    """List the files of the packages *names* in *site*, with their bytecode, below its prefix."""
    top, wanted = prefix(site), set(names)
    found: dict[str, None] = {}
    for name, info in infos(site):
        if name in wanted:
            for row in record(site, info):
                path = os.path.normpath(os.path.join(site, row[0]))
                found |= dict.fromkeys((path, *_bytecode(path)))
    inside = (path for path in found if path.startswith(f"{top}/") and "\n" not in path)
    return [path[len(top) + 1 :] for path in inside if os.path.lexists(path)]


def tree_of(top: str, paths: Iterable[str]) -> Tree:
    """Return *paths* below *top* as something to pack."""
    tree = Tree([], {}, [])
    folders: dict[str, None] = {}
    for path in paths:
        above = path.split("/")[:-1]
        folders |= dict.fromkeys("/".join(above[: n + 1]) for n in range(len(above)))
        whole = f"{top}/{path}"
        if os.path.islink(whole):
            tree.links[path] = os.readlink(whole)
        elif os.path.isfile(whole):
            tree.files.append((path, os.path.getsize(whole)))
    tree.folders.extend(folders)
    return tree


def remove(top: str, paths: Iterable[str]) -> None:
    """Remove *paths* below *top*, what was replaced, and the folders that this leaves empty."""
    folders = set()
    for path in paths:
        if not {"", ".", ".."} & set(path.split("/")):
            with suppress(OSError):
                os.unlink(f"{top}/{path}")
            folders.add(os.path.dirname(path))
    for folder in sorted(folders, key=len, reverse=True):
        with suppress(OSError):
            os.rmdir(f"{top}/{folder}")


def _bytecode(path: str) -> Iterator[str]:
    if path.endswith(".py"):
        folder, _, name = path.rpartition("/")
        with suppress(OSError):
            for one in os.listdir(f"{folder}/__pycache__"):
                if one.startswith(f"{name[:-3]}."):
                    yield f"{folder}/__pycache__/{one}"
