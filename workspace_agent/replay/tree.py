"""What is in an environment's folder. Folders and links come back from a list of their own."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from contextlib import suppress
from dataclasses import dataclass

from workspace_agent.model.jsontext import dumps, table

# Making a file costs about as much as writing so many bytes (measured on ext4 and tmpfs).
_FILE = 16 << 10

# A list of ten million names; more is not an environment.
_LIMIT = 256 << 20

_NO_GZIP = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Tree:
    """What is in a folder: paths of *folders*, *links* with their targets, *files* with sizes."""

    folders: list[str]
    links: dict[str, str]
    files: list[tuple[str, int]]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(size for _, size in self.files)

    def shares(self, count: int) -> list[list[str]]:
        """Split the files, in their order, into *count* parts that take as long to unpack."""
        whole = self.size + _FILE * len(self.files)
        parts: list[list[str]] = [[] for _ in range(count)]
        done = 0
        for path, size in self.files:
            parts[min(count - 1, done * count // max(1, whole))].append(path)
            done += size + _FILE
        return [part for part in parts if part]

    def packed(self) -> bytes:
        """Return the folders and the links as the bytes of a file."""
        text = dumps({"folders": self.folders, "links": self.links})
        return gzip.compress(text.encode("utf-8", "surrogateescape"), 6)

    @classmethod
    def unpacked(cls, data: bytes | None) -> Tree | None:
        """Return what `packed` was given; None for what leads outside, or is none."""
        with suppress(ValueError, TypeError, AttributeError, KeyError, *_NO_GZIP):
            with gzip.open(io.BytesIO(data or b"")) as packed:
                found = table(packed.read(_LIMIT))
            tree = cls(found["folders"], dict(found["links"]), [])
            if all(map(_is_name, tree.links.values())) and _is_inside(tree):
                return tree
        return None


def walk(top: str) -> Tree:
    """Return what is in *top*; anything but folders, links and regular files is left out."""
    tree = Tree([], {}, [])
    queue = [""]
    while queue:
        below = queue.pop()
        with os.scandir(f"{top}/{below}") as entries:
            found = sorted(entries, key=lambda one: one.name, reverse=True)
        for one in found:
            path = f"{below}/{one.name}" if below else one.name
            if one.is_symlink():
                tree.links[path] = os.readlink(one.path)
            elif one.is_dir():
                tree.folders.append(path)
                queue.append(path)
            elif stat.S_ISREG(one.stat(follow_symlinks=False).st_mode) and "\n" not in path:
                tree.files.append((path, one.stat(follow_symlinks=False).st_size))
    return tree


def _is_inside(tree: Tree) -> bool:
    """Say whether each name is below the top, in a folder of the tree and not behind a link."""
    known = {"", *tree.folders}
    return not known & tree.links.keys() and all(
        _is_name(path) and not {"", ".", ".."} & set(path.split("/"))
        and path.rpartition("/")[0] in known
        for path in (*tree.folders, *tree.links)
    )  # fmt: skip


def _is_name(path: str) -> bool:
    return 0 < len(os.fsencode(path)) < 4096 and "\0" not in path
