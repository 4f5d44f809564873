"""The profile of a boot; and for people, as lines with the origin of each value."""

from __future__ import annotations

from workspace_agent.config.load import Overlay, load
from workspace_agent.model import layout
from workspace_agent.model.problem import AgentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from workspace_agent.app.session import Session
    from workspace_agent.config.load import Loaded
    from workspace_agent.model.problem import Problem


def chosen(environ: Mapping[str, str], root: str, *volume: Overlay, name: str = "") -> Loaded:
    """Return the profile *name*, or the one that *environ* chooses, with the image's laid over it.

    The install at *root* has those that are shipped.
    """
    selector = name or environ.get("WORKSPACE_AGENT_PROFILE") or None
    overlays = (Overlay(layout.IMAGE_PROFILE, trusted=True), *volume)
    return load(selector, environ=environ, builtin=f"{root}/profiles", overlays=overlays)


def mistakes(session: Session, path: str) -> Problem | None:
    """Return what is wrong with the file at *path*, or None."""
    try:
        load(path, environ={}, builtin=f"{session.root}/profiles")
    except AgentError as error:
        return error.problem
    return None


def as_lines(found: Loaded) -> list[str]:
    """Return `key = value   # origin`, one line a key."""
    import json

    from workspace_agent.config.decode import to_json  # the decoder: not for a plain boot

    rows = [
        (f"{'.'.join(path)} = {json.dumps(value, ensure_ascii=False)}", found.origin.get(path))
        for path, value in _leaves(to_json(found.profile))
    ]
    return [f"{row:<64} # {origin or 'default'}" for row, origin in rows]


def as_data(found: Loaded) -> dict[str, Any]:
    """Return the values, and the origin of each by dotted key."""
    from workspace_agent.config.decode import to_json

    origin = {".".join(path): str(source) for path, source in found.origin.items()}
    return {"profile": to_json(found.profile), "origin": origin}


def _leaves(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*at, name))
    elif not isinstance(value, dict):
        yield at, value
