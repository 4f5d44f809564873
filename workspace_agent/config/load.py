"""The profile of this boot: defaults, files and environment, laid over each other."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from workspace_agent.config.schema import Profile, walk
from workspace_agent.model.problem import AgentError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_NAME = "persistent-workspace"

ENV_PREFIX = "WORKSPACE_AGENT__"


@dataclass(frozen=True)
class Overlay:
    """A file laid over the selected profile; a volume's is not *trusted* with everything."""

    path: str
    trusted: bool


@dataclass(frozen=True)
class Source:
    """The place that set a value: *kind* is default, file or env; *name* says which one."""

    kind: str
    name: str = ""
    key: tuple[str, ...] = ()
    text: str = field(default="", repr=False, compare=False)

    @property
    def line(self) -> int | None:
        """The line of a file's key, worked out when it is asked for."""
        if self.kind != "file":
            return None
        from workspace_agent.config import locate  # the parser; only to show an origin

        return locate.lines(self.text, [self.key]).get(self.key)

    def __str__(self) -> str:
        line = self.line
        return " ".join(filter(None, (self.kind, f"{self.name}:{line}" if line else self.name)))


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
) -> Loaded:
    """Return the profile that *selector* names, with everything laid over it.

    *selector* is a name in the folder *builtin* or a path.
    """
    present = [overlay for overlay in overlays if os.path.exists(overlay.path)]
    overrides = [name for name in environ if name.startswith(ENV_PREFIX)]
    default = Source("default")
    origin = {path: default for path, one in walk() if one.metadata["kind"] not in _TABLES}
    if selector in (None, DEFAULT_NAME) and not (present or overrides):
        return Loaded(Profile(), origin)

    from workspace_agent.config import layers  # the parser and the decoder: not for a plain boot

    stack = [
        *layers.selected(selector or DEFAULT_NAME, builtin),
        *layers.laid_over(present, builtin),
        *(layers.variable(name, environ[name]) for name in sorted(overrides)),
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


_TABLES = ("section", "vars")

# A log is read by people: a file of nothing but mistakes does not get a line for each.
_SHOWN = 50


def _shortened(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"and {rest} more"] if rest > 0 else [])]
