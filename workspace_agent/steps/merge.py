"""Lay the image's defaults into a home that is there, so that no byte of the user's is lost.

Both sides are open folders: whatever is swapped on the volume meanwhile, nothing is reached that
is not in one of the two.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field

from workspace_agent.host import files
from workspace_agent.host.renameat2 import move
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.host.transfer import Rights, Ways, copy_file, copy_link, same_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A volume without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})

_PLAIN = (stat.S_IFREG, stat.S_IFLNK)

# Folders deeper than any that a person or a package makes; each costs four descriptors.
_DEEP = 150

# More than these are counted, not named.
_NAMED = 200


class NotOursError(Exception):
    """Another pod has taken over what we were doing."""


@dataclass
class Laid:
    """What a merge came to: paths that *kept* the user's version, and those of them (*apart*)
    where a link or a special file stands, so that nothing could be laid there.
    """

    kept: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    kept_total: int = 0
    replaced: int = 0

    def keep(self, path: str, *, apart: bool = False) -> None:
        """Note that the user's *path* stays."""
        self.kept_total += 1
        if len(self.kept) < _NAMED:
            self.kept.append(path)
            self.apart += [path] * apart


@dataclass
class Merge:
    """Lay *defaults* over *home*; the defaults are used up.

    With *reset* what differs is replaced by the image's, else the user's stays and the image's is
    put *beside*; a strict prefix of the default was torn by a killed copy and is replaced in
    either case. Whatever is replaced has a second name in *backup* before. Where one side has a
    folder and the other has none, and for special files, the user's stays. *held* is asked before
    each replacement; on False NotOursError is raised.
    """

    state: SafeRoot
    backup: str
    beside: str
    reset: bool
    held: Callable[[], bool] = lambda: True
    tell: Callable[[str], None] = lambda _: None
    laid: Laid = field(default_factory=Laid)

    def lay(self, defaults: SafeRoot, home: SafeRoot, below: str = "") -> Laid:
        """Do it for one folder and all in it."""
        for name in sorted(defaults.names()):
            self.tell("laying the defaults into the home")
            path = f"{below}/{name}" if below else name
            try:
                self._one(defaults, home, name, path)
            except PermissionError:
                if os.geteuid() == 0:
                    raise  # the volume refuses us, and would refuse the rest as well
                self.laid.keep(path, apart=True)
        return self.laid

    def _one(self, defaults: SafeRoot, home: SafeRoot, name: str, path: str) -> None:
        mine = home.look(name)
        if mine is None:
            place(defaults, name, home)
            return
        default = defaults.look(name)
        if default is None:
            return  # whoever took it away also lays it
        if stat.S_ISDIR(default.st_mode) and stat.S_ISDIR(mine.st_mode):
            if path.count("/") > _DEEP:
                self.laid.keep(path, apart=True)
                return
            with defaults.folder(name) as inner, home.folder(name) as own:
                self.lay(inner, own, path)
        elif _kind(default) == stat.S_IFDIR or _kind(mine) not in _PLAIN:
            self.laid.keep(path, apart=_kind(mine) != stat.S_IFDIR)
        else:
            self._settle(defaults, home, name, path)

    def _settle(self, defaults: SafeRoot, home: SafeRoot, name: str, path: str) -> None:
        likeness = compare(defaults, home, name)
        if likeness == "same":
            return
        if self.reset or likeness == "torn":
            if not self.held():
                raise NotOursError
            self._back_up(home, name, path)
            defaults.rename(name, name, home)
            self.laid.replaced += 1
            return
        self.laid.keep(path)
        above, _, _ = f"{self.beside}/{path}".rpartition("/")
        # An older image's default of another kind may have the place: the user's counts, not ours.
        with (
            suppress(NotADirectoryError, IsADirectoryError),
            self.state.folder(above, make=0o700) as folder,
        ):
            defaults.rename(name, name, folder)

    def _back_up(self, home: SafeRoot, name: str, path: str) -> None:
        above, _, _ = f"{self.backup}/{path}".rpartition("/")
        with self.state.folder(above, make=0o700) as folder:
            keep(home, name, folder)


def compare(one: SafeRoot, other: SafeRoot, name: str) -> str:
    """Say how *name* in *other* is to that in *one*: "same", "torn" (a strict prefix), "other".

    Both are regular files or symbolic links.
    """
    first, second = one.look(name), other.look(name)
    if first is None or second is None or _kind(first) != _kind(second):
        return "other"
    if stat.S_ISLNK(first.st_mode):
        links = [os.readlink(name, dir_fd=side.fd) for side in (one, other)]
        return "same" if links[0] == links[1] else "other"
    if second.st_size > first.st_size or not same_start(one.fd, other.fd, name, second.st_size):
        return "other"
    return "same" if second.st_size == first.st_size else "torn"


def place(defaults: SafeRoot, name: str, home: SafeRoot) -> None:
    """Move *name* into *home*, unless something has that name by now."""
    found = defaults.look(name)
    if found is None:
        return
    if stat.S_ISDIR(found.st_mode):
        try:
            defaults.rename(name, name, home)  # whole, with its modes and times
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        return
    try:
        os.link(name, name, src_dir_fd=defaults.fd, dst_dir_fd=home.fd, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        move(name, defaults.fd, home.fd)


def keep(home: SafeRoot, name: str, backup: SafeRoot) -> None:
    """Give *name* of *home* a second name in *backup*, where it is not yet."""
    try:
        os.link(name, name, src_dir_fd=home.fd, dst_dir_fd=backup.fd, follow_symlinks=False)
    except FileExistsError:
        return  # this boot was here before
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(home, name, backup)


def _copy(home: SafeRoot, name: str, backup: SafeRoot) -> None:
    """Without hard links: the bytes themselves, durable before anything is replaced."""
    info = os.stat(name, dir_fd=home.fd, follow_symlinks=False)
    if stat.S_ISLNK(info.st_mode):
        copy_link(home.fd, backup.fd, name, info, Rights())
        return
    copy_file(home.fd, backup.fd, name, info, Ways(), Rights(), lambda: None)
    fd = backup.open(name, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    files.sync_dir(".", backup.fd)


def _kind(info: os.stat_result) -> int:
    return stat.S_IFMT(info.st_mode)
