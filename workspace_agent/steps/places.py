"""A home beside the image's defaults: the open folders, its base, and what became of it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass

from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model import layout
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.steps import manifest, marker
from workspace_agent.steps.compare import compare
from workspace_agent.steps.entry import Near
from workspace_agent.steps.home import is_small
from workspace_agent.steps.manifest import Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workspace_agent.steps.entry import Entry
    from workspace_agent.steps.home import HomeSeed
    from workspace_agent.steps.threeway import Verdict

# The record and a note are a line each.
_LIMIT = 4096


@dataclass(frozen=True)
class Places:
    """The three open folders of *seed*: the image's defaults, the home, the state on its volume."""

    seed: HomeSeed
    image: SafeRoot
    home: SafeRoot
    state: SafeRoot

    def record(self) -> dict[str, object]:
        """Return what is on record of the home; {} without one that we know."""
        return marker.parsed(self.state.read(self.seed.record, _LIMIT))

    def base(self) -> str:
        """Return the fingerprint of what the home was made from, "" when nobody knows."""
        base = self.record().get("base")
        return base if isinstance(base, str) and manifest.is_fingerprint(base) else ""

    def known(self, tell: Callable[[str], None] = lambda _: None) -> Manifest | None:
        """Return the manifest of the base, None without a sound one."""
        return Manifest.of(self.state, self.base(), tell)

    def note(self, image: str) -> dict[str, object]:
        """Return what a boot of *image* has noted of a comparison with it."""
        return marker.parsed(self.state.read(f"{layout.DEFAULTS_IN_STATE}/{image}.json", _LIMIT))

    def noted(self, image: str) -> dict[str, int]:
        """Return how many defaults of each verdict it found; {} without one."""
        counts = self.note(image).get("counts")
        if not isinstance(counts, dict) or any(type(count) is not int for count in counts.values()):
            return {}
        return counts

    def fingerprint(self, tell: Callable[[str], None] = lambda _: None) -> str:
        """Return which defaults the image has."""
        return manifest.fingerprint(self.image, self._left_out, self.seed.pruned(), tell)

    def defaults(self) -> Iterator[tuple[Entry, int]]:
        """Yield the image's defaults, as `manifest.defaults` does."""
        return manifest.defaults(self.image, self._left_out, self.seed.pruned())

    def given(self) -> Iterator[tuple[Entry, int]]:
        """Yield the defaults that the home was given: where something wrote into the image's home
        since, it is the home that still has them.
        """
        began = self.record().get("began")
        if type(began) is not int:
            return
        with Near(self.home) as home:
            for entry, folder in self.defaults():
                name = entry.path.rpartition("/")[2]
                if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ctime_ns < began:
                    yield entry, folder
                elif (mine := home.look(entry.path)) and mine.mtime_ns < began:
                    yield mine, home.at(entry.path)[0]  # no user's: it is as old as a default

    def verdicts(
        self, base: Manifest | None, *, closely: bool = False
    ) -> Iterator[tuple[str, Verdict]]:
        """Yield what became of every default, as `compare` does; the marker is none."""
        prune = self.seed.pruned()
        found = compare(base, self.image, self.home, self._left_out, prune, closely=closely)
        return ((path, verdict) for path, verdict in found if path != self.seed.marker)

    @property
    def _left_out(self) -> tuple[str, ...]:
        return (*self.seed.exclude, *self.seed.moved)


@contextmanager
def places(seed: HomeSeed, *, blind: bool = False) -> Iterator[Places]:
    """Open the places of *seed*; raises AgentError where the image's home is out of sight.

    Who is *blind* does not look at it.
    """
    source, skeleton = seed.source, seed.skeleton
    with (
        SafeRoot.at(seed.volume) as volume,
        volume.folder(os.path.basename(seed.state)) as state,
        volume.folder(seed.below) as home,
        SafeRoot.at(skeleton if skeleton and not is_small(source) else source) as image,
    ):
        if not blind and os.path.sameopenfile(image.fd, home.fd):
            raise AgentError(_hidden(source))
        yield Places(seed, image, home, state)


def _hidden(source: str) -> Problem:
    return Problem(
        "home.image-out-of-sight",
        "the image's own home cannot be seen from here",
        f"the home on the volume has the place of {source}",
        "ask in a container of this image that has `home.mode` set to `copy`",
        source,
    )
