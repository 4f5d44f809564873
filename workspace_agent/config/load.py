"""The profile of this boot: defaults, files, environment and flags, laid over each other."""

from __future__ import annotations

import os
from dataclasses import dataclass

from workspace_agent.config import sources
from workspace_agent.config.schema import Profile, walk
from workspace_agent.config.sources import Overlay as Overlay
from workspace_agent.config.sources import Source as Source
from workspace_agent.model.problem import AgentError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

DEFAULT_NAME = "persistent-workspace"

ENV_PREFIX = "WORKSPACE_AGENT__"

_NOTHING: dict[str, object] = {}


@dataclass(frozen=True)
class Loaded:
    """A profile, and the source of each of its values by key path."""

    profile: Profile
    origin: Mapping[tuple[str, ...], Source]


class ProfileError(AgentError):
    """Every mistake in a profile at once; *issues* are lines with file, line and key."""

    def __init__(self, issues: Sequence[str]) -> None:
        self.issues = tuple(issues)
        count = "1 mistake" if len(issues) == 1 else f"{len(issues)} mistakes"
        super().__init__(
            Problem(
                slug="profile.mistakes",
                what=f"the profile has {count}",
                why="\n".join(_shortened(self.issues)),
                fix="correct the lines above;"
                " `workspace-agent profile show` prints every key and its default",
            )
        )


def load(
    selector: str | None,
    *,
    environ: Mapping[str, str],
    builtin: str,
    overlays: Sequence[Overlay] = (),
    flags: Mapping[str, object] = _NOTHING,
) -> Loaded:
    """Return the profile that *selector* names, with everything laid over it.

    *selector* is a name in the folder *builtin* or a path; a flag's key is dotted (`home.mode`).
    """
    present = [overlay for overlay in overlays if os.path.exists(overlay.path)]
    overrides = [name for name in environ if name.startswith(ENV_PREFIX)]
    origin = {path: sources.DEFAULT for path, one in walk() if one.metadata["kind"] not in _TABLES}
    if selector in (None, DEFAULT_NAME) and not (present or overrides or flags):
        return Loaded(Profile(), origin)

    from workspace_agent.config import layers  # the parser and the decoder: not for a plain boot

    stack = [
        *layers.selected(selector or DEFAULT_NAME, builtin),
        *layers.laid_over(present, builtin),
        *(layers.variable(name, environ[name]) for name in sorted(overrides)),
        *(layers.flag(name, value) for name, value in flags.items()),
    ]
    if issues := layers.mistakes(stack):
        raise ProfileError(issues)
    return Loaded(layers.merged(stack, origin), origin)


def names(builtin: str) -> tuple[str, ...]:
    """Return the names of the profiles in the folder *builtin*; the default is always one."""
    try:
        files = os.listdir(builtin)
    except OSError:
        files = []
    shipped = {name[: -len(".toml")] for name in files if name.endswith(".toml")}
    return tuple(sorted(shipped | {DEFAULT_NAME}))


def to_json(profile: Profile) -> dict[str, Any]:
    """Return *profile* as plain values, which `decode` turns into the same profile."""
    from workspace_agent.config import decode

    return decode.to_json(profile)


_TABLES = ("section", "vars")

# A log is read by people: a file of nothing but mistakes does not get a line for each.
_SHOWN = 50


def _shortened(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"and {rest} more"] if rest > 0 else [])]
