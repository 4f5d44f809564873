"""A newer image: what its defaults ask of a home that is there, and the step that does it."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic, time_ns

from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.outcome import Check, Ok, Skip, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.steps import manifest, marker
from workspace_agent.steps.compare import compare
from workspace_agent.steps.entry import Near
from workspace_agent.steps.home import is_small
from workspace_agent.steps.manifest import Manifest
from workspace_agent.steps.threeway import ASKS, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from workspace_agent.steps.entry import Entry
    from workspace_agent.steps.home import HomeSeed

# A boot waits so long for another pod's work on the home, and leaves its own to the next one.
_PATIENCE = 60.0

# The record and a note are a line each.
_LIMIT = 4096


@dataclass(frozen=True)
class Places:
    """The three open folders: the image's defaults, the home, and the state on its volume."""

    image: SafeRoot
    home: SafeRoot
    state: SafeRoot


@dataclass(frozen=True)
class HomeUpgrade:
    """Replace, in the home that *seed* made, defaults of an older image that nobody has changed.

    *tell* hears of a long check.
    """

    seed: HomeSeed
    tell: Callable[[str], None] = field(default=lambda _: None, compare=False)
    name: str = "home.upgrade"
    needs: tuple[str, ...] = ("home.seed",)

    def check(self) -> Check:
        """Compare the image's fingerprint with that of the home's base."""
        if not self.seed.is_made():
            return Skip("there is no home yet")
        try:
            with self.places() as at:
                base, image = base_of(at.state, self.seed.record), self.fingerprint(at, self.tell)
                if base == image:
                    return Ok("the home has this image's defaults")
                if Manifest.of(at.state, base, self.tell) is None:
                    return Skip("nobody knows what the home was made from: `home diff` compares")
        except AgentError as error:
            return Skip(error.problem.what)
        return Todo("the image's defaults are others than those that the home was made from")

    def apply(self, tell: Callable[[str], None]) -> None:
        """Do it, and make this image's defaults the home's base."""
        self.merge(tell)

    def merge(
        self,
        tell: Callable[[str], None] = lambda _: None,
        *,
        only: Collection[str] = (),
        dry_run: bool = False,
    ) -> dict[str, Verdict]:
        """Do what the image asks for; returns it by path. The base changes only when all is done.

        With *only* it is these paths and what is below them. Raises AgentError without a base.
        """
        began = time_ns()
        with self.places() as at:
            image = self.fingerprint(at, tell)
            known = Manifest.of(at.state, base_of(at.state, self.seed.record), tell)
            if known is None:
                raise AgentError(no_base(self.seed.target))
            asked = {}
            for path, verdict in self.verdicts(at, known):
                tell("comparing the home with the image's defaults")
                if verdict in ASKS and (not only or is_within(path, only)):
                    asked[path] = verdict
            if not dry_run:
                beside = [path for path, verdict in asked.items() if verdict is Verdict.CONFLICT]
                self.lay(at, asked, beside, "" if only else image, tell)
                if not only:
                    name = self.seed.record
                    note = marker.parsed(at.state.read(name, _LIMIT))
                    note |= {"image": image, "began": began}
                    marker.record(at.state, name, self.seed.boot_id, note)
        return asked

    def lay(
        self,
        at: Places,
        paths: Collection[str],
        beside: Collection[str] = (),
        image: str = "",
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Lay the image's *paths* over the home, those *beside* only beside it.

        What they replace is in this boot's backup. Nothing is left to do where another pod makes
        *image* the base meanwhile. Raises AgentError where another pod is at the home.
        """
        from workspace_agent.host.copy import copy_tree  # threads; a warm boot lays nothing
        from workspace_agent.host.lease import Lease
        from workspace_agent.steps.merge import Merge, NotOursError
        from workspace_agent.steps.stage import Stage

        def alive(text: str) -> None:
            lease.beat()
            tell(text)

        if not paths:
            return
        began = monotonic()

        def is_done() -> bool:
            return bool(image) and base_of(at.state, self.seed.record) == image

        lease = Lease(at.state, self.seed.boot_id)
        try:
            if not lease.take(lambda: is_done() or monotonic() - began > _PATIENCE, tell):
                if is_done():
                    return
                raise NotOursError
            with Stage(at.state, self.seed.boot_id, tell=alive) as stage:
                copy_tree(
                    at.image,
                    stage.tree,
                    prune=self.seed.pruned(),
                    exclude=(*self.seed.exclude, self.seed.marker),
                    only=paths,
                    threads=self.seed.threads,
                    in_kernel=self.seed.in_kernel,
                    tell=alive,
                )
                self.seed.sync(at.state.fd)
                for path in beside:
                    _put_beside(stage.tree, path, at.state)
                aside, held = layout.BESIDE_IN_STATE, lease.held
                merge = Merge(at.state, self.backup, aside, True, held, alive)
                merge.lay(stage.tree, at.home)
                self.seed.sync(at.state.fd)
        except NotOursError as error:
            raise AgentError(_taken(self.seed.target)) from error
        finally:
            lease.release()

    def settle(self, *, report: bool = True) -> bool:
        """Make the manifest that is missing, or with *report* note what this image asks for.

        For a process beside the workload: all content may be read. Says whether nothing is left
        to do for this image; raises OSError, and AgentError where the image is out of sight.
        """
        with self.places() as at:
            base, image = base_of(at.state, self.seed.record), self.fingerprint(at)
            known = Manifest.of(at.state, base)
            if known is None and base:
                found = self._defaults(at) if base == image else self._given(at)
                if manifest.write(at.state, base, found):
                    known = Manifest.of(at.state, base)
            if base == image:
                return known is not None
            like = {"format": 1, "image": image, "base": known.image if known else ""}
            if not report or _note(at.state, image).items() >= like.items():
                return True
            counts = Counter(verdict.value for _, verdict in self.verdicts(at, known))
            with at.state.folder(layout.DEFAULTS_IN_STATE, 0o700) as folder:
                note = {**like, "at": marker.now(), "counts": dict(sorted(counts.items()))}
                folder.commit(f"{image}.json", f"{dumps(note)}\n")
            return True

    def _given(self, at: Places) -> Iterator[tuple[Entry, int]]:
        """Yield the defaults that the home was given: where something wrote into the image's home
        since, it is the home that still has them.
        """
        began = marker.parsed(at.state.read(self.seed.record, _LIMIT)).get("began")
        if type(began) is not int:
            return
        with Near(at.home) as home:
            for entry, folder in self._defaults(at):
                name = entry.path.rpartition("/")[2]
                if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ctime_ns < began:
                    yield entry, folder
                elif (mine := home.look(entry.path)) and mine.mtime_ns < began:
                    yield mine, home.at(entry.path)[0]  # no user's: it is as old as a default

    def _defaults(self, at: Places) -> Iterator[tuple[Entry, int]]:
        return manifest.defaults(at.image, self._left_out, self.seed.pruned())

    def fingerprint(self, at: Places, tell: Callable[[str], None] = lambda _: None) -> str:
        """Return which defaults the image has."""
        return manifest.fingerprint(at.image, self._left_out, self.seed.pruned(), tell)

    def verdicts(
        self, at: Places, base: Manifest | None, *, closely: bool = False
    ) -> Iterator[tuple[str, Verdict]]:
        """Yield what became of every default, as `compare` does; the marker is none."""
        found = compare(
            base, at.image, at.home, self._left_out, self.seed.pruned(), closely=closely
        )
        return ((path, verdict) for path, verdict in found if path != self.seed.marker)

    @property
    def backup(self) -> str:
        """Where, below the state, what this boot replaces goes."""
        return f"{layout.BACKUP_IN_STATE}/{marker.now()[:10]}-{self.seed.boot_id}"

    @property
    def _left_out(self) -> tuple[str, ...]:
        return (*self.seed.exclude, *self.seed.moved)

    @contextmanager
    def places(self, *, blind: bool = False) -> Iterator[Places]:
        """Open the three folders; raises AgentError where the image's home is out of sight.

        Who is *blind* does not look at it.
        """
        source, skeleton = self.seed.source, self.seed.skeleton
        with (
            SafeRoot.at(self.seed.volume) as volume,
            volume.folder(os.path.basename(self.seed.state)) as state,
            volume.folder(self.seed.below) as home,
            SafeRoot.at(skeleton if skeleton and not is_small(source) else source) as image,
        ):
            if not blind and os.path.sameopenfile(image.fd, home.fd):
                raise AgentError(_hidden(source))
            yield Places(image, home, state)


def base_of(state: SafeRoot, record: str) -> str:
    """Return the fingerprint of the defaults that the home was made from, "" when nobody knows."""
    base = marker.parsed(state.read(record, _LIMIT)).get("base")
    return base if isinstance(base, str) and manifest.is_fingerprint(base) else ""


def noted(state: SafeRoot, image: str) -> dict[str, int]:
    """Return how many defaults of each verdict a comparison with *image* found; {} without one."""
    counts = _note(state, image).get("counts")
    if not isinstance(counts, dict) or any(type(count) is not int for count in counts.values()):
        return {}
    return counts


def _note(state: SafeRoot, image: str) -> dict[str, object]:
    return marker.parsed(state.read(f"{layout.DEFAULTS_IN_STATE}/{image}.json", _LIMIT))


def is_within(path: str, wanted: Collection[str]) -> bool:
    """Say whether *path* is one of *wanted*, or below it."""
    return any(path == one or path.startswith(f"{one}/") for one in wanted)


def _put_beside(tree: SafeRoot, path: str, state: SafeRoot) -> None:
    above = f"{layout.BESIDE_IN_STATE}/{path}".rpartition("/")[0]
    # An older default of another kind may have the place, and a folder is not put beside.
    with suppress(OSError), state.folder(above, 0o700) as folder:
        tree.rename(path, path.rpartition("/")[2], folder)
    tree.remove_tree(path)  # whatever came of that: in the tree it would replace the user's


def no_base(home: str) -> Problem:
    """Say that nobody can tell the user's changes from the image's."""
    return Problem(
        "home.no-base",
        "nobody knows which defaults the home was made from",
        "it was adopted, or the list of them was not finished, or is not sound",
        "`workspace-agent home diff` compares it with this image, "
        "`workspace-agent home reset --file PATH` brings back a single default",
        home,
    )


def _taken(home: str) -> Problem:
    return Problem(
        "home.not-laid",
        "the image's defaults were not laid into the home, or not all of them",
        "another pod is at it",
        "do it again when that pod is through",
        home,
    )


def _hidden(source: str) -> Problem:
    return Problem(
        "home.image-out-of-sight",
        "the image's own home cannot be seen from here",
        f"the home on the volume has the place of {source}",
        "ask in a container of this image that has `home.mode` set to `copy`",
        source,
    )
