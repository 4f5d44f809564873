"""A stored environment comes back: in memory where that has room, else on the disk."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from workspace_agent.host.room import room
from workspace_agent.host.ticker import Ticker
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import size
from workspace_agent.replay import dists, inplace, pack
from workspace_agent.replay.place import Mark, site_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.replay.place import Place
    from workspace_agent.replay.store import Manifest, Store

# What the disk has to have beyond the environment itself.
_MORE = 1.1


@dataclass(frozen=True)
class Restoring:
    """Brings environments from *store* to *place*; *site* is the image's own packages folder when
    they go there, in place. *boot_id* names what is set aside.
    """

    store: Store
    place: Place
    boot_id: str
    site: str = ""

    def bring(self, key: str, tell: Callable[[str], None]) -> bool:
        """Have the environment *key* here, whole; False where none is stored that can be used.

        One that is damaged is removed. Raises AgentError where it cannot be unpacked here.
        """
        manifest = self.store.manifest(key)
        if manifest is None:
            return False
        for memory in (manifest.size, 0):
            began = time.monotonic()
            with Ticker(tell, "making room for the environment"):
                top = self.place.clear(key, memory=memory)
            if memory and not os.path.islink(top):
                continue  # no room there: the next round is the same place
            try:
                self._unpack(manifest, top, tell)
            except (AgentError, OSError) as error:
                self.place.discard(key)
                problem = error.problem if isinstance(error, AgentError) else None
                if problem and problem.slug == "replay.damaged":
                    self.store.discard(key, self.boot_id)
                    return False
                if not memory or (problem and problem.slug == HUNG):
                    raise
                continue
            made = (manifest.dists, manifest.said, time.monotonic() - began, manifest.built_secs)
            self.place.commit(Mark(key, *made, removed=manifest.removed, is_stored=True))
            with suppress(OSError):
                self.store.use(key)
            return True
        return False

    def _unpack(self, manifest: Manifest, top: str, tell: Callable[[str], None]) -> None:
        into = inplace.prefix(self.site) if self.site else top
        free, wanted = room(into).free, int(manifest.size * _MORE)
        if free < wanted:
            raise AgentError(_no_room(into, free, wanted))
        if self.site:
            inplace.remove(into, manifest.removed)
        with self.store.root.folder(self.store.at(manifest.key)) as source:
            pack.restore(source, manifest.parts, manifest.codec, into, tell)
        found = dists.installed([self.site or site_of(top)])
        if any(found.get(name) != version for name, version in manifest.dists.items()):
            raise AgentError(pack.damaged("its packages are others"))
        if not self.site and not os.access(f"{top}/bin/python", os.X_OK):
            raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC), f"{top}/bin/python")


HUNG = "volume.not-responding"


def _no_room(where: str, free: int, wanted: int) -> Problem:
    return Problem(
        "replay.no-room",
        "the packages do not fit onto the container's disk",
        f"{size(wanted)} wanted, {size(free)} free",
        "give the pod a larger disk, or take packages out",
        where,
    )
