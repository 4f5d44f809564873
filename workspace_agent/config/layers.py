"""The layers of a profile: each checked by itself, then merged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workspace_agent.config import decode, find, locate, schema
from workspace_agent.config.decode import Issue, Key
from workspace_agent.config.load import DEFAULT_NAME, ENV_PREFIX, Overlay, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Whoever can write to the volume must not decide whether the pod starts, what it runs, where
# the volume is, or which file outside it the agent writes to.
PROTECTED = (
    ("volume", "required"),
    ("volume", "candidates"),
    ("home", "path"),
    ("env", "propagate"),
    ("replay", "trust"),
    ("scripts", "enabled"),
    ("scripts", "file"),
    ("scripts", "dir"),
    ("workload", "command"),
    ("report", "termination_log"),
)

# Of one file; a line for each of thousands would cost more than it tells.
_LOCATED = 50

# What a file says of itself is no good for one that extends it.
_OWN = ("name", "description", "extends")

_FLAGS = {"true": True, "yes": True, "on": True, "1": True}
_FLAGS |= {"false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Layer:
    """What one source sets: *written* is checked, and what is left in *table* is merged."""

    kind: str
    name: str
    written: Mapping[str, Any]
    table: Mapping[str, Any]
    text: str = ""
    trusted: bool = True


def selected(selector: str, builtin: str) -> list[Layer]:
    """Return the profile that *selector* names, after what it extends."""
    path = find.path_of(selector, builtin)
    if path is None:
        return []
    *bases, last = find.chain(path, builtin)
    # Not inherited: two profiles with one base are still two, and `{profile}` keeps them apart.
    stem = os.path.basename(path).removesuffix(".toml")
    table = {"name": stem or DEFAULT_NAME, "description": "", **last.table}
    return [*map(_from_file, bases), Layer("file", last.path, last.table, table, last.text)]


def laid_over(overlays: Iterable[Overlay], builtin: str) -> Iterator[Layer]:
    """Yield the layers of *overlays*; only a trusted one has its `extends` followed."""
    for overlay in overlays:
        if overlay.trusted:
            *bases, last = find.chain(overlay.path, builtin)
            yield from map(_from_file, bases)
        else:
            last = find.read(overlay.path, follow=False)
        table = {key: value for key, value in last.table.items() if key != "extends"}
        yield Layer("file", last.path, last.table, table, last.text, overlay.trusted)


def variable(name: str, value: str) -> Layer:
    """Return the layer of one environment variable: `WORKSPACE_AGENT__HOME__MODE`."""
    key = _key_of(name[len(ENV_PREFIX) :])
    kinds = {path: one.metadata["kind"] for path, one in schema.walk()}
    table: Any = _typed(kinds.get(key, "text"), value)
    for part in reversed(key):
        table = {part: table}
    return Layer("env", name, table, table)


def mistakes(layers: Iterable[Layer]) -> list[str]:
    """Return a line for everything that is wrong in *layers*."""
    return [line for layer in layers for line in _mistakes_of(layer)]


def merged(layers: Iterable[Layer], origin: dict[Key, Source]) -> schema.Profile:
    """Return the defaults with *layers* laid over them, and note in *origin* who set what."""
    table = decode.to_json(schema.Profile())
    for layer in layers:
        _merge(table, layer.table, (), layer, origin)
    profile, _ = decode.decode(table)  # no issues: each layer was checked
    return profile


def _from_file(file: find.File) -> Layer:
    table = {key: value for key, value in file.table.items() if key not in _OWN}
    return Layer("file", file.path, file.table, table, file.text)


def _key_of(name: str) -> Key:
    """Return the key that a variable's *name* means; variables of [env] keep their own names."""
    table, _, rest = name.partition("__")
    if table.upper() != "ENV":
        return tuple(name.lower().split("__"))
    inner, _, last = rest.partition("__")
    if last and inner == "DEFAULT":
        return ("env", "default", last)
    if last and inner == "PROPAGATE":
        return ("env", "propagate", last.lower())
    return ("env", rest)


def _typed(kind: str, value: str) -> object:
    """Return *value* as TOML would have it; a string that does not fit stays for the decoder."""
    if kind == "flag":
        return _FLAGS.get(value.lower(), value)
    if kind == "count" and value.isascii() and value.isdecimal():
        return int(value)
    if kind == "texts":
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _mistakes_of(layer: Layer) -> list[str]:
    issues = [*decode.decode(layer.written)[1], *_forbidden(layer)]
    if layer.kind != "file":
        return [f"{layer.kind} {layer.name}: {issue}" for issue in issues]
    lines = locate.lines(layer.text, [issue.key for issue in issues[:_LOCATED]])
    placed = [(lines.get(issue.key), issue) for issue in issues]
    placed.sort(key=lambda pair: pair[0] or len(layer.text))
    return [
        f"{layer.name}:{line}: {issue}" if line else f"{layer.name}: {issue}"
        for line, issue in placed
    ]


def _forbidden(layer: Layer) -> Iterator[Issue]:
    if layer.kind != "file" and "extends" in layer.written:
        yield Issue(("extends",), "only a file can extend a profile")
    if layer.trusted:
        return
    if "extends" in layer.written:
        yield Issue(("extends",), "a file on the volume cannot extend a profile")
    for table, name in PROTECTED:
        inside = layer.written.get(table)
        for written in (name, f"{name}+"):
            if isinstance(inside, dict) and written in inside:
                what = "a file on the volume cannot set this"
                yield Issue((table, written), what, "set it in the image or in the environment")


def _merge(
    base: dict[str, Any], over: Mapping[str, Any], at: Key, layer: Layer, origin: dict[Key, Source]
) -> None:
    """Merge tables deeply; a list replaces, unless its key ends in `+`."""
    for written, value in over.items():
        name = written.removesuffix("+")
        here = (*at, name)
        if isinstance(value, dict):
            _merge(base.setdefault(name, {}), value, here, layer, origin)
            continue
        base[name] = value if name == written else base[name] + value
        origin[here] = Source(layer.kind, layer.name, (*at, written), layer.text)
