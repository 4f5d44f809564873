"""Where a value came from."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Overlay:
    """A file laid over the selected profile; a volume's is not *trusted* with everything."""

    path: str
    trusted: bool


@dataclass(frozen=True)
class Source:
    """The place that set a value: *kind* is default, file, env or flag; *name* says which one."""

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


DEFAULT = Source("default")
