"""Profiles for people: one as lines with the origin of each value, and the mistakes of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workspace_agent.config.load import Loaded, load, to_json
from workspace_agent.config.sources import Overlay
from workspace_agent.model import layout
from workspace_agent.model.problem import AgentError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workspace_agent.app.session import Session


def loaded(session: Session, name: str | None) -> Loaded:
    """Return the profile *name*, or the one that a boot here would use."""
    image = Overlay(layout.IMAGE_PROFILE, trusted=True)
    selector = name or session.environ.get("WORKSPACE_AGENT_PROFILE") or None
    builtin = f"{session.root}/profiles"
    return load(selector, environ=session.environ, builtin=builtin, overlays=(image,))


def mistakes(session: Session, path: str) -> Problem | None:
    """Return what is wrong with the file at *path*, or None."""
    try:
        load(path, environ={}, builtin=f"{session.root}/profiles")
    except AgentError as error:
        return error.problem
    return None


def as_lines(found: Loaded) -> list[str]:
    """Return `key = value   # origin`, one line a key."""
    rows = [(".".join(path), _toml(value), path) for path, value in _leaves(to_json(found.profile))]
    return [
        f"{f'{key} = {value}':<64} # {found.origin.get(path, 'default')}"
        for key, value, path in rows
    ]


def as_data(found: Loaded) -> dict[str, Any]:
    """Return the values, and the origin of each by dotted key."""
    origin = {".".join(path): str(source) for path, source in found.origin.items()}
    return {"profile": to_json(found.profile), "origin": origin}


def _leaves(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*at, name))
    elif not isinstance(value, dict):
        yield at, value


def _toml(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
