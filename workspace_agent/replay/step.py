"""The step that has the packages in use which the workspace asks for."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from workspace_agent.host.lease import Lease
from workspace_agent.host.room import room
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.host.ticker import Ticker
from workspace_agent.model.outcome import Blocked, Check, Ok, Todo
from workspace_agent.model.problem import AgentError, Problem, slug
from workspace_agent.model.words import counted, duration
from workspace_agent.replay import dists, inplace, key, lines, pack, redact
from workspace_agent.replay.build import Builder
from workspace_agent.replay.mark import Mark
from workspace_agent.replay.place import Place
from workspace_agent.replay.store import Store, opened
from workspace_agent.replay.transfer import bring, not_stored, put
from workspace_agent.replay.tree import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from workspace_agent.host.interpreter import Interpreter
    from workspace_agent.replay.asked import Asked
    from workspace_agent.replay.key import Policy
    from workspace_agent.replay.lines import Line
    from workspace_agent.replay.tree import Tree

# Another pod that builds the same is waited for so long; then we build, too.
_PATIENCE = 120.0

# An environment that adds nothing: what is in use until there is another one.
BARE = "bare"


@dataclass(frozen=True)
class Want:
    """What the files ask for: the *key*, the *facts* it was made of, their *lines*."""

    key: str
    facts: dict[str, Any]
    lines: tuple[Line, ...]
    base: dict[str, str]


@dataclass(frozen=True)
class Replay:
    """Have in use at *place* what is *asked* for beside the packages of *python*.

    It comes from the store on *volume*, else it is built with the installers that *env* leads to.
    When neither works, the last good one is in use, or an empty one, and AgentError is raised.
    """

    asked: Asked
    place: Place
    volume: str
    python: Interpreter
    policy: Policy
    env: Mapping[str, str]
    logs: str
    boot_id: str
    refresh: str = ""  # another one looks up again what has no version
    name: str = "replay"
    needs: tuple[str, ...] = ()  # also from a volume that is full, or read-only
    # Held from the build to the end of the publishing, which is beside the workload.
    leases: list[Lease] = field(default_factory=list, compare=False, repr=False)

    def check(self) -> Check:
        """Compare the key of the environment in use with what the files ask for."""
        if not self.python.executable:
            return Blocked(_NO_PYTHON)
        try:
            wanted = self.want.key
        except AgentError as error:
            return Blocked(error.problem)
        mark = self.place.in_use()
        if mark and mark.key == wanted:
            return Ok(f"environment {wanted[:8]}: {receipt(mark)}")
        return Todo(f"environment {wanted[:8]} is not in use", (self.asked.why,))

    @cached_property
    def want(self) -> Want:
        """Read the files; raises AgentError for one that cannot be used."""
        found = self.asked.lines()
        facts = key.facts(
            found, self.python, self._base, self.policy,
            environ=self.env, rule=self.asked.rule, place=self.place.top,
        )  # fmt: skip
        if self.refresh and lines.loose(found):
            facts["refresh"] = self.refresh
        return Want(key.digest(facts), facts, found, self._base)

    @cached_property
    def _base(self) -> dict[str, str]:
        return self.place.baseline() or dists.installed(dists.folders(self.python))

    def _want_or_nothing(self) -> Want:
        try:
            return self.want
        except AgentError:
            return Want("", {}, (), self._base)

    @property
    def profile(self) -> str:
        """Where its environments are stored: a machine without GPU leaves those with one alone."""
        return "-".join(filter(None, (self.python.abi, self.asked.rule)))

    def has(self, package: str) -> bool:
        """Say whether programs of the environment in use see *package*."""
        mark = self.place.in_use()
        own = mark.dists if mark else {}
        hidden = self.policy.mode == "isolated"
        return package in own or (not hidden and package in (self.place.baseline() or {}))

    def apply(self, tell: Callable[[str], None]) -> Problem | None:
        """Restore or build it, and let programs use it from one moment to the next."""
        self.place.keep_baseline(self.want.base)
        wanted = self.want.key
        try:
            if self.place.mark(wanted) is None:
                self._have(tell)
            self.place.use(wanted)
        except (AgentError, OSError) as error:
            self.stopgap(tell, stored=slug(error) != pack.HUNG.slug)
            raise
        is_useful = self.policy.is_in_place or room(self.place.at(wanted)).executable
        return None if is_useful else replace(_NO_EXEC, where=self.place.top)

    def _have(self, tell: Callable[[str], None]) -> None:
        with ExitStack() as stack:
            try:
                store = stack.enter_context(opened(self.volume, self.profile, make=True))
            except OSError:  # full, or read-only: `settle` says so
                store = stack.enter_context(opened(self.place.top, self.profile, make=True))
            if self._restored(store, self.want.key, tell):
                return
            if why := store.failed(self.want.key):
                raise AgentError(_again(why))
            # A folder of its own: the lease outlives the look at the store.
            lease = Lease(SafeRoot(os.dup(store.root.fd), store.root.path), self.boot_id)
            if self._turn(store, lease, tell) or not self._restored(store, self.want.key, tell):
                self._build(store, lease, tell)

    def _turn(self, store: Store, lease: Lease, tell: Callable[[str], None]) -> bool:
        """Wait while another pod builds the same; says whether it is our turn."""
        until = time.monotonic() + _PATIENCE

        def is_done() -> bool:
            return time.monotonic() > until or store.manifest(self.want.key) is not None

        with suppress(OSError):  # no leases here: two pods may do the same work, no worse
            if lease.take(is_done, tell):
                return True
        return store.manifest(self.want.key) is None

    def _build(self, store: Store, lease: Lease, tell: Callable[[str], None]) -> None:
        wanted, began = self.want.key, time.monotonic()
        with Ticker(tell, "making room for the environment"):
            builder = self.builder(self.place.clear(wanted), self.alive(tell))
        self.leases.append(lease)
        try:
            old = inplace.files_of(self._site, self.want.base) if self._site else []
            found = builder.make()
        except BaseException as error:
            self._let_go()
            if isinstance(error, (AgentError, OSError)):
                self._clean_up(store, builder, error)
            raise
        site, secs = builder.site, time.monotonic() - began
        made = dists.installed([site])
        said = (
            one.sentence(dists.size(site, [one.name, *one.brings]) if one.is_protected else 0)
            for one in (*found.conflicts, *found.kept)
        )
        self.place.commit(
            Mark(
                key=wanted,
                dists={name: made[name] for name in found.additions},
                said=tuple(said),
                removed=tuple(p for p in old if not os.path.lexists(f"{builder.folder}/{p}")),
                secs=secs,
                built_secs=secs,
            )
        )

    def _clean_up(self, store: Store, builder: Builder, error: AgentError | OSError) -> None:
        """Leave nothing of a build that failed, but a note of what is in the files' own power."""
        self.place.discard(self.want.key)
        if isinstance(error, OSError) or slug(error) == "replay.no-room":
            shutil.rmtree(builder.work, ignore_errors=True)  # its caches are most of it
        elif slug(error) != "replay.no-network":
            with suppress(OSError):
                store.remember(self.want.key, f"{error.problem.what}: {error.problem.why}")

    def alive(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """Return *tell* as something that also shows other pods that we are at it."""

        def say(text: str) -> None:
            for lease in self.leases:
                lease.beat()
            tell(text)

        return say

    def _let_go(self) -> None:
        for lease in self.leases:
            lease.release()
        self.leases.clear()

    @property
    def _site(self) -> str:
        """The image's own folder of packages, if they go there."""
        return self.python.site if self.policy.is_in_place else ""

    def builder(self, top: str, tell: Callable[[str], None] = lambda _: None) -> Builder:
        """Return what builds the environment in the folder *top*."""
        want = self._want_or_nothing()
        texts = [line.text for line in want.lines]
        return Builder(
            python=self.python,
            base=want.base,
            lines=want.lines,
            policy=self.policy,
            env=self.env,
            top=top,
            work=f"{self.place.top}/work",
            log=f"{self.logs}/replay.log",
            tell=tell,
            secrets=redact.values(self.env, _netrc(self.env), texts),
        )

    def _restored(self, store: Store, wanted: str, tell: Callable[[str], None]) -> bool:
        return bring(store, self.place, wanted, tell, self._site)

    def stopgap(self, tell: Callable[[str], None] = lambda _: None, *, stored: bool = True) -> None:
        """Have the last good environment in use, or an empty one, where none is *stored*."""
        if self.place.in_use() or (stored and self._last_good(tell)):
            return
        if self._site:
            return  # the image's own packages are what there is
        with suppress(OSError, AgentError):
            if self.place.mark(BARE) is None:
                self.builder(self.place.clear(BARE), tell).bare()
                self.place.commit(Mark(BARE, {}, is_stored=True))
            self.place.use(BARE)

    def _last_good(self, tell: Callable[[str], None]) -> bool:
        with suppress(OSError, AgentError), opened(self.volume, self.profile) as store:
            last = store.current().get("current", "")
            if last and last != self._want_or_nothing().key and self._restored(store, last, tell):
                self.place.use(last)
                return True
        return False

    def settle(self, tell: Callable[[str], None] = lambda _: None) -> Problem | None:
        """Put a new environment into the store. For a process beside the workload.

        Returns what kept it from being stored; the environment works without.
        """
        mark = self.place.in_use()
        try:
            if mark and not mark.is_stored and mark.key == self.want.key:
                self._publish(mark, tell)
        except AgentError as error:
            return error.problem
        except OSError as error:
            return not_stored(os.strerror(error.errno or 0), str(error.filename or self.volume))
        finally:
            self._let_go()
        return None

    def _publish(self, mark: Mark, tell: Callable[[str], None]) -> None:
        builder = self.builder(self.place.at(mark.key), self.alive(tell))
        top, site = builder.folder, builder.site
        now = dists.installed([site])
        if any(now.get(name) != version for name, version in mark.dists.items()):
            raise AgentError(not_stored("its packages were changed by hand meanwhile"))

        def tree() -> Tree:
            """What to store: not what somebody installed by hand meanwhile."""
            if self._site:
                return inplace.tree_of(top, inplace.files_of(site, mark.dists))
            whole, foreign = walk(top), {*inplace.files_of(site, now.keys() - mark.dists)}
            return replace(whole, files=[one for one in whole.files if one[0] not in foreign])

        builder.compile([path for path, _ in tree().files])
        with opened(self.volume, self.profile, make=True) as store:
            put(store, top, tree(), mark, self.want.facts, builder.tell)
            if self.leases and self.leases[0].held():
                store.sweep()
        self.place.commit(replace(mark, is_stored=True))
        shutil.rmtree(builder.work, ignore_errors=True)  # caches, and what was asked for


def receipt(mark: Mark) -> str:
    """Say what is there, and what it took beside what its build took."""
    if mark.secs == mark.built_secs:
        return f"{counted(len(mark.dists), 'package')}, installed in {duration(mark.secs)}"
    built = f"{duration(mark.secs)}; installing them took {duration(mark.built_secs)}"
    return f"{counted(len(mark.dists), 'package')} in {built}"


def _netrc(env: Mapping[str, str]) -> str:
    from workspace_agent.host import files

    path = env.get("NETRC") or f"{env.get('HOME', '')}/.netrc"
    return (files.read(os.path.realpath(path)) or b"").decode("utf-8", "replace")


_NO_PYTHON = Problem(
    "replay.no-python",
    "there is no python3 that packages could be added to",
    "PATH leads to none, or to a launcher that alone knows which one it starts",
    "put a python3 on the image's PATH, or set `replay.mode` to `off`",
)


_NO_EXEC = Problem(
    "replay.no-exec",
    "no program of the packages can be started, and no compiled module loaded",
    "they lie on a file system that is mounted `noexec`",
    "mount one without it, and name it by WORKSPACE_AGENT_ENVS",
)


def _again(why: str) -> Problem:
    return Problem(
        "replay.build-failed",
        "the packages could not be installed, a short while ago",
        why,
        "mend the files, or `workspace-agent replay run` tries it again at once",
    )
