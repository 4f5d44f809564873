"""An environment that was built here goes into the store, beside the workload."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from workspace_agent.host.room import room
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import size
from workspace_agent.replay import pack
from workspace_agent.replay.store import MANIFEST, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.replay.pack import Tree
    from workspace_agent.replay.place import Mark
    from workspace_agent.replay.store import Store

# What packing comes to with the best packer (0.28 was measured), and some room to spare.
_PACKED = 0.4


@dataclass(frozen=True)
class Publishing:
    """Puts the *tree* in the folder *top* into *store*, as *mark* and *facts* say what it is."""

    store: Store
    boot_id: str
    volume: str
    facts: dict[str, Any]
    tell: Callable[[str], None]

    def put(self, top: str, tree: Tree, mark: Mark) -> None:
        """Do it; a reader sees all of it or nothing. Raises OSError and AgentError."""
        self._make_room(int(tree.bytes * _PACKED))
        codec = pack.codec()
        with self.store.stage(self.boot_id) as (name, stage):
            manifest = Manifest(
                key=mark.key,
                facts=self.facts,
                dists=mark.dists,
                codec=codec,
                parts=pack.pack(top, tree, stage, codec, self.tell),
                files=len(tree.files),
                size=tree.bytes,
                built_secs=mark.built_secs,
                said=mark.said,
                removed=mark.removed,
                made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            stage.commit(MANIFEST, manifest.to_json(), durable=True)
            self.store.publish(name, mark.key)
        self.store.use(mark.key)
        self.store.remember(mark.key, "")
        self.store.prune(self.boot_id)

    def _make_room(self, wanted: int) -> None:
        if room(self.volume).free < wanted:
            self.store.prune(self.boot_id, keep=0)
        free = room(self.volume).free
        if free < wanted:
            raise AgentError(not_stored(f"it takes {size(wanted)}, and {size(free)} are free"))


def not_stored(why: str, where: str = "") -> Problem:
    """Say that the next pod will not find the environment."""
    fix = "make room: the packages are in use here, and the next pod installs them again"
    return Problem("replay.not-stored", "the environment could not be stored", why, fix, where)
