"""The root of the file system and the mounts that end with it, each held open, none ever left."""

from __future__ import annotations

import os
from contextlib import ExitStack

from workspace_agent.host.safe_root import SafeRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Roots:
    """*top* and the mount *points* in it, which are relative to it; closed with the context.

    A path is relative to *top* as well; links on the way to it are not followed, and it is on one
    of these mounts or refused: everything raises OSError as SafeRoot does.
    """

    def __init__(self, top: str, points: Iterable[str] = ()) -> None:
        self._stack = ExitStack()
        self._roots: dict[str, SafeRoot] = {}
        self._last: SafeRoot | None = None
        self._last_path = ""
        with ExitStack() as stack:
            for point in ("", *sorted(points, key=len)):
                path = f"{top.rstrip('/')}/{point}".rstrip("/") or "/"
                self._roots[point] = stack.enter_context(SafeRoot.at(path))
            self._stack = stack.pop_all()
        self._longest = sorted(self._roots, key=len, reverse=True)

    def __enter__(self) -> Roots:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        self._stack.close()

    def point(self, path: str) -> str:
        """Return the mount that *path* is on, by its name."""
        return next(one for one in self._longest if not one or f"{path}/".startswith(f"{one}/"))

    def folder(self, path: str) -> SafeRoot:
        """Open the folder *path*; it is closed by whoever asked."""
        point = self.point(path)
        return self._roots[point].folder(path[len(point) :].lstrip("/"))

    def above(self, path: str) -> int:
        """Return the descriptor of the folder that *path* is in, until the next call of this."""
        above = path.rpartition("/")[0]
        if self._last is None or self._last_path != above:
            self.forget()
            self._last, self._last_path = self.folder(above), above
        return self._last.fd

    def look(self, path: str) -> os.stat_result | None:
        """Return what stands at *path* itself; None when nothing, or when there is no way to it."""
        try:
            if path in self._roots:
                return os.fstat(self._roots[path].fd)
            name = path.rpartition("/")[2]
            return os.stat(name, dir_fd=self.above(path), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self, path: str) -> None:
        """Remove *path*, whatever it is."""
        above, _, name = path.rpartition("/")
        with self.folder(above) as folder:
            folder.remove_tree(name)

    def forget(self) -> None:
        """Open folders anew from now on: one of this name may be another one."""
        if self._last:
            os.close(self._last.fd)
            self._last = None
