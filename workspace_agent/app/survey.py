"""What is outside the volume now: one scan of the container's own layer, with all that it needs."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workspace_agent.host import files, mounts, passwd
from workspace_agent.host.room import room
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model import layout
from workspace_agent.watch import layer as layers
from workspace_agent.watch.classify import Classifier
from workspace_agent.watch.ignore import ignoring
from workspace_agent.watch.inventory import Inventory
from workspace_agent.watch.owners import Owners
from workspace_agent.watch.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.model.atrisk import Entry
    from workspace_agent.watch.layer import Layer

_EMPTY_DIR = "kubernetes.io~empty-dir"


@dataclass(frozen=True)
class Ground:
    """The layer of this container, what of it is passed over, and who owns what in it."""

    layer: Layer
    passed: frozenset[str]
    classifier: Classifier
    is_ignored: Callable[[str], bool] | None
    mounts: Mapping[str, tuple[str, str, bool]]

    def inventory(self, take: Callable[[Entry], None] = lambda _: None) -> Inventory:
        """Return an empty inventory of it; *take* hears of files."""
        return Inventory(self.layer, self.classifier, take, self.is_ignored)

    def scan(self, root: SafeRoot, into: Inventory) -> Scan:
        """Return a scan of it that tells *into*."""
        return Scan(root, into.layer, self.passed, into.visit)


@dataclass(frozen=True)
class Survey:
    """What one scan found: the sums of every kind, and the files that were asked for."""

    inventory: Inventory
    entries: list[Entry]
    unreadable: int
    listed: int
    looked: int


def ground(profile: Profile, facts: Facts) -> Ground:
    """Find out what is of this container alone; reads the volume's `ignore`."""
    points = mounts.read_mounts()
    layer = layers.probe(facts.runtime)
    lines = [*profile.watch.ignore]
    listed = files.read(f"{layout.state(facts.volume.path)}/{layout.IGNORE_IN_STATE}")
    lines += os.fsdecode(listed or b"").splitlines()
    classifier = Classifier(_homes(facts), Owners(layer.since))
    passed = frozenset(passed_over(facts, points))
    return Ground(layer, passed, classifier, ignoring(lines), points)


def _homes(facts: Facts) -> frozenset[str]:
    """Return the homes of people: what begins with a dot in one is a setting."""
    lines = (line.split(":") for line in passwd.read().split("\n"))
    named = {one[5] for one in lines if len(one) == 7 and one[5].startswith(("/home/", "/root"))}
    return frozenset({*named, facts.image_home, "/root"} - {"/"})


def passed_over(facts: Facts, points: Mapping[str, tuple[str, str, bool]]) -> set[str]:
    """Return what is not looked at: other mounts, and what the agent itself makes again."""
    own = {
        facts.runtime, facts.root, layout.ENVIRONMENTS, os.path.dirname(layout.BEGAN),
        layout.began(facts.uid), f"/var/tmp/workspace-env-{facts.uid}", facts.volume.path,
        *layout.KERNELS,
    }  # fmt: skip
    return {one for one in {*points, *own} if one and one != "/"}


def survey(here: Ground, wanted: Callable[[Entry], bool] | None = None) -> Survey:
    """Go through all of it; collects the entries that are *wanted*."""
    entries: list[Entry] = []

    def take(entry: Entry) -> None:
        if wanted and wanted(entry):
            entries.append(entry)

    inventory = here.inventory(take)
    with SafeRoot.at("/") as root:
        inventory.begin()
        scan = here.scan(root, inventory)
        scan.run()
        inventory.end()
    return Survey(inventory, entries, scan.unreadable, scan.listed, scan.looked)


def volatile(here: Ground) -> list[dict[str, object]]:
    """Return the mounts that end with the pod, too, and what is in them; they are not looked into.

    Of any other mount nobody here can know.
    """
    found = []
    empty = empty_dirs(layers.mountinfo())
    for point, (kind, _, is_read_only) in here.mounts.items():
        ends = kind == "tmpfs" or point in empty
        if (
            is_read_only
            or not ends
            or f"{point}/".startswith(tuple(f"{one}/" for one in layout.KERNELS))
        ):
            continue
        try:
            if stat.S_ISDIR(os.stat(point).st_mode):
                found.append({"path": point, "kind": kind, "bytes": room(point).used})
        except OSError:
            continue
    return found


def empty_dirs(mountinfo: str) -> set[str]:
    """Return the mount points of a pod's emptyDirs: their source's path on the node says so."""
    rows = (line.split(" ") for line in mountinfo.split("\n"))
    return {row[4] for row in rows if len(row) > 4 and _EMPTY_DIR in row[3]}
