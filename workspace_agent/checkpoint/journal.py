"""What was done to a fresh container's files, noted before it is done, and how it is undone.

Each line is one act, [what, path, ...]:
- "aside" folder: files that were in the way are in it;
- "moved" path, folder, name: `path` had a file, which may be there by now;
- "folder" path, mode, owner, group, times, attributes: a folder was so, and may be gone by now;
- "made" path: nothing was there.
A line may come true later, or never: undoing twice is undoing once.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress

from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from workspace_agent.checkpoint.roots import Roots

ASIDE, MOVED, DIRECTORY, MADE = "aside", "moved", "folder", "made"

# A journal of this name is of a container that is to stay as it is.
_KEPT = ".kept"

# A line has a name and attributes of a folder.
_MOST = 1 << 30

Xattrs = list[tuple[str, str]]


class Journal:
    """The journal at *path*, which must not be there: lines wait until they are `written`."""

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self._lines: list[str] = []

    def note(self, *line: Any) -> None:
        """Note what is about to be done."""
        self._lines.append(f"{json.dumps(line)}\n")

    def write(self) -> None:
        """Write what was noted; no act of it may be done before."""
        if self._lines:
            files.write_all(self._fd, "".join(self._lines).encode())
            self._lines.clear()

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def described(fd: int) -> list[object]:
    """Return what a journal keeps of an open folder."""
    info = os.fstat(fd)
    xattrs = []
    with suppress(OSError):
        xattrs = [(name, os.getxattr(fd, name).decode("latin-1")) for name in os.listxattr(fd)]
    return [stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid,
            (info.st_atime_ns, info.st_mtime_ns), xattrs]  # fmt: skip


def undo(journal: str, roots: Roots) -> list[str]:
    """Bring everything back to what it was before `unpack`; returns what could not be.

    May be killed, and called again; does nothing where there is no journal. It has to come before
    anything else is made in this container: a name that was free then is freed again.
    """
    commit(journal, roots, finish=True)
    lines, left = _read(journal), []

    def each(what: str, act: Callable[..., None], order: int = 1) -> None:
        for _, path, *rest in (line for line in lines[::order] if line[0] == what):
            try:
                act(roots, path, *rest)
            except OSError:
                left.append(path)

    each(MADE, _away, -1)
    each(DIRECTORY, _again)
    each(MOVED, _back)
    _drop_asides(lines, roots)
    each(DIRECTORY, _dress)
    files.remove(journal)
    return left


def commit(journal: str, roots: Roots, *, finish: bool = False) -> None:
    """Keep what was unpacked: forget the journal, and remove what was moved aside.

    May be killed, and called again. With *finish* only one that was begun goes on.
    """
    if not finish:
        with suppress(FileNotFoundError):
            os.rename(journal, journal + _KEPT)
    if lines := _read(journal + _KEPT):
        _drop_asides(lines, roots)
    files.remove(journal + _KEPT)


def _read(path: str) -> list[Any]:
    """Return the lines; the last one may be torn, and was not acted upon."""
    text = (files.read(path, _MOST) or b"").decode()
    return [json.loads(line) for line in text.split("\n")[:-1]]


def _away(roots: Roots, path: str) -> None:
    """Remove what was made."""
    with suppress(FileNotFoundError, NotADirectoryError):
        roots.remove(path)
    if roots.look(path):
        raise OSError(f"{path} cannot be removed")


def _back(roots: Roots, path: str, aside: str, name: str) -> None:
    """Move a file back from *aside*, where it is there."""
    kept = f"{aside}/{name}"
    roots.forget()
    if not roots.look(kept):
        return
    now = roots.look(path)
    if now and stat.S_ISDIR(now.st_mode):
        roots.remove(path)
    above, _, last = path.rpartition("/")
    with roots.folder(aside) as source, roots.folder(above) as target:
        os.rename(name, last, src_dir_fd=source.fd, dst_dir_fd=target.fd)


def _again(roots: Roots, path: str, *_was: object) -> None:
    """Make a folder again, where it is gone."""
    roots.forget()
    now = roots.look(path)
    if now and stat.S_ISDIR(now.st_mode):
        return
    if now:
        roots.remove(path)
    above, _, name = path.rpartition("/")
    with roots.folder(above) as folder:
        os.mkdir(name, 0o700, dir_fd=folder.fd)


def _dress(
    roots: Roots, path: str, mode: int, uid: int, gid: int, times: tuple[int, int], xattrs: Xattrs
) -> None:
    with roots.folder(path) as folder, suppress(PermissionError):  # another's, like /tmp
        if os.fstat(folder.fd).st_uid != uid or os.fstat(folder.fd).st_gid != gid:
            os.chown(folder.fd, uid, gid)
        os.chmod(folder.fd, mode)
        with suppress(OSError):  # the kernel's own, which are there
            wanted = dict(xattrs)
            for name in set(os.listxattr(folder.fd)) - set(wanted):
                os.removexattr(folder.fd, name)
            for name, value in wanted.items():
                os.setxattr(folder.fd, name, value.encode("latin-1"))
        os.utime(folder.fd, ns=(times[0], times[1]))


def _drop_asides(lines: list[Any], roots: Roots) -> None:
    """Remove the folders of what was moved aside; those they are in keep their times."""
    for path in (line[1] for line in lines if line[0] == ASIDE):
        with suppress(OSError), roots.folder(path.rpartition("/")[0]) as above:
            info = os.fstat(above.fd)
            above.remove_tree(path.rpartition("/")[2])
            os.utime(above.fd, ns=(info.st_atime_ns, info.st_mtime_ns))
