"""What other installers have added since this container started; names to offer, never to run."""

from __future__ import annotations

import os
from contextlib import suppress

from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DPKG, _APT = "/var/lib/dpkg/info", "/var/lib/apt/extended_states"
_NODE = ("/usr/local/lib/node_modules", "/usr/lib/node_modules")


def found(
    since: int,
    prefix: str,
    dpkg: str = _DPKG,
    apt: str = _APT,
    node: Sequence[str] = _NODE,
) -> dict[str, set[str]]:
    """Return the names that each installer has added after *since* (ns).

    *prefix* is the interpreter's: conda's where it has a conda-meta.
    """
    # `apt-mark showmanual` takes seconds for what these two say: the rest is marked automatic.
    debs = {name[:-5].partition(":")[0] for name in _younger(dpkg, since) if name[-5:] == ".list"}
    conda = (name for name in _younger(f"{prefix}/conda-meta", since) if name[-5:] == ".json")
    return {
        "apt": debs - (_automatic(apt) if debs else set()),
        "npm": {name for folder in dict.fromkeys((f"{prefix}/lib/node_modules", *node))
                for name in _modules(folder, since)},
        "conda": {name.rsplit("-", 2)[0] for name in conda},
    }  # fmt: skip


def _younger(folder: str, since: int) -> Iterator[str]:
    """Yield the names in *folder* that are younger than *since*; most containers have none."""
    with suppress(OSError):
        if os.stat(folder).st_mtime_ns >= since:
            with os.scandir(folder) as entries:
                yield from (one.name for one in entries if one.stat().st_mtime_ns >= since)


def _modules(folder: str, since: int) -> Iterator[str]:
    for name in _younger(folder, since):
        if name.startswith("@"):
            yield from (f"{name}/{one}" for one in _younger(f"{folder}/{name}", since))
        elif not name.startswith("."):
            yield name


def _automatic(path: str) -> set[str]:
    name, found = "", set()
    for line in (files.read(path, 16 << 20) or b"").decode("utf-8", "replace").split("\n"):
        if line.startswith("Package: "):
            name = line[9:].strip()
        elif line == "Auto-Installed: 1":
            found.add(name)
    return found
