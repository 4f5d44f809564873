"""Lay the image's defaults into a home that is there, so that no byte of the user's is lost."""

from __future__ import annotations

import errno
import os
import stat

from workspace_agent.host import files


def add_missing(defaults: str, home: str) -> None:
    """Move what *home* lacks there; whatever has its name already stays as it is."""
    for name in sorted(os.listdir(defaults)):
        source, target = f"{defaults}/{name}", f"{home}/{name}"
        if not stat.S_ISDIR(os.lstat(source).st_mode):
            place(source, target)
        elif not files.exists(target):
            os.rename(source, target)  # whole, with its modes and times
        elif stat.S_ISDIR(os.lstat(target).st_mode):
            add_missing(source, target)


def put_back(defaults: str, home: str, backup: str) -> None:
    """Make the defaults those of the image again: what is missing comes, what differs is replaced.

    The user's file gets a second name in *backup* before the replacing rename, so that at no
    instant its content is without one. What the image has no default for is not touched, and
    where one side has a folder and the other has none, the user's stays.
    """
    for name in sorted(os.listdir(defaults)):
        source, target = f"{defaults}/{name}", f"{home}/{name}"
        if not files.exists(target):
            os.rename(source, target)
        elif _is_folder(source) and _is_folder(target):
            put_back(source, target, f"{backup}/{name}")
        elif not _is_folder(source) and not _is_folder(target) and not _same(source, target):
            os.makedirs(backup, 0o700, exist_ok=True)
            _keep(target, f"{backup}/{name}")
            os.rename(source, target)


def place(source: str, target: str) -> None:
    """Give *source* the name *target* unless that is taken."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        if not files.exists(target):  # a volume without hard links: the stage's file itself
            os.rename(source, target)


def _keep(path: str, copy: str) -> None:
    try:
        os.link(path, copy, follow_symlinks=False)
    except FileExistsError:
        return  # this boot was here before
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        if os.path.islink(path):
            os.symlink(os.readlink(path), copy)
            return
        with open(path, "rb") as handle:  # no hard links here: the bytes themselves, durable
            files.commit(copy, handle.read(), 0o600, durable=True)


def _same(one: str, other: str) -> bool:
    if os.path.islink(one) or os.path.islink(other):
        both = os.path.islink(one) and os.path.islink(other)
        return both and os.readlink(one) == os.readlink(other)
    first, second = os.lstat(one), os.lstat(other)
    if not stat.S_ISREG(second.st_mode) or first.st_size != second.st_size:
        return not stat.S_ISREG(second.st_mode)  # a socket or fifo of the user's: leave it
    with open(one, "rb") as a, open(other, "rb") as b:
        while piece := a.read(1 << 20):
            if piece != b.read(1 << 20):
                return False
    return True


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)
