"""The files that the workload has open, and whether they will be the same ones."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from functools import cache

from workspace_agent.checkpoint.scene import descriptors, maps
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workspace_agent.checkpoint.scene import Found, Open, Scene
    from workspace_agent.checkpoint.tree import Task

# criu.py's --ghost-limit: deleted files are kept in the checkpoint up to this.
_GHOST = 512 << 20

# What CRIU calls its link to a file that is open by a name that is gone.
_LINK = re.compile(r"link_remap\.\d+")
_GONE = re.compile(r" (/\S.*) \(deleted\)$", re.M)

_SQLITE = b"SQLite format 3\0"


def judge(one: Open, scene: Scene) -> Iterator[Found]:
    """Judge what has a path."""
    path, deleted = one.target.removesuffix(" (deleted)"), one.target.endswith(" (deleted)")
    if path.startswith(("/memfd:", "/dev/zero", "/SYSV", "/secretmem", "/anon_hugepage")):
        return
    if one.field("mnt_id") not in scene.mounts and not _is_here(one.link, path):
        yield Problem(
            "checkpoint.unseen-mount", f"{one} is {path}",
            "the file system that it is on cannot be seen in this container",
            "close it before a checkpoint; `run` passes only the standard streams on",
        ), True, one.target  # fmt: skip
    elif deleted:
        if is_ghost(one.link):
            yield too_large(f"{one} is {path}, which is deleted"), True, one.target
    elif one.writes and path.startswith(f"{scene.volume.rstrip('/')}/"):
        appends = one.flags & (os.O_ACCMODE | os.O_APPEND) == os.O_WRONLY | os.O_APPEND
        if not appends and _is_regular(one.link):
            yield Problem(
                "checkpoint.size", f"{one} is {path}",
                "it is restored only while the file keeps its size: after a checkpoint that leaves"
                " the workload running, not once it has grown or was cut",
                "open logs with O_APPEND for writing only (`>>` in a shell)",
            ), False, one.target  # fmt: skip
    elif one.writes and _is_regular(one.link) and _is_database(one.link):
        yield Problem(
            "checkpoint.database", f"{one} is the database {path}",
            "SQLite finds that its file is another one after a restore and does not write to it",
            "keep it on the volume",
        ), False, one.target  # fmt: skip


def forget_links(tasks: Sequence[Task]) -> None:
    """Remove the links of an earlier dump of *tasks*: CRIU wants to use their names again."""
    gone: set[str] = set()
    for one in tasks:
        gone.update(_GONE.findall(maps(one.pid)))
        gone.update(*(_GONE.findall(f" {fd.target}") for fd in descriptors(one.pid, one)))
    for folder in {os.path.dirname(path) for path in gone}:
        with suppress(OSError):
            for name in filter(_LINK.fullmatch, os.listdir(folder)):
                os.unlink(f"{folder}/{name}")


def _is_here(link: str, path: str) -> bool:
    """Say whether *path* leads to the same file in this container: CRIU then takes that one."""
    try:
        return os.path.samestat(os.stat(link), os.stat(path))
    except OSError:
        return False


def _is_regular(link: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(link).st_mode)
    except OSError:
        return False


def _is_database(link: str) -> bool:
    try:
        with open(link, "rb", buffering=0) as handle:
            return handle.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def too_large(what: str) -> Problem:
    """Say that a deleted file is too large."""
    return Problem(
        "checkpoint.deleted-file", what, f"deleted files are kept up to {size(_GHOST)}",
        "let the program keep it on the volume, with a name",
    )  # fmt: skip


def is_ghost(path: str) -> bool:
    """Say whether *path* leads to a deleted file that is too large to be kept."""
    try:
        info = os.stat(path)
    except OSError:
        return False
    ghost = stat.S_ISREG(info.st_mode) and info.st_nlink == 0 and info.st_dev != _nowhere()
    return ghost and info.st_blocks * 512 > _GHOST


@cache
def _nowhere() -> int:
    """Return the device of memory that only looks like a deleted file."""
    fd = os.memfd_create("nowhere")
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)
