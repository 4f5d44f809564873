"""What kind a file is: by its folder first, then by its name; who owns it is asked last. Pure.

A folder's *ground* is made once from that of the folder above, its name and what is in it, so that
a file costs a look into two sets.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace

from workspace_agent.watch import kinds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection

    # Who put a file there: `pip`, `conda`, `apt`, nobody of these (""), or somebody else since
    # (`edited`); `hidden` is what they make and nobody misses.
    Owner = Callable[[str, os.stat_result], str]

# What a folder can be, and what everything below it then is.
_WHOLE = {"cache": "cache", "npm": "npm", "models": "models", "git": "git", "hidden": "hidden",
          "keys": "secrets"}  # fmt: skip

# Of the system: what is here was put by a package, or is a change of the image.
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/var/lib", "/boot")
_HIDDEN = ("/var/lib/apt", "/var/lib/dpkg", "/var/cache/apt", "/var/cache/ldconfig",
           "/var/cache/debconf", "/var/cache/fontconfig", "/var/lib/systemd", "/run", "/proc",
           "/sys", "/dev", "/var/run", "/var/lock", "/tmp/.X11-unix", "/tmp/.ICE-unix",
           "/tmp/.font-unix")  # fmt: skip

# Where packages put files; all others there are somebody's own.
_OWNED = frozenset({"site", "system", "conda", "etc"})

# What an environment's `bin` has that no package lists.
_VENV = ("activate", "python")

_SPECIAL = frozenset({stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK, stat.S_IFCHR})


@dataclass(frozen=True)
class Ground:
    """A folder: *whole* names the kind of all that is in it, where there is such a kind.

    *where* is one of "", `home`, `etc`, `system`, `site` (Python packages), `conda`, `tmp`, `log`.
    """

    path: str = ""
    whole: str = ""
    where: str = ""
    tracked: bool = False  # an experiment's records
    repository: bool = False  # a work tree
    many_data: bool = False


@dataclass(frozen=True)
class Classifier:
    """The surroundings: the image's own *homes*, and whom to ask for an *owner*."""

    homes: Collection[str] = ("/root",)
    owner: Owner = lambda path, info: ""

    def ground(self, above: Ground, path: str, names: Collection[str], data: int) -> Ground:
        """Return what the folder *path* is, with *names* in it, *data* of them of a data set."""
        whole = above.whole if above.whole not in ("", "cache") else self._whole(path, above, names)
        many = data >= kinds.DATA_FILES
        if whole:
            return replace(above, path=path, whole=whole, many_data=many)
        name = path.rpartition("/")[2]
        return Ground(
            path,
            where=self._where(above.where, path, name, names),
            tracked=above.tracked or name in kinds.TRACKERS,
            repository=above.repository or ".git" in names,
            many_data=many,
        )

    def _whole(self, path: str, above: Ground, names: Collection[str]) -> str:
        name = path.rpartition("/")[2]
        if name.startswith(("models--", "datasets--", "spaces--")):
            found = "models"
        elif name == "__pycache__" or path in _HIDDEN:
            found = "hidden"
        elif name in kinds.KEY_FOLDERS:
            found = "keys"
        elif name == ".git":
            found = "git"
        elif name == "node_modules" and path.startswith(("/usr/lib", "/usr/local/lib")):
            found = "npm"
        elif name in kinds.CACHES or "CACHEDIR.TAG" in names or name == "huggingface":
            found = "cache"
        else:
            found = "cache" if name == "pkgs" and above.where == "conda" else ""
        return above.whole if above.whole and found != "models" else found

    def _where(self, above: str, path: str, name: str, names: Collection[str]) -> str:
        if name in ("site-packages", "dist-packages"):
            return "site"
        if "conda-meta" in names:
            return "conda"
        if above:
            return above
        if path in self.homes:
            return "home"
        if path == "/etc":
            return "etc"
        if path in ("/tmp", "/var/tmp"):
            return "tmp"
        if path == "/var/log":
            return "log"
        return "system" if path in _SYSTEM else ""

    def kind(self, ground: Ground, name: str, info: os.stat_result) -> str:
        """Return the kind of the file *name* in the folder *ground*."""
        mode = info.st_mode
        if stat.S_IFMT(mode) in _SPECIAL:
            return "hidden"
        whole = ground.whole
        if whole == "cache" and name in kinds.KEPT_IN_CACHES:
            return "secrets"
        if whole:
            return "hidden" if name.endswith(".pyc") else _WHOLE[whole]
        # a lock that says something is somebody's list of packages
        if name.endswith((".pyc", ".pid", ".sock", ".swp")) or (
            name.endswith(".lock") and not info.st_size
        ):
            return "hidden"
        where, is_bin = ground.where, ground.path.endswith("/bin")
        if name == "pyvenv.cfg" or (is_bin and name.lower().startswith(_VENV)):
            return "pip"
        if where in _OWNED or is_bin:
            owner = self.owner(f"{ground.path}/{name}", info)
            if owner == "edited":
                return "code"
            if owner:
                return owner
            if where == "etc":
                return "config"
        return _by_name(ground, name, info.st_size)


def _by_name(ground: Ground, name: str, size: int) -> str:
    """Return the kind of a file that is its own."""
    stem, _, end = name.rpartition(".")
    end = end.lower() if stem else ""
    where = ground.where
    if end in kinds.NOTEBOOKS:
        return "notebooks"
    if _is_key(name, end):
        return "secrets"
    if end in kinds.CODE or name in ("Makefile", "Dockerfile"):
        return "code"
    if end in kinds.CHECKPOINTS and size >= kinds.CHECKPOINT_BYTES:
        return "checkpoints"
    if end in kinds.DATABASES:
        return "databases"
    if ground.tracked or name.startswith("events.out.tfevents"):
        return "trackers"
    if end in kinds.DATA and (ground.many_data or size >= kinds.DATA_BYTES):
        return "datasets"
    if where in ("tmp", "log"):
        return "temporary" if where == "tmp" else "logs"
    if where == "home" and _is_dotted(ground, name):
        return "config"
    if ground.repository:
        return "code"
    if end in kinds.DOCUMENTS or not end:
        return "documents" if where != "system" else "other"
    return "other"


def _is_key(name: str, end: str) -> bool:
    return (
        (end in kinds.KEYS and not name.startswith("ca-"))
        or name in kinds.KEY_NAMES
        or (name.startswith("id_") and end in ("", "pub"))
    )


def _is_dotted(ground: Ground, name: str) -> bool:
    """Say whether this is a setting of the home's owner: itself, or a folder, has a dot."""
    return name.startswith(".") or "/." in ground.path
