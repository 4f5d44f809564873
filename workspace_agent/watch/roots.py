"""Which few folders are worth a watch of their own."""

from __future__ import annotations

import os
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MOST_ROOTS = 6

# A watch pins about 1 KB of kernel memory, and comes from a purse that the containers of a machine
# share: 8,192 on many nodes.
MOST_FOLDERS = 2000


def choose(
    candidates: Sequence[str],
    is_on_layer: Callable[[str], bool],
    folders_below: Callable[[str], int],
    most: int = MOST_ROOTS,
) -> list[str]:
    """Return the roots to watch: on the layer, small, none inside another, the first *most*.

    *folders_below* counts the root too: 0 is a root that is not there.
    """
    fit = [
        path
        for path in dict.fromkeys(map(os.path.normpath, candidates))
        if is_on_layer(path) and 1 <= folders_below(path) <= MOST_FOLDERS
    ]
    return [one for one in fit if not any(one.startswith(f"{other}/") for other in fit)][:most]


def is_on_layer(path: str, mounts: Iterable[str]) -> bool:
    """Say whether *path* and all below it are on the file system of `/`: mounts get no watch."""
    points = [point for point in mounts if point != "/"]
    above = any(f"{path}/".startswith(f"{point}/") for point in points)
    return not above and not any(point.startswith(f"{path.rstrip('/')}/") for point in points)


def folders(path: str, limit: int = MOST_FOLDERS) -> int:
    """Return how many folders from *path* down can be listed; counts to a little over *limit*."""
    count, left = 0, [path]
    while left and count <= limit:
        with suppress(OSError), os.scandir(left.pop()) as entries:
            count += 1
            left += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return count
