"""Which files outside the volume go with a checkpoint: what there is of this container alone.

That is its own layer, what was deleted of its image, and the tmpfs mounts that end with it.
"""

from __future__ import annotations

import marshal
import os
import zlib
from dataclasses import dataclass, field

from workspace_agent.checkpoint.roots import Roots
from workspace_agent.host import files, mounts
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model import layout
from workspace_agent.watch import layer as layers
from workspace_agent.watch.layer import NO_PRUNE, Layer
from workspace_agent.watch.scan import Scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from workspace_agent.app.facts import Facts
    from workspace_agent.watch.scan import Visit

    Found = list[tuple[str, os.stat_result]]

_SHM = "/dev/shm"

# CRIU notes here what this kernel can do, and a pod's tokens are renewed: the next container has
# others.
_OTHERS = ("/run/criu.kdat", "/run/secrets")

# Everything counts, whenever it was changed.
_ALL = Layer(NO_PRUNE, 0, 0, pruned=False)

# 300,000 names take 10 MB.
_LONGEST = 1 << 30


@dataclass
class Listed:
    """What to carry, in paths below the root: *paths*, each folder before what is in it.

    *points* are the mounts that some of them are on.
    """

    points: list[str]
    paths: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


def listed(facts: Facts) -> Listed:
    """Go through all of it; where the image has no list of its files, nothing counts as deleted."""
    found_mounts = mounts.read_mounts()
    found = Listed(points(facts, found_mounts))
    passed = _passed(facts, found_mounts)
    layer = layers.probe(facts.runtime)
    for point in ("", *found.points):
        top = f"/{point}" if point else ""
        folders: list[str] = []
        with SafeRoot.at(top or "/") as root:
            below = {one.removeprefix(top) for one in passed if one.startswith(f"{top}/")}
            here = _ALL if point else layer
            Scan(root, here, below, _taking(found.paths, folders, point, here.born)).run()
            if not point:
                found.deleted = _deleted(facts, root, folders, passed)
    return found


def roots(facts: Facts) -> Roots:
    """Open the root, and the mounts of this container that end with it."""
    return Roots("/", points(facts, mounts.read_mounts()))


def points(facts: Facts, found: Mapping[str, tuple[str, str, bool]]) -> list[str]:
    """Return the mounts that end with the container, as paths below the root."""
    own = (*layout.KERNELS, *_OTHERS, facts.volume.path, facts.runtime)
    system = tuple(f"{one}/" for one in own if one not in ("", "/", "/run"))
    return sorted(
        point[1:] for point, (kind, _, is_read_only) in found.items()
        if kind == "tmpfs" and not is_read_only and os.path.isdir(point)
        and (point == _SHM or not f"{point}/".startswith(system))
    )  # fmt: skip


def list_of(facts: Facts) -> str:
    """Return where the image has the list of its files."""
    return f"{facts.root}/{layout.IMAGE_FILES}"


def names(facts: Facts) -> bytes:
    """Return the names of all files of the image that is being built, by folder, compressed."""
    found: dict[str, list[str]] = {}

    def visit(path: str, _: object, these: Found, below: list[str] | None) -> None:
        found.setdefault(path, []).extend([*(name for name, _ in these), *(below or ())])

    with SafeRoot.at("/") as root:
        Scan(root, _ALL, _passed(facts, mounts.read_mounts()), visit).run()
    return zlib.compress(marshal.dumps({path: sorted(found[path]) for path in sorted(found)}), 1)


def _passed(facts: Facts, found: Mapping[str, tuple[str, str, bool]]) -> frozenset[str]:
    """Return what is not looked at; /run is, where it is of the layer."""
    from workspace_agent.app.survey import passed_over  # a restore needs none of it

    passed = passed_over(facts, found) - ({"/run"} - found.keys())
    return frozenset({*passed, *_OTHERS})


def _taking(paths: list[str], folders: list[str], point: str, born: int) -> Visit:
    """Return what collects the paths of what a scan visits.

    Who is not root takes what is theirs: the rest is not of their doing, nor theirs to put back.
    """
    me = os.geteuid()

    def visit(path: str, info: os.stat_result, found: Found, below: list[str] | None) -> None:
        here = f"{point}{path}".lstrip("/")
        if below is not None and info.st_ctime_ns >= born:
            folders.append(path)
            if path and me in (0, info.st_uid):
                paths.append(here)
        paths.extend([f"{here}/{name}".lstrip("/") for name, one in found if me in (0, one.st_uid)])

    return visit


def _deleted(
    facts: Facts, root: SafeRoot, folders: Collection[str], passed: Collection[str]
) -> list[str]:
    """Return what the image has in these *folders* and this container has not."""
    packed = files.read(list_of(facts), _LONGEST)
    image: dict[str, list[str]] = marshal.loads(zlib.decompress(packed)) if packed else {}
    gone = []
    for path in folders:
        if listing := image.get(path):
            try:
                with root.folder(path[1:]) as folder:
                    here = set(folder.names())
            except OSError:
                continue  # gone since
            gone += [f"{path}/{name}" for name in listing if name not in here]
    return [path[1:] for path in gone if path not in passed]
