"""What has to be added to the image's packages, and where that is at odds with them. Pure."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from workspace_agent.model.jsontext import table
from workspace_agent.model.words import size
from workspace_agent.replay.lines import normal
from workspace_agent.replay.redact import anonymous

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workspace_agent.replay.key import Policy
    from workspace_agent.replay.lines import Line


@dataclass(frozen=True)
class Conflict:
    """A package that the image has in another version than is asked for; *line* asks for it.

    Without a *line* it is another package that needs the *wanted* version. *brings* are protected
    packages that only come with it, as CUDA's do with torch.
    """

    name: str
    base: str
    wanted: str
    line: Line | None
    is_protected: bool = False
    brings: tuple[str, ...] = ()

    def sentence(self, added: int = 0) -> str:
        """Say it; *added* are the bytes that the other version takes, where they are known."""
        asks = (
            f"{self.line.place} wants {anonymous(self.line.text.partition(' --hash')[0])}"
            if self.line
            else f"what is asked for needs {self.name} {self.wanted}"
        )
        cost = f"; this adds {size(added)} per restore" if added else ""
        return f"{asks}; the image has {self.base}{cost}"


@dataclass(frozen=True)
class Plan:
    """The packages to add: versions by name, "" where only a line of the user's tells.

    *kept* are conflicts in which the image's version stays, against what was asked for.
    """

    additions: Mapping[str, str]
    conflicts: tuple[Conflict, ...] = ()
    kept: tuple[Conflict, ...] = ()


def from_uv(said: bytes | None) -> dict[str, str] | None:
    """Return what a dry run of uv would install; None for what is not one."""
    with suppress(*_NOT_ONE):
        return {
            normal(one["name"]): one.get("version") or ""
            for one in table(said)["changes"]
            if one["action"] == "installed"
        }
    return None


def from_pip(said: bytes | None) -> dict[str, str] | None:
    """Return what pip reports that it would install; None for what is no report."""
    with suppress(*_NOT_ONE):
        found = ((one, one["metadata"]) for one in table(said)["install"])
        return {
            normal(metadata["name"]): "" if one.get("is_direct") else metadata["version"]
            for one, metadata in found
        }
    return None


_NOT_ONE = (KeyError, TypeError, AttributeError)


def decide(
    wanted: Mapping[str, str], base: Mapping[str, str], lines: Sequence[Line], policy: Policy
) -> Plan:
    """Return what to do of the *wanted* packages beside those of the *base*."""
    asked = {line.name: line for line in reversed(lines) if line.name and not line.is_option}
    conflicts = tuple(
        Conflict(name, base[name], version, asked.get(name), _is_one_of(name, policy.protected))
        for name, version in sorted(wanted.items())
        if name in base and base[name] != version
    )
    conflicts = _with_company(conflicts, wanted, asked, policy)
    if policy.on_conflict != "keep-base":
        return Plan(dict(wanted), conflicts)
    names = {one.name for one in conflicts}
    rest = {name: version for name, version in wanted.items() if name not in names}
    return Plan(rest, (), conflicts)


def _with_company(
    conflicts: tuple[Conflict, ...],
    wanted: Mapping[str, str],
    asked: Mapping[str, Line],
    policy: Policy,
) -> tuple[Conflict, ...]:
    """Count the protected packages that nobody asks for to the first that somebody pinned."""
    known = {one.name for one in conflicts} | set(asked)
    rest = [n for n in sorted(wanted) if n not in known and _is_one_of(n, policy.protected)]
    first = next((one for one in conflicts if one.is_protected and one.line), None)
    return tuple(replace(one, brings=tuple(rest)) if one is first else one for one in conflicts)


def _is_one_of(name: str, globs: Sequence[str]) -> bool:
    from workspace_agent.model.recipe import matches

    return any(matches(name, normal(glob.replace("*", "0star0")).replace("0star0", "*"))
               for glob in globs)  # fmt: skip


def as_requirements(plan: Plan, lines: Sequence[Line]) -> str:
    """Return the file that installs the additions, and nothing that they need beside.

    A line of the user's that alone says what is meant (a URL, a path, a hash) stands as it is.
    """
    asked = [line for line in lines if not line.constraint]
    options = [line.text for line in asked if line.is_option]
    own = [
        line.text
        for line in asked
        if line.is_exact and not line.is_option and (not line.name or line.name in plan.additions)
    ]
    named = {line.name for line in asked if line.is_exact}
    pins = [
        f"{name}=={version}"
        for name, version in plan.additions.items()
        if version and name not in named
    ]
    return "".join(f"{one}\n" for one in (*options, *own, *pins))
