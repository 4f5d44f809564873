"""A newer image: what its defaults ask of a home that is there, and the step that does it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, time_ns

from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.outcome import Check, Ok, Skip, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.steps import manifest, marker
from workspace_agent.steps.manifest import Manifest
from workspace_agent.steps.places import places
from workspace_agent.steps.threeway import ASKS, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.steps.home import HomeSeed
    from workspace_agent.steps.places import Places

# A boot waits so long for another pod's work on the home, and leaves its own to the next one.
_PATIENCE = 60.0


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
            with places(self.seed) as at:
                if at.base() == at.fingerprint(self.tell):
                    return Ok("the home has this image's defaults")
                if at.known(self.tell) is None:
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
        with places(self.seed) as at:
            image, known = at.fingerprint(tell), at.known(tell)
            if known is None:
                raise AgentError(no_base(self.seed.target))
            asked = {}
            for path, verdict in at.verdicts(known):
                tell("comparing the home with the image's defaults")
                if verdict in ASKS and (not only or is_within(path, only)):
                    asked[path] = verdict
            if not dry_run:
                beside = [path for path, verdict in asked.items() if verdict is Verdict.CONFLICT]
                self.lay(at, asked, beside, "" if only else image, tell)
                if not only:
                    made = at.record() | {"image": image, "began": began}
                    marker.record(at.state, self.seed.record, self.seed.boot_id, made)
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
            return bool(image) and at.base() == image

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

        For a process beside the workload: all content may be read. Before there is a manifest
        what killed boots left is removed: so a boot that has one need not look. Says whether
        nothing is left to do for this image; raises OSError, and AgentError where the image is
        out of sight.
        """
        from workspace_agent.steps.stage import tidy

        with places(self.seed) as at:
            base, image = at.base(), at.fingerprint()
            known = Manifest.of(at.state, base)
            if known is None and not tidy(at.state, self.seed.boot_id):
                return False
            if known is None and base:
                found = at.defaults() if base == image else at.given()
                known = at.known() if manifest.write(at.state, base, found) else None
            if base == image:
                return known is not None
            like = {"format": 1, "image": image, "base": known.image if known else ""}
            if not report or at.note(image).items() >= like.items():
                return True
            counts = Counter(verdict.value for _, verdict in at.verdicts(known))
            with at.state.folder(layout.DEFAULTS_IN_STATE, 0o700) as folder:
                note = {**like, "at": marker.now(), "counts": dict(sorted(counts.items()))}
                folder.commit(f"{image}.json", f"{dumps(note)}\n")
            return True

    @property
    def backup(self) -> str:
        """Where, below the state, what this boot replaces goes."""
        return f"{layout.BACKUP_IN_STATE}/{marker.now()[:10]}-{self.seed.boot_id}"


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
