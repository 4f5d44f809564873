"""Environments come back, in memory where that has room, else on the disk; and are stored."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from dataclasses import replace

from workspace_agent.host.room import room
from workspace_agent.host.ticker import Ticker
from workspace_agent.model.problem import AgentError, Problem, slug
from workspace_agent.model.words import size
from workspace_agent.replay import dists, inplace, pack
from workspace_agent.replay.place import site_of
from workspace_agent.replay.store import MANIFEST, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from workspace_agent.replay.mark import Mark
    from workspace_agent.replay.place import Place
    from workspace_agent.replay.store import Store
    from workspace_agent.replay.tree import Tree

# What packing comes to with the best packer (0.28 was measured), and some room to spare.
_PACKED = 0.4

# What the disk has to have beyond the environment itself.
_MORE = 1.1


def bring(
    store: Store, place: Place, key: str, tell: Callable[[str], None], site: str = ""
) -> bool:
    """Have the environment *key* here, whole; False where none is stored that can be used.

    *site* is the image's own packages folder where it goes there, in place. One that is damaged is
    removed. Raises AgentError where it cannot be unpacked here.
    """
    manifest = store.manifest(key)
    if manifest is None:
        return False
    for memory in (manifest.size, 0):
        began = time.monotonic()
        with Ticker(tell, "making room for the environment"):
            top = place.clear(key, memory=memory)
        if memory and not os.path.islink(top):
            continue  # no room there: the next round is the same place
        try:
            _unpack(store, manifest, top, tell, site)
        except (AgentError, OSError) as error:
            place.discard(key)
            if slug(error) == "replay.damaged":
                store.discard(key)
                return False
            if not memory or slug(error) == pack.HUNG.slug:
                raise
            continue
        place.commit(replace(manifest.mark, secs=time.monotonic() - began, is_stored=True))
        with suppress(OSError):
            store.use(key)
        return True
    return False


def _unpack(
    store: Store, manifest: Manifest, top: str, tell: Callable[[str], None], site: str
) -> None:
    mark, into = manifest.mark, inplace.prefix(site) if site else top
    free, wanted = room(into).free, int(manifest.size * _MORE)
    if free < wanted:
        raise AgentError(pack.no_room(f"{size(wanted)} wanted, {size(free)} free", into))
    if site:
        inplace.remove(into, mark.removed)
    with store.root.folder(store.at(mark.key)) as source:
        pack.restore(source, manifest.parts, manifest.codec, into, tell)
    found = dists.installed([site or site_of(top)])
    if any(found.get(name) != version for name, version in mark.dists.items()):
        raise AgentError(pack.damaged("its packages are others"))
    if not site and not os.access(f"{top}/bin/python", os.X_OK):
        raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC), f"{top}/bin/python")


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
