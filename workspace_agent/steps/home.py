"""The home on the volume: the image's defaults, copied once, whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import dataclass, field

from workspace_agent import __version__
from workspace_agent.host import files
from workspace_agent.host.copy import Copied, copy_tree
from workspace_agent.host.room import room
from workspace_agent.host.syncing import syncfs
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.outcome import Blocked, Check, Ok, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, size
from workspace_agent.steps.merge import add_missing, place, put_back
from workspace_agent.steps.stage import AT_ONCE, Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.host.ticker import Ticker

# More skipped paths than this are counted, not named: the marker stays small.
_NAMED = 200

# A person's home outside a container is copied only if it is as small as an image's:
# nobody who tries the agent on a laptop means to copy 100 GB of it.
SMALL_ENTRIES, SMALL_BYTES = 2000, 64 << 20


@dataclass(frozen=True)
class HomeSeed:
    """Copy *source* to *target* once; the marker, inside the stage, appears with the tree.

    With *skeleton* a source that is not small is left alone and that folder is copied instead.
    """

    source: str
    target: str
    marker: str
    state: str
    prune: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    skeleton: str = ""
    boot_id: str = ""
    min_free: int = 0
    name: str = "home.seed"
    needs: tuple[str, ...] = ("volume.ready",)
    sync: Callable[[int], None] = field(default=syncfs, compare=False)

    def check(self) -> Check:
        """Look at the marker, which alone decides."""
        if self._is_blocked():
            return Blocked(self._in_the_way())
        if files.exists(self._marker):
            if not files.exists(self._seeded_before):
                return Todo("the home's marker is not on record yet")
            return Ok(self._seeded())
        if problem := self._unusable() or self._no_room():
            return Blocked(problem)
        if os.path.isdir(self.target):
            if files.exists(self._seeded_before):
                return Todo("the marker was removed: fresh defaults, your versions in a backup")
            return Todo("the marker is missing: defaults that are not there are added")
        return Todo(f"first boot: {self.source} is copied")

    def apply(self, tell: Callable[[str], None]) -> None:
        """Stage, sync, rename; or lay the defaults into a home that is there."""
        if not files.exists(self._marker):
            self._make(tell)
        if not files.exists(self._seeded_before):
            with Stage(self.state, self.boot_id, AT_ONCE):
                pass  # the home is made: what killed boots and late ones left can go
            files.commit(self._seeded_before, f"{self.boot_id}\n")

    def _make(self, tell: Callable[[str], None]) -> None:
        volume = os.open(os.path.dirname(self.state), os.O_RDONLY | os.O_DIRECTORY)
        try:
            with Stage(self.state, self.boot_id) as stage:
                self._fill(stage, tell)
                with self._ticking(stage.alive(tell), "making the copy durable"):
                    self.sync(volume)
                    self._publish(stage, volume)
                    self.sync(volume)
        except FileNotFoundError:
            # A stage that was held for dead is gone; then somebody else has made the home.
            if not files.exists(self._marker):
                raise
        finally:
            os.close(volume)

    def _ticking(self, tell: Callable[[str], None], text: str) -> Ticker:
        from workspace_agent.host.ticker import Ticker  # threads; a warm boot makes nothing

        return Ticker(tell, text)

    @property
    def _marker(self) -> str:
        return f"{self.target}/{self.marker}"

    @property
    def _seeded_before(self) -> str:
        return f"{self.state}/{layout.SEEDED_IN_STATE}"

    def _is_blocked(self) -> bool:
        try:
            return not stat.S_ISDIR(os.lstat(self.target).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _fill(self, stage: Stage, tell: Callable[[str], None]) -> None:
        source = self._chosen_source()
        copied = copy_tree(
            source, stage.tree, prune=self._pruned(), exclude=self.exclude, tell=stage.alive(tell)
        )
        mode = "fresh"
        if os.path.isdir(self.target):
            mode = "reset" if files.exists(self._seeded_before) else "merge"
        files.commit(f"{stage.tree}/{self.marker}", self._record(source, copied, mode))

    def _publish(self, stage: Stage, volume: int) -> None:
        os.makedirs(os.path.dirname(self.target), exist_ok=True)
        try:
            os.rename(stage.tree, self.target)  # replaces an empty folder, and nothing else
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not files.exists(self._marker):  # another pod may have finished first
                self._merge(stage, volume)

    def _merge(self, stage: Stage, volume: int) -> None:
        """Lay the defaults into the home that is there, and give the marker last."""
        marker = f"{stage.path}/marker"
        os.rename(f"{stage.tree}/{self.marker}", marker)
        if files.exists(self._seeded_before):
            put_back(stage.tree, self.target, self._backup)
        else:
            add_missing(stage.tree, self.target)
        self.sync(volume)
        files.remove(self._seeded_before)  # until all is tidy again, `apply` has work to do
        place(marker, self._marker)

    @property
    def _backup(self) -> str:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        return f"{self.state}/backup/{day}-{self.boot_id}"

    def _chosen_source(self) -> str:
        if not self.skeleton or is_small(self.source):
            return self.source
        if not os.path.isdir(self.skeleton):
            raise AgentError(self._too_big())
        return self.skeleton

    def _pruned(self) -> set[tuple[int, int]]:
        found = set()
        for path in (*self.prune, self.target, self.state):
            try:
                info = os.stat(path)
            except OSError:
                continue
            found.add((info.st_dev, info.st_ino))
        return found

    def _record(self, source: str, copied: Copied, mode: str) -> str:
        return (
            dumps(
                {
                    "format": 1,
                    "agent": __version__,
                    "boot_id": self.boot_id,
                    "home": source,
                    "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "mode": mode,
                    "files": copied.files,
                    "bytes": copied.bytes,
                    "skipped": copied.skipped[:_NAMED],
                    "skipped_total": len(copied.skipped),
                }
            )
            + "\n"
        )

    def _seeded(self) -> str:
        """Say what the marker says; an empty one, or any we cannot read, is a legacy one."""
        text = files.read(self._marker) or b""
        if not text.startswith(b'{"format": 1'):
            return "a legacy marker, adopted"
        import re  # a report, not a decision: a pattern spares the json package's 6 ms

        created = re.search(rb'"created": "(\d{4}-\d\d-\d\d)', text)
        source = re.search(rb'"home": "([^"\\]*)"', text)
        origin = f" from {source[1].decode()}" if source else ""
        skipped = re.search(rb'"skipped_total": (\d+)', text)
        left_out = int(skipped[1]) if skipped else 0
        note = f", {counted(left_out, 'object')} left out" if left_out else ""
        return f"seeded {created[1].decode() if created else ''}{origin}{note}"

    def _no_room(self) -> Problem | None:
        free = room(os.path.dirname(self.state)).free if self.min_free else 0
        if free >= self.min_free:
            return None
        why = f"{size(free)} free, {size(self.min_free)} wanted (`volume.min_free`)"
        fix = "delete something there, or enlarge the volume"
        return Problem("volume.full", "the volume is too full for a home", why, fix, self.target)

    def _unusable(self) -> Problem | None:
        why = unusable(self.source)
        if not why:
            return None
        fix = "set HOME to the image's home folder"
        return Problem("home.unusable", "the image's home cannot be copied", why, fix, self.source)

    def _in_the_way(self) -> Problem:
        return Problem(
            "home.in-the-way",
            f"{self.target} is not a folder",
            "a home there would be somewhere else, or nowhere",
            "move it away; the next boot makes the home",
            self.target,
        )

    def _too_big(self) -> Problem:
        return Problem(
            "home.too-big",
            f"{self.source} was not copied",
            f"outside a container only a home under {SMALL_ENTRIES} entries and 64 MiB is",
            "set HOME to a smaller folder, or WORKSPACE_AGENT_SYSTEM=1 if this is a pod",
            self.source,
        )


def unusable(home: str) -> str:
    """Say why *home* cannot be a source; an empty text when it can."""
    if not home:
        return "HOME is not set, and this user has no passwd entry"
    if not home.startswith("/"):
        return f"HOME is {home}, which is not an absolute path"
    if os.path.normpath(home) in ("/", "//"):
        return "HOME is the root folder"
    if not os.path.isdir(home):
        return f"{home} is not a folder"
    if not os.access(home, os.R_OK | os.X_OK):
        return f"this user may not read {home}"
    return ""


def is_small(home: str) -> bool:
    """Say whether *home* is as small as an image's; stops counting when it is not."""
    entries = total = 0
    for folder, _, names in os.walk(home):
        entries += 1 + len(names)
        for name in names:
            if entries > SMALL_ENTRIES or total > SMALL_BYTES:
                return False
            try:
                info = os.lstat(f"{folder}/{name}")
            except OSError:
                continue  # gone while we count
            total += info.st_size if stat.S_ISREG(info.st_mode) else 0
    return entries <= SMALL_ENTRIES and total <= SMALL_BYTES
