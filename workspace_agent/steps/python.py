"""Packages on the volume, seen by the workload's Python, and never in the way of its library."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from workspace_agent.host import files
from workspace_agent.model.outcome import Check, Ok, Skip, Todo
from workspace_agent.model.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PTH = "workspace-agent.pth"

_SUFFIXES = (".py", ".pyc", ".so", ".pyd")


def shadowed(names: Iterable[str], library: Iterable[str] = sys.stdlib_module_names) -> list[str]:
    """List the modules of the standard *library* that a folder holding *names* would hide."""
    modules = set(library)
    found = set()
    for name in names:
        module = name.split(".")[0]
        if module in modules and (name == module or name.endswith(_SUFFIXES)):
            found.add(module)
    return sorted(found)


def shadow_problem(folder: str) -> Problem | None:
    """Say what *folder* hides, if it does; an absent one hides nothing."""
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    hidden = shadowed(names)
    if not hidden:
        return None
    return Problem(
        "python.shadows-stdlib",
        f"{folder} is not in PYTHONPATH",
        f"it would hide the standard library's {', '.join(hidden[:8])}",
        "remove those, or keep them: the packages stay visible through a .pth line, which comes"
        " after the standard library",
        folder,
    )


@dataclass(frozen=True)
class PythonPath:
    """Keep one `.pth` file that names *folders*: it needs no environment and hides nothing."""

    site: str
    folders: Sequence[str]
    name: str = "python.path"
    needs: tuple[str, ...] = ()

    def check(self) -> Check:
        """Compare the file."""
        if not self.site:
            return Skip("no python3 with a site folder that we know")
        if files.read(self._path) == self._text:
            return Ok(self._path)
        if not os.access(self._nearest(), os.W_OK):
            return Skip(f"{self.site} cannot be written: PYTHONPATH alone leads to the packages")
        return Todo("the .pth line is missing or stale", tuple(self.folders))

    def apply(self, tell: Callable[[str], None]) -> None:
        """Write it; Debian's local folder may have to be made first."""
        os.makedirs(self.site, exist_ok=True)
        files.commit(self._path, self._text)

    @property
    def _path(self) -> str:
        return f"{self.site}/{PTH}"

    @property
    def _text(self) -> bytes:
        # `site` executes lines that begin with "import": only absolute paths may stand here.
        plain = [f for f in self.folders if f.startswith("/") and "\n" not in f]
        return os.fsencode("\n".join([*plain, ""]))

    def _nearest(self) -> str:
        folder = self.site
        while not os.path.isdir(folder) and folder != "/":
            folder = os.path.dirname(folder)
        return folder
