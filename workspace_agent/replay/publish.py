"""An environment that was built here goes into the store, beside the workload."""

from __future__ import annotations

import time

from workspace_agent.host.room import room
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import size
from workspace_agent.replay import pack
from workspace_agent.replay.store import MANIFEST, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from workspace_agent.replay.mark import Mark
    from workspace_agent.replay.store import Store
    from workspace_agent.replay.tree import Tree

# What packing comes to with the best packer (0.28 was measured), and some room to spare.
_PACKED = 0.4


def put(
    store: Store,
    top: str,
    tree: Tree,
    mark: Mark,
    facts: dict[str, Any],
    tell: Callable[[str], None],
) -> None:
    """Put the *tree* of the folder *top* into *store*, as *mark* and *facts* say what it is.

    A reader sees all of it or nothing. Raises OSError and AgentError.
    """
    _make_room(store, int(tree.size * _PACKED))
    codec = pack.codec()
    with store.stage() as (name, stage):
        manifest = Manifest(
            mark=mark,
            facts=facts,
            codec=codec,
            parts=pack.pack(top, tree, stage, codec, tell),
            files=len(tree.files),
            size=tree.size,
            made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        stage.commit(MANIFEST, manifest.to_json(), durable=True)
        store.publish(name, mark.key)
    store.use(mark.key)
    store.remember(mark.key, "")
    store.prune()


def _make_room(store: Store, wanted: int) -> None:
    if room(store.root.path).free < wanted:
        store.prune(keep=0)
    free = room(store.root.path).free
    if free < wanted:
        raise AgentError(not_stored(f"it takes {size(wanted)}, and {size(free)} are free"))


def not_stored(why: str, where: str = "") -> Problem:
    """Say that the next pod will not find the environment."""
    fix = "make room: the packages are in use here, and the next pod installs them again"
    return Problem("replay.not-stored", "the environment could not be stored", why, fix, where)
