"""How a home comes to the volume: under a lease, through a stage, by one sync and one rename.

The lease only saves work. Whatever it says, the rename decides: it replaces an empty folder and
nothing else, and the marker comes with the tree or, after a merge, by a link that fails where
another pod's is.
"""

from __future__ import annotations

import errno
import os
import time

from workspace_agent.host import files
from workspace_agent.host.copy import copy_tree
from workspace_agent.host.lease import Lease
from workspace_agent.host.room import room
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.host.ticker import Ticker
from workspace_agent.host.walk import NOT_MISSED
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, shown, size
from workspace_agent.steps import marker
from workspace_agent.steps.home import SMALL_ENTRIES, full, is_small
from workspace_agent.steps.manifest import fingerprint
from workspace_agent.steps.merge import Laid, Merge, NotOursError, place
from workspace_agent.steps.stage import Stage, key_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.host.copy import Copied
    from workspace_agent.steps.home import HomeSeed

# A boot that was held up may be taken over, and its stage removed; then it waits like any other.
_TRIES = 3

# A volume on which the files of a lease are refused.
_NO_LEASE = frozenset({errno.EACCES, errno.ENOTSUP})

# A copy takes a little more than its bytes and objects: folders, partly used blocks.
_MORE, _INODES = 1.02, 1000


def seed(step: HomeSeed, tell: Callable[[str], None]) -> Problem | None:
    """Make the home of *step*; returns what is not right about it although it is made."""
    # The volume is opened before anything is written on it: only on such a descriptor does a
    # sync tell of everything that was lost.
    with (
        SafeRoot.at(step.volume) as volume,
        volume.folder(os.path.basename(step.state), make=0o700) as state,
    ):
        lease = Lease(state, step.boot_id)
        try:
            return _Seeding(step, volume, state, lease, tell).run()
        finally:
            lease.release()


class _Seeding:
    """One home in the making."""

    def __init__(
        self,
        step: HomeSeed,
        volume: SafeRoot,
        state: SafeRoot,
        lease: Lease,
        tell: Callable[[str], None],
    ) -> None:
        self._step, self._volume, self._state, self._lease = step, volume, state, lease
        self._tell = tell
        self._reset = step.was_made()
        self._fields: dict[str, object] = {}
        self._laid = Laid()
        self._left_out: Problem | None = None

    def run(self) -> Problem | None:
        """Make the home unless it is there; tidy, and put it on record, which comes last."""
        step = self._step
        for last in (*[False] * (_TRIES - 1), True):
            if step.is_made() or not self._leased():
                break
            try:
                self._make()
            except (FileNotFoundError, NotOursError):
                self._lease.release()
                if last and not step.is_made():
                    raise
        if not step.was_made():
            found = marker.read(f"{step.target}/{step.marker}")
            marker.record(self._state, step.record, step.boot_id, found)
        return self._apart() or self._left_out

    def _leased(self) -> bool:
        """Take the lease. A new home replaces nothing: where no lease can be, it goes without."""
        try:
            return self._lease.take(self._step.is_made, self._tell)
        except OSError as error:
            if error.errno not in _NO_LEASE or self._mode() != "fresh":
                raise
            return True

    def _make(self) -> None:
        source = self._source()
        key = key_of(source, self._step.image, self._step.exclude)
        stage = Stage(self._state, self._step.boot_id, key, self._alive)
        with stage, SafeRoot.at(source) as root:
            prune = self._step.pruned()
            left_out = (*self._step.exclude, *self._step.moved)
            began = time.time_ns()
            image = fingerprint(root, left_out, prune, self._alive)
            copied = self._copy(root, stage, prune)
            self._left_out = _left_out(copied, source)
            if self._left_out and not copied.files:
                raise AgentError(self._left_out)  # nothing arrived: that is no home
            mode = self._mode()
            self._fields = marker.fields(self._step.boot_id, mode, source, image, began, copied)
            stage.put(self._step.marker, dumps(self._fields) + "\n")
            with Ticker(self._alive, "making the copy durable"):
                self._step.sync(self._volume.fd)
                self._publish(stage)

    def _copy(self, source: SafeRoot, stage: Stage, prune: set[tuple[int, int]]) -> Copied:
        step = self._step
        return copy_tree(
            source,
            stage.tree,
            prune=prune,
            exclude=(*step.exclude, step.marker),
            only=() if _is_home_itself(source, step.target) else None,
            threads=step.threads,
            in_kernel=step.in_kernel,
            resume=stage.resumed,
            fits=(lambda *_: None) if stage.resumed else self._fits,
            tell=self._alive,
        )

    def _publish(self, stage: Stage) -> None:
        above, _, name = self._step.below.rpartition("/")
        with self._volume.folder(above, make=0o755) as parent:
            try:
                # Onto nothing, or onto an empty folder: the commit point.
                with self._state.folder(stage.name) as own:
                    own.rename("tree", name, parent)
            except OSError as error:
                if error.errno in (errno.EXDEV, errno.EBUSY):
                    raise AgentError(self._mounted()) from error
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if not self._step.is_made():  # another pod may have finished first
                    self._merge(stage, parent, name)
            files.sync_dir(".", parent.fd)
            files.sync_dir(name, parent.fd)

    def _merge(self, stage: Stage, parent: SafeRoot, name: str) -> None:
        """Lay the defaults into the home that is there, and give the marker last."""
        step = self._step
        stage.tree.remove(step.marker)
        day = time.strftime("%Y-%m-%d", time.gmtime())
        backup = f"{layout.BACKUP_IN_STATE}/{day}-{step.boot_id}"
        beside, held = layout.BESIDE_IN_STATE, self._lease.held
        merge = Merge(self._state, backup, beside, self._reset, held, self._alive)
        with parent.folder(name) as home:
            self._laid = merge.lay(stage.tree, home)
            fields = marker.merged(self._fields, self._laid, backup)
            stage.put(step.marker, dumps(fields) + "\n")
            step.sync(self._volume.fd)
            self._state.remove(step.record)  # until all is tidy, there is work to do
            place(stage.tree, step.marker, home)

    def _alive(self, text: str) -> None:
        self._lease.beat()
        self._tell(text)

    def _mode(self) -> str:
        if not os.path.isdir(self._step.target):
            return "fresh"
        return "reset" if self._reset else "merge"

    def _source(self) -> str:
        step = self._step
        if not step.skeleton or is_small(step.source):
            return step.source
        if not os.path.isdir(step.skeleton):
            raise AgentError(self._too_big())
        return step.skeleton

    def _fits(self, needed: int, objects: int) -> None:
        """Refuse before the first write what cannot be finished."""
        found = room(self._step.volume)
        needed = int(needed * _MORE) + self._step.min_free
        if found.free < needed:
            why = f"{size(found.free)} free, {size(needed)} wanted"
        elif 0 <= found.inodes < objects + _INODES:
            why = f"room for {found.inodes} more files, {objects + _INODES} wanted"
        else:
            return
        raise AgentError(full(self._step.target, why))

    def _apart(self) -> Problem | None:
        """Name the places where nothing could be laid: a link there leads somewhere else."""
        if not self._laid.apart:
            return None
        return Problem(
            "home.not-laid",
            f"{counted(len(self._laid.apart), 'place')} in the home kept from the image's defaults",
            "a link, a special file, or a file for a folder is there: "
            + ", ".join(ascii(path)[1:-1] for path in self._laid.apart[:5]),
            "look at them; then `workspace-agent home reset --file PATH` brings the default",
            self._step.target,
        )

    def _mounted(self) -> Problem:
        return Problem(
            "home.elsewhere",
            "the home is not on the volume's own file system",
            "something is mounted there, and a home is published by one rename",
            "set `home.path` to a folder of the volume, or `home.mode` to `off`",
            self._step.target,
        )

    def _too_big(self) -> Problem:
        return Problem(
            "home.too-big",
            f"{self._step.source} was not copied",
            f"outside a container only a home under {SMALL_ENTRIES} entries and 64 MiB is",
            "set HOME to a smaller folder, or WORKSPACE_AGENT_SYSTEM=1 if this is a pod",
            self._step.source,
        )


def _left_out(copied: Copied, source: str) -> Problem | None:
    """Say what the home lacks that the image has, but for what nobody would miss."""
    missed = [(path, why) for path, why in copied.skipped if why not in NOT_MISSED]
    if not missed:
        return None
    path, why = missed[0]
    return Problem(
        "home.left-out",
        f"{counted(copied.skipped_total, 'object')} of {source} could not be copied",
        f"{shown(path)}: {why}",
        "the marker in the home lists them",
        source,
    )


def _is_home_itself(source: SafeRoot, target: str) -> bool:
    """Say whether the image's HOME is the home on the volume: then there is nothing to copy."""
    try:
        return os.path.samestat(os.fstat(source.fd), os.stat(target))
    except OSError:
        return False
