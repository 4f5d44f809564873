"""pyproject.toml, pylock.toml and scripts as lines of a requirements file. Pure.

Each raises ValueError, TypeError, KeyError or AttributeError for what is not such a file.
"""

from __future__ import annotations

import os
import re

from workspace_agent.config.toml import parser
from workspace_agent.replay.lines import normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_SCRIPT = re.compile(r"^# /// script\s*$\n(?P<body>(?:^#(?: .*)?$\n)+?)^# ///\s*$", re.MULTILINE)


def project(text: str, extras: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return what a pyproject.toml asks for, with these *extras* and dependency *groups*."""
    table = parser()(text)
    own = table.get("project", {})
    known = {normal(one): value for one, value in own.get("optional-dependencies", {}).items()}
    found = _strings(own.get("dependencies", []))
    for extra in extras:
        found += _strings(known.get(normal(extra), []))
    for group in groups:
        found += _group(table.get("dependency-groups", {}), group, [])
    return found


def _group(table: dict[str, Any], name: str, above: list[str]) -> list[str]:
    """Return a dependency group (PEP 735), with those that it includes."""
    known = {normal(one): value for one, value in table.items()}
    if normal(name) not in known or normal(name) in above:
        raise ValueError(f"its dependency group {name} is missing or includes itself")
    found: list[str] = []
    for one in known[normal(name)]:
        inner = one.get("include-group") if isinstance(one, dict) else None
        found += _group(table, inner, [*above, normal(name)]) if inner else _strings([one])
    return found


def script(text: str) -> list[str]:
    """Return what a script asks for in its own metadata (PEP 723)."""
    found = _SCRIPT.search(text)
    body = "\n".join(line[2:] for line in found["body"].splitlines()) if found else ""
    return _strings(parser()(body).get("dependencies", []))


def locked(text: str, folder: str) -> list[str]:
    """Return a lock (PEP 751) that lies in *folder* as exact requirements with their hashes."""
    return [_pinned(one, folder) for one in parser()(text).get("packages", [])]


def _pinned(package: dict[str, Any], folder: str) -> str:
    name, marker = package["name"], package.get("marker", "")
    condition = f" ; {marker}" if marker else ""
    vcs, archive, local = (package.get(kind) or {} for kind in ("vcs", "archive", "directory"))
    if vcs:
        return f"{name} @ {vcs['type']}+{vcs['url']}@{vcs['commit-id']}{_below(vcs)}{condition}"
    if archive.get("url"):
        return f"{name} @ {archive['url']}{_below(archive)}{condition}"
    if path := local.get("path") or archive.get("path"):
        return f"{name} @ file://{os.path.join(folder, path)}{condition}"
    made = [package.get("sdist") or {}, *(package.get("wheels") or ())]
    digests = sorted({f"--hash=sha256:{found}" for one in made
                      if (found := (one.get("hashes") or {}).get("sha256"))})  # fmt: skip
    return " ".join([f"{name}=={package['version']}{condition}", *digests])


def _below(origin: dict[str, Any]) -> str:
    folder = origin.get("subdirectory")
    return f"#subdirectory={folder}" if folder else ""


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("its dependencies are not a list of strings")
    return list(value)
