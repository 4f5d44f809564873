"""A stored environment comes back: in memory where that has room, else on the disk."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from dataclasses import replace

from workspace_agent.host.room import room
from workspace_agent.host.ticker import Ticker
from workspace_agent.model.problem import AgentError, slug
from workspace_agent.model.words import size
from workspace_agent.replay import dists, inplace, pack
from workspace_agent.replay.place import site_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.replay.place import Place
    from workspace_agent.replay.store import Manifest, Store

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
