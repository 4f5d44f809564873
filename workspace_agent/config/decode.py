"""Plain values to a Profile and back, with every mistake in one run."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from workspace_agent.config import forms, units
from workspace_agent.config.schema import Profile
from workspace_agent.config.units import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Key = tuple[str, ...]

# Kind -> what TOML has for it, and what people call that.
_KINDS: dict[str, tuple[type, str]] = {
    "text": (str, "a string"),
    "texts": (list, "a list of strings"),
    "flag": (bool, "true or false"),
    "count": (int, "a whole number"),
    "duration": (str, "a duration such as `30s`"),
    "size": (str, "a size such as `64MiB`"),
    "vars": (dict, "a table"),
    "section": (dict, "a table"),
    "tables": (list, "a list of tables"),
}

# A guess costs a third of a millisecond, and a hostile file holds thousands of keys.
_GUESSES = 50


@dataclass(frozen=True)
class Issue:
    """One mistake: the *key* as it was written, *what* is wrong, and a *hint*."""

    key: Key
    what: str
    hint: str = ""

    def __str__(self) -> str:
        name = ".".join(units.quoted(part)[1:-1] for part in self.key)
        return f"{name}: {self.what}" + (f"; {self.hint}" if self.hint else "")


def decode(table: Mapping[str, Any]) -> tuple[Profile, tuple[Issue, ...]]:
    """Return the profile that *table* says, and everything that is wrong with it.

    A key with a mistake keeps its default, so that there is a profile in any case.
    """
    reader = _Reader()
    profile: Profile = reader.section(Profile, table, ())
    return profile, tuple(reader.issues)


def to_json(profile: Profile) -> dict[str, Any]:
    """Return *profile* as plain values, which decode to it again."""
    return _plain(profile)


class _Reader:
    """Walks values along the dataclasses and keeps what is wrong on the way."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def section(self, cls: Any, table: Mapping[str, Any], at: Key) -> Any:
        known = {one.name: one.metadata for one in fields(cls)}
        rest = next((name for name, rules in known.items() if rules.get("rest")), "")
        values: dict[str, Any] = {}
        for written, value in table.items():
            name = written.removesuffix("+")
            with self._noting((*at, written)):
                if name in known and name != rest:
                    _check_plus(written, known[name])
                    values[name] = self._value(known[name], value, (*at, written))
                elif rest:
                    variables = self._variables(known[rest], {written: value}, at)
                    values.setdefault(rest, {}).update(variables)
                else:
                    raise RefusedError("unknown key", self._guess(name, tuple(known)))
        return cls(**values)

    def _value(self, meta: Mapping[str, Any], value: Any, at: Key) -> Any:
        kind = meta["kind"]
        native: Any = _KINDS[kind][0]
        if not isinstance(value, native) or (kind == "count" and isinstance(value, bool)):
            raise _wrong_type(kind, value)
        if kind == "section":
            return self.section(meta["section"], value, at)
        if kind == "tables":
            return tuple(self._tables(meta, value, at))
        if kind == "vars":
            return self._variables(meta, value, at)
        if kind == "texts":
            return tuple(self._texts(meta, value, at))
        return _scalar(kind, value, meta)

    def _texts(self, meta: Mapping[str, Any], values: list[Any], at: Key) -> list[str]:
        """Return the good items; each bad one is an issue of its own."""
        good = []
        for value in values:
            with self._noting(at):
                if not isinstance(value, str):
                    raise _wrong_type("texts", [value])
                good.append(_scalar("text", value, meta))
        return good

    def _tables(self, meta: Mapping[str, Any], values: Any, at: Key) -> list[Any]:
        if not all(isinstance(value, dict) for value in values):
            raise RefusedError("expected a list of tables", f"write `[[{at[-1]}]]` above each")
        return [
            self.section(meta["section"], value, (*at, str(number)))
            for number, value in enumerate(values)
        ]

    def _variables(
        self, meta: Mapping[str, Any], table: Mapping[str, Any], at: Key
    ) -> dict[str, str]:
        good = {}
        for name, value in table.items():
            with self._noting((*at, name)):
                forms.check_variable(name)
                if not isinstance(value, str):
                    raise _wrong_type("text", value)
                good[name] = _scalar("text", value, meta)
        return good

    def _guess(self, name: str, known: tuple[str, ...]) -> str:
        return forms.guess(name, known) if len(self.issues) < _GUESSES else ""

    @contextmanager
    def _noting(self, at: Key) -> Iterator[None]:
        try:
            yield
        except RefusedError as refused:
            self.issues.append(Issue(at, refused.what, refused.hint))


def _check_plus(written: str, rules: Mapping[str, Any]) -> None:
    if written.endswith("+") and rules["kind"] not in ("texts", "tables"):
        raise RefusedError("only a list can be appended to", "leave out the `+`")


def _scalar(kind: str, value: Any, rules: Mapping[str, Any]) -> Any:
    if kind == "text":
        forms.check_text(value, rules)
        return value
    if kind == "duration":
        value = units.parse_duration(value)
    elif kind == "size":
        value = units.parse_size(value)
    elif kind == "count" and (choices := rules.get("choices")) and value not in choices:
        raise RefusedError(f"{value} is not one of {', '.join(map(str, choices))}")
    if (least := rules.get("least")) is not None and value < least:
        raise RefusedError(f"less than {render(kind, least)}")
    if (most := rules.get("most")) is not None and value > most:
        raise RefusedError(f"more than {render(kind, most)}")
    return value


def _wrong_type(kind: str, value: Any) -> RefusedError:
    hint = ""
    if kind in ("duration", "size") and type(value) in (int, float):
        hint = f'did you mean `"{value}{"s" if kind == "duration" else "MiB"}"`?'
    elif kind == "texts" and isinstance(value, str):
        hint = "put it in brackets"
    elif kind == "text" and type(value) in (int, float, bool):
        hint = "put it in quotes"
    return RefusedError(f"expected {_KINDS[kind][1]}, got {_word(value)}", hint)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, list):
        strange = next((one for one in value if not isinstance(one, str)), None)
        return "a list" if strange is None else f"a list with {_word(strange)} in it"
    if isinstance(value, (str, dict)):
        return "a string" if isinstance(value, str) else "a table"
    return "a date or time"


def _plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for one in fields(value):
        inner, kind = getattr(value, one.name), one.metadata["kind"]
        if one.metadata.get("rest"):
            plain.update(inner)
        else:
            plain[one.name] = _plain(inner) if kind == "section" else render(kind, inner)
    return plain


def render(kind: str, value: Any) -> Any:
    """Return the *value* of one key as TOML has it."""
    if kind == "duration":
        return units.render_duration(value)
    if kind == "size":
        return units.render_size(value)
    if kind == "tables":
        return [_plain(one) for one in value]
    if kind in ("texts", "vars"):
        return list(value) if kind == "texts" else dict(value)
    return value
