"""Where environments lie in the container: `<place>/envs/<key>`, and `<place>/env` leads to one.

The path is the same in every container, since the scripts of an environment name it. A folder
counts from the moment its mark is there, which is written last.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from shutil import rmtree
from tempfile import mkdtemp

from workspace_agent.host import files
from workspace_agent.host.room import room
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.replay.mark import Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK = ".workspace-agent.json"

# The packages of the image, before anything was added to them in this container.
_BASELINE = "baseline.json"

# An environment in memory takes what the workload could have had.
_SHARE = 0.25

_MEMORY = "/dev/shm"  # the one tmpfs that an unprivileged container has


@dataclass(frozen=True)
class Place:
    """The environments of this container, in the folder *top*."""

    top: str

    @property
    def env(self) -> str:
        """The path that programs use; it leads to the environment in use."""
        return f"{self.top}/env"

    def at(self, key: str) -> str:
        """Return where the environment *key* lies."""
        return f"{self.top}/envs/{key}"

    def mark(self, key: str) -> Mark | None:
        """Return what the environment *key* holds; None when it is not there, or not whole."""
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            mark = Mark.parsed(table(files.read(f"{self.at(key)}/{_MARK}", 4 << 20)))
            return mark if mark.key == key else None
        return None

    def commit(self, mark: Mark) -> None:
        """Say that the environment is whole."""
        files.commit(f"{self.at(mark.key)}/{_MARK}", dumps(asdict(mark)) + "\n")

    def used(self) -> str:
        """Return the key of the environment in use; "" when there is none."""
        try:
            return os.path.basename(os.readlink(self.env))
        except OSError:
            return ""

    def in_use(self) -> Mark | None:
        """Return what the environment in use holds; None when there is none."""
        return self.mark(self.used())

    def use(self, key: str) -> None:
        """Let `env` lead to the environment *key*, in one step."""
        draft = files.temporary_name(self.env)
        files.remove(draft)
        os.symlink(f"envs/{key}", draft)
        os.replace(draft, self.env)

    def clear(self, key: str, *, memory: int = 0) -> str:
        """Make an empty folder for the environment *key*; returns it.

        With *memory* bytes to put into it, it lies in memory where there is so much to spare.
        """
        path = self.at(key)
        self.discard(key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if memory and has_memory(memory):
            folder = mkdtemp(prefix=f"workspace-env-{key}-", dir=_MEMORY)
            os.chmod(folder, 0o755)
            os.symlink(folder, path)
        else:
            os.mkdir(path, 0o755)
        return path

    def discard(self, key: str) -> None:
        """Remove the environment *key*, whole or not."""
        path = self.at(key)
        files.remove(f"{path}/{_MARK}")
        if os.path.islink(path):
            rmtree(os.readlink(path), ignore_errors=True)
            os.unlink(path)
        rmtree(path, ignore_errors=True)

    def baseline(self) -> dict[str, str] | None:
        """Return the image's packages as `keep_baseline` has them; None before that."""
        known = table(files.read(f"{self.top}/{_BASELINE}"))
        return {name: str(version) for name, version in known.items()} or None

    def keep_baseline(self, found: Mapping[str, str]) -> None:
        """Note the image's packages, before anything is added to them in this container."""
        os.makedirs(self.top, exist_ok=True)
        files.commit(f"{self.top}/{_BASELINE}", dumps(dict(found)) + "\n")


def site_of(top: str) -> str:
    """Return the folder of the packages in the environment *top*; raises OSError."""
    for name in sorted(os.listdir(f"{top}/lib")):
        if name.startswith("python3"):
            return f"{top}/lib/{name}/site-packages"
    raise FileNotFoundError(f"{top}/lib")


def find(environ: Mapping[str, str], uid: int, system: bool, runtime: str) -> Place:
    """Return the place of this container's environments; nothing is made."""
    if told := environ.get("WORKSPACE_AGENT_ENVS"):
        return Place(told)
    usual: tuple[str, ...] = (layout.ENVIRONMENTS,) if uid == 0 else ()
    usual += (f"/var/tmp/workspace-env-{uid}",)  # ours, or not taken
    taken = (path for path in usual if system and _is_ours(path, uid))
    return Place(next(taken, f"{runtime}/python"))


def _is_ours(path: str, uid: int) -> bool:
    """Say whether *path* is a folder of this user's, or can be made one."""
    try:
        info = os.lstat(path)
    except OSError:
        return os.access(os.path.dirname(path), os.W_OK)
    return stat.S_ISDIR(info.st_mode) and info.st_uid == uid and os.access(path, os.W_OK)


def has_memory(wanted: int) -> bool:
    """Say whether *wanted* bytes fit into memory, and leave most of it to the workload."""
    try:
        left = room(_MEMORY)  # engines mount it so that no program starts there, and no .so loads
        fits = left.executable and left.free > wanted * 1.1
        return fits and _available() * _SHARE > wanted
    except OSError:
        return False


def _available() -> int:
    """Return how many bytes of memory this container may still take."""
    lines = (files.read("/proc/meminfo") or b"").splitlines()
    free = next((int(line.split()[1]) << 10 for line in lines if line[:13] == b"MemAvailable:"), 0)
    limit = _number("/sys/fs/cgroup/memory.max")
    taken = _number("/sys/fs/cgroup/memory.current")
    return min(free, limit - taken) if limit else free


def _number(path: str) -> int:
    text = (files.read(path) or b"").strip()
    return int(text) if text.isdigit() else 0
