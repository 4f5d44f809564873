"""The environment in every kind of shell: hooks in /etc, and the runtime files they read."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.outcome import Check, Ok, Skip, Todo
from workspace_agent.model.recipe import compose, quoted, shell_files
from workspace_agent.steps import renderers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workspace_agent.model.recipe import Recipe


@dataclass(frozen=True)
class Wanted:
    """One file: its whole text, or (*top* is not None) a block of ours in somebody else's."""

    path: str
    lines: tuple[str, ...]
    top: bool | None = None
    mode: int = 0o644

    def text(self) -> str:
        """Return what the file must hold, given what it holds."""
        if self.top is None:
            return "\n".join([*self.lines, ""])
        old = os.fsdecode(files.read(self.path) or b"")
        return renderers.with_block(old, self.lines, top=self.top)

    def is_there(self) -> bool:
        """Say whether it holds that, or is not ours to change (too large, not a plain file)."""
        old = files.read(self.path)
        return old == os.fsencode(self.text()) or (old is None and files.exists(self.path))


@dataclass(frozen=True)
class ShellHooks:
    """Make each program's own start-up file read the environment of this boot.

    A hook stands above the "not interactive: return" line of the rc files, so that `ssh host cmd`
    gets it too. Programs that are not installed get nothing.
    """

    wanted: tuple[Wanted, ...]
    name: str = "shell.hooks"
    needs: tuple[str, ...] = ()

    def check(self) -> Check:
        """Compare every file."""
        stale = tuple(one.path for one in self.wanted if not one.is_there())
        if not stale:
            return Ok(f"{len(self.wanted)} files lead to this boot's environment")
        folder = next((f for f in map(os.path.dirname, stale) if not os.access(f, os.W_OK)), "")
        if folder:
            return Skip(f"{folder} cannot be written: shells see what the image provides")
        return Todo(f"{len(stale)} files", stale)

    def apply(self, tell: Callable[[str], None]) -> None:
        """Write those that differ."""
        for one in self.wanted:
            if not one.is_there():
                files.commit(one.path, one.text(), one.mode)


@dataclass(frozen=True)
class EnvFiles:
    """Write the environment of this boot into the runtime folder."""

    runtime: str
    recipe: Recipe
    environ: Mapping[str, str]
    name: str = "env.files"
    needs: tuple[str, ...] = ()

    def check(self) -> Check:
        """Compare the texts."""
        if not self.runtime:
            return Skip("this machine has no writable runtime folder: only the workload sees it")
        stale = tuple(
            path
            for path, data, _ in self._files()
            if (files.read(path) or b"") != os.fsencode(data)
        )
        return Todo("this boot's environment", stale) if stale else Ok(self.runtime)

    def apply(self, tell: Callable[[str], None]) -> None:
        """Write them, secrets first: env.sh names that file."""
        for path, data, mode in self._files():
            files.commit(path, data, mode)

    def _files(self) -> list[tuple[str, str, int]]:
        given = (self.recipe, self.environ, self.runtime)
        return [*shell_files(*given), *renderers.fish_files(*given)]


def hooks(
    recipe: Recipe, environ: Mapping[str, str], runtime: str, etc: str = "/etc"
) -> tuple[Wanted, ...]:
    """List the files in *etc* for the programs that are installed there.

    Only the recipe's own values stand in them: they may become part of an image.
    """
    env = compose(recipe, environ)
    values = renderers.own_values(recipe, env)
    script = quoted(f"{runtime}/{layout.ENV_SH}")
    source = (f"if [ -r {script} ]; then . {script}; fi",)
    fish = quoted(f"{runtime}/{layout.ENV_FISH}")
    names = [*recipe["allow"], *(name for name in values if name != "PATH")]
    sudo = tuple(renderers.sudoers(env.get("PATH", ""), names))
    every = (
        ("profile.d", Wanted(f"{etc}/profile.d/workspace-agent.sh", source)),
        ("bash.bashrc", Wanted(f"{etc}/bash.bashrc", source, top=True)),
        ("bashrc", Wanted(f"{etc}/bashrc", source, top=True)),
        ("zsh", Wanted(f"{etc}/zsh/zshenv", source, top=True)),
        ("zshenv", Wanted(f"{etc}/zshenv", source, top=True)),
        ("fish", Wanted(f"{etc}/fish/conf.d/workspace-agent.fish",
                        (f"if test -r {fish}; source {fish}; end",))),
        ("environment", Wanted(f"{etc}/environment", tuple(renderers.pam(values)), top=False)),
        ("pam.d", Wanted(f"{etc}/environment", tuple(renderers.pam(values)), top=False)),
        ("ssh/sshd_config.d", Wanted(f"{etc}/ssh/sshd_config.d/workspace-agent.conf",
                                     tuple(renderers.sshd(values)))),
        ("sudoers.d", Wanted(f"{etc}/sudoers.d/workspace-agent", sudo, mode=0o440)),
    )  # fmt: skip
    found = {}
    for probe, one in every:
        if one.lines and files.exists(f"{etc}/{probe}"):
            real = os.path.realpath(one.path)  # some images link their start-up files elsewhere
            found[real] = replace(one, path=real)
    return tuple(one for one in found.values() if os.path.isdir(os.path.dirname(one.path)))
