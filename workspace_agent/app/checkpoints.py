"""Which workload this is, which checkpoints it has, and by what they are made and used."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property

from workspace_agent.app import plans, rescues
from workspace_agent.checkpoint import artifact, criu, machine, powers
from workspace_agent.checkpoint.contract import Contract
from workspace_agent.checkpoint.tree import task, ticks
from workspace_agent.fastpath import BAKED
from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.supervise import numbers
from workspace_agent.watch.layer import mountinfo, probe, root_mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from workspace_agent.app.facts import Facts
    from workspace_agent.checkpoint.powers import Powers
    from workspace_agent.config.schema import Profile

# Before anything was measured, in bytes a second: a slow network volume.
FIRST_RATE = 200e6


@dataclass(frozen=True)
class Bench:
    """What checkpoints of one workload are worked on with; *argv* is its command."""

    profile: Profile
    facts: Facts
    argv: Sequence[str]

    @property
    def work(self) -> str:
        """Where CRIU writes what it has to say."""
        return f"{self.facts.runtime}/{layout.LOGS}/criu"

    @property
    def control(self) -> str:
        """Where the workload and a checkpoint meet."""
        return f"{self.facts.runtime}/{layout.CONTROL}"

    def workload(self) -> str:
        """Return the 16 hexadecimal digits that name the workload.

        Another command, image, owner or anything that the profile names is another one. What the
        machine is like is not in it: that is looked at when something is to be restored.
        """
        wish = self.profile.checkpoint
        env = {
            name: value
            for name, value in sorted(self.facts.environ.items())
            if any(fnmatch.fnmatchcase(name, one) for one in wish.env)
        }
        parts = {
            "schema": artifact.SCHEMA, "argv": list(self.argv), "env": env,
            "owner": rescues.owner(self.profile, self.facts.environ), "image": image(self.facts),
            "arch": os.uname().machine, "identity": wish.identity,
        }  # fmt: skip
        return hashlib.sha256(dumps(parts).encode()).hexdigest()[:16]

    def tool(self) -> criu.Criu:
        """Return the CRIU of this image, as it may run here."""
        os.makedirs(self.work, 0o700, exist_ok=True)
        wish = self.profile.checkpoint
        return criu.Criu(wish.criu, self.work, not powers.is_full(self.rights), wish.tcp)

    def tool_for(self, version: artifact.Version) -> criu.Criu:
        """Return the CRIU that restores *version*.

        How it was dumped is no matter: only who restores decides on a time namespace.
        """
        return replace(self.tool(), tcp=str(version.manifest["tcp"]))

    @cached_property
    def rights(self) -> Powers:
        """What this container may do."""
        return powers.read(self.profile.checkpoint.criu)

    def here(self) -> dict[str, Any]:
        """Return the facts of this machine."""
        return machine.here(self.rights.criu)

    def environ(self) -> Mapping[str, str]:
        """Return what the workload was started with."""
        return _environ(self.facts)

    def contract(self) -> Contract:
        """Return the agreement with the workload, whose environment hooks get."""
        wish = self.profile.checkpoint
        environ = _environ(self.facts)
        log = f"{self.facts.runtime}/{layout.LOGS}/checkpoint.log"
        os.makedirs(os.path.dirname(log), exist_ok=True)
        hooks = self.facts.fill(self.profile, wish.hooks)
        return Contract(self.control, hooks, wish.http, environ=environ, log=log,
                        timeout=wish.timeout)  # fmt: skip

    @contextmanager
    def shelf(self, workload: str = "", *, make: bool = False) -> Iterator[artifact.Shelf]:
        """Open the checkpoints of *workload*, or of this one; raises AgentError."""
        at, name = self.facts.volume.path, workload or self.workload()
        try:
            with artifact.shelf(at, name, self.secret(), make=make) as found:
                yield found
        except OSError as error:
            raise AgentError(_unreachable(error, at)) from error

    def secret(self) -> bytes:
        """Return what manifests are signed with; b"" where nothing is signed. Raises AgentError."""
        path = self.profile.checkpoint.secret
        secret = (files.read(path) or b"").strip() if path else b""
        if path and not secret:
            raise AgentError(Problem(
                "checkpoint.no-secret", "checkpoints cannot be signed or verified",
                "`checkpoint.secret` names a file that is not there, or is empty",
                "mount the secret, or take the key out of the profile", path))  # fmt: skip
        return secret


def is_on(profile: Profile, facts: Facts) -> bool:
    """Say whether this image and this profile are for checkpoints at all."""
    return bool(facts.runtime) and plans.floor(profile, facts) > 0


def image(facts: Facts) -> str:
    """Name the image: by its own word, by its bake, or by what it is made of.

    Nothing here changes with what the workload does to its container.
    """
    if name := facts.environ.get("WORKSPACE_AGENT_IMAGE"):
        return name
    try:
        info = os.lstat(f"{facts.root}/{BAKED}")
    except OSError:
        return rescues.image(facts, probe(facts.runtime, note=False))
    _, options = root_mount(mountinfo())
    layers = sum(1 + one.count(":") for one in options if one.startswith("lowerdir"))
    return f"{int(info.st_mtime)}-{info.st_size}-{layers}"


def generation(runtime: str) -> int:
    """Return how many times this workload was restored; 0 for one that was started here."""
    found = table(files.read(f"{runtime}/{layout.RESTORED}")).get("generation", 0)
    return found if isinstance(found, int) else 0


def environment(environ: Mapping[str, str]) -> str:
    """Return the environment of packages that *environ* leads to; "" for none.

    All of ours have the same name: what that is a link to is another for other packages.
    """
    path = environ.get("VIRTUAL_ENV", "")
    return os.path.realpath(path) if path else ""


def age(runtime: str, root: int) -> float:
    """Return for how many seconds the workload has run, in this container and in others."""
    before = table(files.read(f"{runtime}/{layout.RESTORED}")).get("age", 0.0)
    now = task(root)
    here = (ticks() - now.started) / os.sysconf("SC_CLK_TCK") if now else 0.0
    return round(float(before) + here, 1)


def rate(lines: Sequence[Mapping[str, Any]], *words: str) -> float:
    """Return the bytes a second of the last ones: of `dump` or `restore`, the first that there is.

    The slowest of three counts.
    """
    for what in words:
        rates = [
            one["bytes"] / max(one["secs"], 0.01)
            for one in lines
            if one.get("what") == what and one.get("state") == "done" and "bytes" in one
        ]
        if rates:
            return float(min(rates[-3:]))
    return FIRST_RATE


def note(shelf: artifact.Shelf, **what: object) -> None:
    """Add a line to the ledger, if that can be; on a full volume whoever reads it misses one."""
    with suppress(OSError):
        shelf.note(**what)


def settle_wanted(facts: Facts) -> None:
    """Tell the next boots whether there is anything to restore; raises OSError."""
    volume = facts.volume.path
    found = False
    for one in artifact.workloads(volume):
        with artifact.shelf(volume, one) as shelf:
            found = found or bool(shelf.current())
    artifact.want(volume, found)


def _environ(facts: Facts) -> dict[str, str]:
    from workspace_agent.host import runtime

    return runtime.variables(f"{facts.runtime}/{layout.ENVIRON}") or dict(facts.environ)


def _unreachable(error: OSError, volume: str) -> Problem:
    why = f"{error.filename or volume}: {os.strerror(error.errno or 0)}"
    return Problem("checkpoint.no-place", "the checkpoints cannot be reached", why,
                   "make the volume writable, and look at who owns its .workspace-agent",
                   str(error.filename or volume))  # fmt: skip


def successor(runtime: str) -> int:
    """Return the process that took the place of this container's placeholder; 0 for none."""
    text = (files.read(f"{runtime}/{layout.SUCCESSOR}") or b"").strip()
    return int(text) if text.isdigit() else 0


def command_of(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the workload's command: of a placeholder, that for which it stands."""
    if numbers.is_placeholder(argv):
        return tuple(argv[argv.index("--") + 1 :]) if "--" in argv else ()
    return tuple(argv)


def off(profile: Profile) -> Problem:
    """Say why there are no checkpoints here, where `is_on` says so."""
    wish = profile.checkpoint
    if wish.mode == "off":
        why, fix = "`checkpoint.mode` is `off`", "set it to `auto` or `manual`"
    elif not files.exists(wish.criu):
        why, fix = f"there is no {wish.criu} in this image", "make one with deploy/placeholder"
    else:
        why, fix = "no agent runs here that has a container to itself", "see `workspace-agent run`"
    return Problem("checkpoint.off", "checkpoints are off here", why, fix)
