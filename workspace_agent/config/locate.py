"""Where in a text a key stands; asked only when something has to be said about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workspace_agent.config import toml
from workspace_agent.model.problem import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Key = tuple[str, ...]

# Text handed to the parser for one answer: a few milliseconds. Only a value of hundreds of lines
# comes near it, and then the keys behind it go without a line.
_BUDGET = 1024 * 1024


def lines(text: str, keys: Iterable[Key]) -> dict[Key, int]:
    """Return the line of each of *keys* in *text*, which parses; what is not found is left out.

    A part of a key that is a number counts the tables of an array from 0.
    """
    wanted, found = set(keys), {}
    for line, path in _paths(text):
        for key in [key for key in wanted if path[: len(key)] == key]:
            found[key] = line
            wanted.remove(key)
        if not wanted:
            break
    return found


def _paths(text: str) -> Iterator[tuple[int, Key]]:
    """Yield every path that *text* sets, with the line on which its statement starts.

    A statement is the shortest run of lines that parses. TOML's statements do not depend on
    each other for that, so each is parsed alone, and the work grows with the text.
    """
    header: Key = ()
    arrays: dict[Key, int] = {}
    for line, statement in _statements(text):
        tables = toml.parse(statement)
        if statement.lstrip().startswith("["):
            header = _resolve(tables, arrays)
            yield line, header
        else:
            yield from ((line, (*header, *path)) for path in _flat(tables))


def _statements(text: str) -> Iterator[tuple[int, str]]:
    budget, start, pending = _BUDGET, 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        start = start if pending else number
        pending += line + "\n"
        budget -= len(pending)
        if budget < 0:
            return
        if _parses(pending):
            yield start, pending
            pending = ""


def _parses(text: str) -> bool:
    try:
        toml.parse(text)
    except AgentError:
        return False
    return True


def _resolve(header: dict[str, Any], arrays: dict[Key, int]) -> Key:
    """Return the path of a parsed header; *arrays* counts the tables of each array so far."""
    path: Key = ()
    inside: Any = header
    while isinstance(inside, dict) and inside:
        ((part, inside),) = inside.items()
        path = (*path, part)
        if isinstance(inside, list):
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path = (*path, str(arrays[path]))
    return path


def _flat(value: Any, at: Key = ()) -> Iterator[Key]:
    if at:
        yield at
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for part, inner in pairs:
            yield from _flat(inner, (*at, str(part)))
