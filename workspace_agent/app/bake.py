"""The static half of a boot, done once at image build."""

from __future__ import annotations

import marshal
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workspace_agent import bundle
from workspace_agent.app import carrying, plans, private
from workspace_agent.app.boot import run, wiring_steps
from workspace_agent.app.facts import gather
from workspace_agent.app.profiles import chosen
from workspace_agent.app.recipes import recipe_for
from workspace_agent.fastpath import BAKED
from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.outcome import Check, Ok, Report, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.steps.volume import Choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.app.facts import Facts
    from workspace_agent.app.session import Session

COMMAND = "/usr/local/bin/workspace-agent"


@dataclass(frozen=True)
class File:
    """One file of the image with exactly this content."""

    path: str
    data: bytes
    name: str
    mode: int = 0o644
    needs: tuple[str, ...] = ()

    def check(self) -> Check:
        """Compare it."""
        return Ok(self.path) if files.read(self.path) == self.data else Todo(self.path)

    def apply(self, tell: Callable[[str], None]) -> None:
        """Write it."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        files.commit(self.path, self.data, self.mode)


@dataclass(frozen=True)
class Bytecode:
    """Compile every module, so that a read-only or foreign-owned install starts fast too."""

    root: str
    name: str = "image.bytecode"
    needs: tuple[str, ...] = ()

    def check(self) -> Check:
        """Look whether each module has its file; it is not read (unchecked-hash)."""
        modules = [
            f"{folder}/{name}"
            for folder, _, names in os.walk(f"{self.root}/workspace_agent")
            for name in names
            if name.endswith(".py")
        ]
        stale = [module for module in modules if not _is_compiled(module)]
        return Todo(f"{len(stale)} modules") if stale else Ok(f"{len(modules)} modules")

    def apply(self, tell: Callable[[str], None]) -> None:
        """Compile, with hashes that are not checked: a boot then never stats a source."""
        import compileall
        import py_compile

        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(
            f"{self.root}/workspace_agent", quiet=2, force=True, invalidation_mode=mode
        )


@dataclass(frozen=True)
class ImageFiles:
    """List the names of all files, so that a checkpoint knows which of them were deleted."""

    facts: Facts
    name: str = "image.files"
    needs: tuple[str, ...] = ()

    def check(self) -> Check:
        """Compare the list."""
        same = files.read(carrying.list_of(self.facts), 1 << 30) == carrying.names(self.facts)
        return Ok() if same else Todo("no list of them, or an old one")

    def apply(self, tell: Callable[[str], None]) -> None:
        """Write it."""
        files.commit(carrying.list_of(self.facts), carrying.names(self.facts))


def _is_compiled(module: str) -> bool:
    """Say whether the module's bytecode is of this very source, and will not be compared again."""
    import importlib.util

    source = files.read(module) or b""
    head = (files.read(importlib.util.cache_from_source(module)) or b"")[:16]
    unchecked = (1).to_bytes(4, "little")  # hash-based, not checked: PEP 552
    return head == importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source)


def bake(session: Session) -> Report:
    """Put the static half in place under *session*'s root; raises AgentError when not root."""
    if os.geteuid() != 0:
        raise AgentError(Problem("image.not-root", "only root can bake an image", fix="drop USER"))
    profile = chosen(session.environ, session.root).profile
    path = session.environ.get("WORKSPACE_VOLUME") or profile.volume.candidates[0]
    facts = gather(
        profile,
        session.environ,
        {},
        root=session.root,
        runtime=layout.RUNTIME,
        container=True,
        volume=Choice(path, True, "baked"),
    )
    recipe, _ = recipe_for(profile, facts, Report())
    plan = plans.compiled(profile, facts, recipe, _profile_files(session))
    steps = [step for step in wiring_steps(profile, facts, recipe) if step.name != "env.files"]
    command = os.fsencode(private.launcher(session.root))
    steps += [
        File(COMMAND, command, "image.command", 0o755),
        Bytecode(session.root),
        File(bundle.path(session.root), bundle.collect(session.root), "image.bundle"),
        File(f"{session.root}/{BAKED}", marshal.dumps(dict(plan)), "image.plan"),
    ]
    if os.path.exists(profile.checkpoint.criu):
        steps.insert(-1, ImageFiles(facts))
    # A volume known only at boot, or links and mounts in each new container: the engine's work.
    if "*" in path or profile.home.mode in ("links", "bind"):
        steps = steps[:-1]
        files.remove(f"{session.root}/{BAKED}")
    return replace(run(steps, Report()), notes=())


def _profile_files(session: Session) -> list[str]:
    """List what the plan rests on: the selected files, and all that they may extend."""
    selector = session.environ.get("WORKSPACE_AGENT_PROFILE", "")
    named = [layout.IMAGE_PROFILE, *([selector] if selector.endswith(".toml") else [])]
    folders = {f"{session.root}/profiles", *map(os.path.dirname, named)}
    beside = [
        f"{folder}/{name}"
        for folder in sorted(folders)
        if os.path.isdir(folder)
        for name in sorted(os.listdir(folder))
        if name.endswith(".toml")
    ]
    return list(dict.fromkeys([*named, *beside]))
