"""HOME is really used: the passwd entry, a bind mount, or links from the image's home."""

from __future__ import annotations

import os
from dataclasses import dataclass

from workspace_agent.host import files, passwd
from workspace_agent.model.outcome import Check, Ok, Skip, Todo
from workspace_agent.model.problem import AgentError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class PasswdHome:
    """Lead the passwd entry of *user* to *home*, which ssh, su, sudo and cron read."""

    user: str
    home: str
    path: str = "/etc/passwd"
    image_home: str = ""
    note: str = ""
    name: str = "home.use"
    needs: tuple[str, ...] = ("home.seed",)

    def check(self) -> Check:
        """Compare the entry."""
        text = passwd.read(self.path)
        if passwd.with_home(text, self.user, self.home) == text:
            return Ok(f"HOME is {self.home}")
        if not os.access(self.path, os.W_OK):
            return Skip(f"{self.path} cannot be written: only HOME leads to {self.home}")
        return Todo(f"the passwd entry of {self.user} leads elsewhere")

    def apply(self, tell: Callable[[str], None]) -> None:
        """Rewrite one field of one line; *note* keeps what a restarted container cannot know."""
        if self.note and self.image_home not in ("", self.home):
            os.makedirs(os.path.dirname(self.note), exist_ok=True)
            files.commit(self.note, f"{self.image_home}\n")
        if not passwd.move_home(self.path, self.user, self.home):
            what = f"{self.path} was not changed"
            why = "it cannot be written here"
            raise AgentError(Problem("home.not-redirected", what, why, "use mode `links`"))


@dataclass(frozen=True)
class BindHome:
    """Mount the home on the volume over the image's, so that nothing else has to know."""

    home: str
    over: str
    name: str = "home.use"
    needs: tuple[str, ...] = ("home.seed",)

    def check(self) -> Check:
        """Compare the two folders: after the mount they are one."""
        try:
            same = os.path.samefile(self.home, self.over)
        except FileNotFoundError:
            same = False
        return Ok(f"{self.over} is {self.home}") if same else Todo(f"{self.over} is the image's")

    def apply(self, tell: Callable[[str], None]) -> None:
        """Call mount(2)."""
        import ctypes

        MS_BIND = 4096  # noqa: N806 - sys/mount.h
        libc = ctypes.CDLL(None, use_errno=True)
        source, target = os.fsencode(self.home), os.fsencode(self.over)
        if libc.mount(source, target, None, MS_BIND, None) != 0:
            why = os.strerror(ctypes.get_errno())
            what = f"{self.home} was not mounted over {self.over}"
            fix = "give the container CAP_SYS_ADMIN, or use mode `redirect`"
            raise AgentError(Problem("home.not-bound", what, why, fix, self.over))


@dataclass(frozen=True)
class LinkHome:
    """Link *entries* of the image's home to the home on the volume; a final `/` marks a folder.

    What the image has under such a name is moved aside, in the container's own layer; its
    content was copied when the home was seeded.
    """

    home: str
    image_home: str
    entries: tuple[str, ...]
    name: str = "home.use"
    needs: tuple[str, ...] = ("home.seed",)

    def check(self) -> Check:
        """Read the links."""
        missing = tuple(entry for entry in self.entries if not self._is_linked(entry))
        if not missing:
            return Ok(f"{len(self.entries)} entries of {self.image_home} lead to {self.home}")
        if not os.access(self.image_home, os.W_OK):
            return Skip(f"{self.image_home} cannot be written: only HOME leads to {self.home}")
        return Todo("entries are not linked", missing)

    def apply(self, tell: Callable[[str], None]) -> None:
        """Put each link in place by a rename."""
        for entry in self.entries:
            if self._is_linked(entry):
                continue
            path, target = self._pair(entry)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # A link to a folder that is not there would make `mkdir -p` fail on it.
            self._make(entry.rpartition("/")[0])
            if files.exists(path) and not os.path.islink(path):
                os.rename(path, _aside(path))
            temporary = f"{path}.link"
            files.remove(temporary)
            os.symlink(target, temporary)
            os.replace(temporary, path)

    def _make(self, folder: str) -> None:
        from workspace_agent.host.safe_root import SafeRoot  # a warm boot makes nothing

        if not os.path.isdir(f"{self.home}/{folder}"):
            with SafeRoot.at(self.home) as home, home.folder(folder, make=0o755):
                pass

    @property
    def moved(self) -> tuple[str, ...]:
        """Globs of what this changes in the image's home."""
        bare = [entry.rstrip("/") for entry in self.entries]
        return (*bare, *(f"{name}.image*" for name in bare))

    def _pair(self, entry: str) -> tuple[str, str]:
        bare = entry.rstrip("/")
        return f"{self.image_home}/{bare}", f"{self.home}/{bare}"

    def _is_linked(self, entry: str) -> bool:
        # Also true where one of the homes, or a folder between, is the other by another name.
        path, target = self._pair(entry)
        return os.path.realpath(path) == os.path.realpath(target)


def _aside(path: str) -> str:
    """Return a free name for what stands at *path*: a program may put a file over our link."""
    n = 1
    while files.exists(name := f"{path}.image" + f"-{n}" * (n > 1)):
        n += 1
    return name
