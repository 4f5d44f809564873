"""The step that has the packages in use which the workspace asks for."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from workspace_agent.host.lease import Lease
from workspace_agent.model.outcome import Blocked, Check, Ok, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, duration
from workspace_agent.replay import build, dists, key, lines, pack, redact
from workspace_agent.replay.build import Builder
from workspace_agent.replay.place import Mark, Place
from workspace_agent.replay.store import Manifest, Store, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from workspace_agent.host.interpreter import Interpreter
    from workspace_agent.replay.key import Policy
    from workspace_agent.replay.lines import Line

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
    """Have in use at *place* what *files* ask for beside the packages of *python*.

    It comes from the store on *volume*, else it is built with the installers that *env* leads to.
    When neither works, the last good one is in use, or an empty one, and AgentError is raised.
    """

    files: tuple[str, ...]
    place: Place
    volume: str
    python: Interpreter
    policy: Policy
    env: Mapping[str, str]
    logs: str
    boot_id: str
    rule: str = ""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    name: str = "replay"
    needs: tuple[str, ...] = ("volume.ready",)
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
        mark = self.place.mark(wanted)
        if mark and self.place.used() == wanted:
            return Ok(f"environment {wanted[:8]}, {counted(len(mark.dists), 'package')}")
        return Todo(f"environment {wanted[:8]} is not in use", self.files)

    @cached_property
    def want(self) -> Want:
        """Read the files; raises AgentError for one that cannot be used."""
        found = lines.read(self.files, self.extras, self.groups)
        base = self.place.baseline() or dists.installed(dists.folders(self.python))
        facts = key.facts(
            found, self.python, base, self.policy,
            environ=self.env, rule=self.rule, place=self.place.top,
        )  # fmt: skip
        return Want(key.digest(facts), facts, found, base)

    def apply(self, tell: Callable[[str], None]) -> None:
        """Restore or build it, and let programs use it from one moment to the next."""
        self.place.keep_baseline(self.want.base)
        wanted = self.want.key
        try:
            if self.place.mark(wanted) is None:
                self._have(tell)
            self.place.use(wanted)
        except (AgentError, OSError):
            self.stopgap(tell)
            raise

    def _have(self, tell: Callable[[str], None]) -> None:
        with opened(self.volume, self.python.abi, make=True) as store:
            if self._restored(store, self.want.key, tell):
                return
            if why := store.failed(self.want.key):
                raise AgentError(_again(why))
            lease = Lease(store.root, self.boot_id)
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

        def alive(text: str) -> None:
            lease.beat()
            tell(text)

        top = self.place.clear(wanted)
        try:
            found = self.builder.make(top, alive)
        except AgentError as error:
            self.place.discard(wanted)
            with suppress(OSError):
                if error.problem.slug != "replay.no-network":  # that may pass
                    store.remember(wanted, f"{error.problem.what}: {error.problem.why}")
            lease.release()
            raise
        except BaseException:
            lease.release()
            raise
        self.leases.append(lease)
        site = build.site(top)
        said = tuple(
            one.sentence(dists.size(site, [one.name]) if one.is_protected else 0)
            for one in (*found.conflicts, *found.kept)
        )
        made = dists.installed([site])
        self.place.commit(Mark(wanted, made, said, time.monotonic() - began))

    @property
    def builder(self) -> Builder:
        """What builds the environment."""
        texts = [line.text for line in self.want.lines]
        return Builder(
            python=self.python,
            base=self.want.base,
            lines=self.want.lines,
            policy=self.policy,
            env=self.env,
            work=f"{self.place.top}/work",
            log=f"{self.logs}/replay.log",
            secrets=redact.values(self.env, _netrc(self.env), texts),
        )

    def _restored(self, store: Store, wanted: str, tell: Callable[[str], None]) -> bool:
        """Unpack *wanted* from the store, in memory or on the disk; what is damaged is removed."""
        manifest = store.manifest(wanted)
        if manifest is None:
            return False
        for memory in (manifest.size, 0):
            top = self.place.clear(wanted, memory=memory)
            if memory and not os.path.islink(top):
                continue  # it does not fit there: the next round is the same place
            try:
                with store.root.folder(store.at(wanted)) as source:
                    pack.restore(source, manifest.parts, manifest.codec, top, tell)
                self._proven(top, manifest)
            except AgentError as error:
                self.place.discard(wanted)
                if error.problem.slug == "replay.damaged":
                    store.discard(wanted, self.boot_id)
                    return False
            except OSError:
                self.place.discard(wanted)
            else:
                mark = Mark(wanted, manifest.dists, manifest.said, manifest.built_secs, True)
                self.place.commit(mark)
                with suppress(OSError):
                    store.use(wanted)
                return True
        return False

    def _proven(self, top: str, manifest: Manifest) -> None:
        """Raise AgentError unless *top* holds what the *manifest* says."""
        if dists.installed([build.site(top)]) != manifest.dists:
            raise AgentError(pack.damaged("its packages are others"))
        if not os.access(f"{top}/bin/python", os.X_OK):
            raise AgentError(pack.damaged("its interpreter does not start"))

    def stopgap(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Have the last good environment in use, or an empty one, where there is none."""
        if self.place.mark(self.place.used()):
            return
        with suppress(OSError, AgentError), opened(self.volume, self.python.abi) as store:
            last = store.current().get("current", "")
            if last and last != self.want.key and self._restored(store, last, tell):
                self.place.use(last)
                return
        with suppress(OSError, AgentError):
            if self.place.mark(BARE) is None:
                self.builder.bare(self.place.clear(BARE), tell)
                self.place.commit(Mark(BARE, {}, is_stored=True))
            self.place.use(BARE)

    def settle(self, tell: Callable[[str], None] = lambda _: None) -> Problem | None:
        """Put a new environment into the store. For a process beside the workload.

        Returns what kept it from being stored; the environment works without.
        """
        wanted = self.place.used()
        mark = self.place.mark(wanted)
        try:
            if mark is None or mark.is_stored or wanted != self.want.key:
                return None
            with opened(self.volume, self.python.abi, make=True) as store:
                self._publish(store, mark, tell)
            self.place.commit(replace(mark, is_stored=True))
        except AgentError as error:
            return error.problem
        except OSError as error:
            why = os.strerror(error.errno or 0)
            return _not_stored(why, str(error.filename or self.volume))
        finally:
            for lease in self.leases:
                lease.release()
            self.leases.clear()
        return None

    def _publish(self, store: Store, mark: Mark, tell: Callable[[str], None]) -> None:
        top = self.place.at(mark.key)

        def alive(text: str) -> None:
            for lease in self.leases:
                lease.beat()
            tell(text)

        self.builder.compile(top, alive)
        tree = pack.walk(top)
        codec = pack.codec()
        with store.stage(self.boot_id) as (name, stage):
            parts = pack.pack(top, tree, stage, codec, alive)
            manifest = Manifest(
                key=mark.key,
                facts=self.want.facts,
                dists=mark.dists,
                codec=codec,
                parts=parts,
                files=len(tree.files),
                size=tree.bytes,
                built_secs=mark.built_secs,
                said=mark.said,
                made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            stage.commit("manifest.json", manifest.to_json(), durable=True)
            store.publish(name, mark.key)
        store.use(mark.key)
        store.remember(mark.key, "")
        store.prune(self.boot_id)
        if self.leases and self.leases[0].held():
            store.sweep()


def receipt(mark: Mark, secs: float) -> str:
    """Say what a restore brought back, beside what its build took."""
    built = f"; building it took {duration(mark.built_secs)}" if mark.is_stored else ""
    return f"{counted(len(mark.dists), 'package')} in {duration(secs)}{built}"


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


def _again(why: str) -> Problem:
    return Problem(
        "replay.build-failed",
        "the packages could not be installed, a short while ago",
        why,
        "mend the files, or `workspace-agent replay run` tries it again at once",
    )


def _not_stored(why: str, where: str) -> Problem:
    fix = "the packages are in use here; the next pod installs them again"
    return Problem("replay.not-stored", "the environment could not be stored", why, fix, where)
