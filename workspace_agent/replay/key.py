"""The key of an environment: everything that decides what is in it, and nothing else.

Two boots with one key need the same packages, so that what one of them built serves the other.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from workspace_agent.host import files
from workspace_agent.model.jsontext import dumps
from workspace_agent.replay.redact import anonymous

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from workspace_agent.host.interpreter import Interpreter
    from workspace_agent.replay.lines import Line

FORMAT = 1

# What a project's folder says of its own packaging; the code itself is only linked.
_METADATA = ("pyproject.toml", "setup.py", "setup.cfg")

# What the environment tells an installer of which packages it may choose.
_SETTINGS = (
    *(f"UV_{name}" for name in ("EXCLUDE_NEWER", "PRERELEASE", "TORCH_BACKEND", "INDEX_STRATEGY")),
    *(f"UV_{name}" for name in ("DEFAULT_INDEX", "INDEX_URL", "EXTRA_INDEX_URL", "INDEX")),
    *(f"PIP_{name}" for name in ("PRE", "INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS")),
    *(f"{tool}_{name}" for tool in ("UV", "PIP") for name in ("NO_BINARY", "ONLY_BINARY")),
)

# A wheel that somebody built by hand; larger ones are known by size and time.
_WHEEL = 64 << 20


@dataclass(frozen=True)
class Policy:
    """What the profile says of how packages are chosen and laid; all of it is in the key."""

    mode: str = "overlay"
    on_conflict: str = "shadow"
    protected: tuple[str, ...] = ()

    @property
    def is_in_place(self) -> bool:
        """Whether packages go into the image's own Python."""
        return self.mode == "inplace"


def facts(
    lines: Sequence[Line],
    python: Interpreter,
    base: Mapping[str, str],
    policy: Policy,
    *,
    environ: Mapping[str, str],
    rule: str = "",
    place: str = "",
) -> dict[str, Any]:
    """Return what the key is made of, without a credential.

    *base* are the packages of the image, *rule* names the chosen `[[requirements]]`, *place* is
    where environments lie: their scripts name it.
    """
    return {
        "format": FORMAT,
        "lines": [_said(line) for line in lines],
        "files": _referred(lines),
        "settings": [f"{n}={anonymous(environ[n])}" for n in _SETTINGS if environ.get(n)],
        "policy": {name: _plain(value) for name, value in asdict(policy).items()},
        "rule": rule,
        "abi": python.abi,
        "libc": _libc(),
        "python": [python.executable, *_identity(python.executable)],
        "base": digest([f"{name}=={version}" for name, version in sorted(base.items())]),
        "place": place,
    }


def digest(value: object) -> str:
    """Return 16 hex digits for *value*, plain JSON."""
    import hashlib

    return hashlib.sha256(dumps(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what in *new* is not as in *old*, line by line."""
    said = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, list) and isinstance(after, list):
            said += [f"{name}: - {one}" for one in before if one not in after]
            said += [f"{name}: + {one}" for one in after if one not in before]
            if before != after and sorted(map(str, before)) == sorted(map(str, after)):
                said.append(f"{name}: in another order")
        elif before != after:
            said.append(f"{name}: {before} -> {after}")
    return said


def _said(line: Line) -> str:
    return ("-c " if line.constraint else "") + anonymous(line.text)


def _referred(lines: Sequence[Line]) -> list[str]:
    """Return what stands for the local wheels, archives and projects that *lines* name."""
    found = []
    for line in lines:
        path = line.text.split(" @ ")[-1].removeprefix("-e ").removeprefix("--editable ")
        path = path.removeprefix("file://").partition("[")[0].split(" ")[0]
        if path.startswith("/") and not line.is_option:
            names = [f"{path}/{name}" for name in _METADATA] if os.path.isdir(path) else [path]
            found += [f"{one} {_content(one)}" for one in names if os.path.isfile(one)]
    return found


def _content(path: str) -> str:
    data = files.read(os.path.realpath(path), _WHEEL)
    if data is None:
        return " ".join(_identity(path))
    import hashlib

    return hashlib.sha256(data).hexdigest()[:16]


def _identity(path: str) -> list[str]:
    """Return size and time of a file; a layer keeps both, to the second."""
    try:
        info = os.stat(path)
    except OSError:
        return []
    return [str(info.st_size), str(int(info.st_mtime))]


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return "musl"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
