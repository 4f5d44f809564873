"""The page of the profile is rendered from the schema.

`GOLDEN=write pytest tests/unit/test_profile_page.py` writes `docs/reference/profile.md` anew.
"""

from __future__ import annotations

import json
import os
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Any

from workspace_agent.config import decode, placeholders, schema
from workspace_agent.config.layers import PROTECTED
from workspace_agent.config.schema import Profile

PAGE = Path(__file__).parents[2] / "docs/reference/profile.md"

_HEAD = """\
# The profile

<!-- Written by `GOLDEN=write pytest tests/unit/test_profile_page.py`; change the schema. -->

A profile is a TOML file that says what an image wants to have done at boot. Every key may be left
out. A key that is not on this page is a mistake, and all mistakes are reported at once, with file
and line.

## Layers

Later ones win:

1. the defaults on this page, which are the profile `persistent-workspace`;
2. the selected profile: a shipped name, or a path (it contains `/` or ends with `.toml`), after
   what it `extends`;
3. the image's `/etc/workspace-agent/profile.toml`, then the volume's file;
4. the environment: `WORKSPACE_AGENT__HOME__MODE=copy` sets `home.mode`. Lists are separated by
   commas; variables are `WORKSPACE_AGENT__ENV__NAME=value` and
   `WORKSPACE_AGENT__ENV__DEFAULT__NAME=value`. A flag such as `run --grace` is such a variable.

Tables are merged key by key. A list replaces the one before it, unless its key ends in `+`:
`"prepend+" = ["/opt/bin"]` appends.

The volume's file can be written by whoever can write to the volume, so it cannot use `extends`,
and cannot set
{protected}.

## Values

| kind | written as |
|---|---|
| duration | `340ms`, `25s`, `5m`, `1h30m`; a unit is always needed |
| size | `64MiB`, `1GiB`, `2GB`; a unit is always needed |
| glob | `*`, `?`, `[a-z]` |
| placeholders | {placeholders}, where a key takes them; `{{{{volume}}}}` is literal |

A file has at most 64 KiB, a key at most 32 dotted parts, and profiles extend each other at most
8 times.
"""

_KINDS = {
    "text": "string",
    "texts": "list of strings",
    "flag": "boolean",
    "count": "number",
    "vars": "variables",
}


def page() -> str:
    """Return the whole page."""
    protected = _listed([f"`{table}.{name}`" for table, name in PROTECTED], "or")
    head = _HEAD.format(
        protected=protected,
        placeholders=_listed([f"`{{{name}}}`" for name in placeholders.NAMES], "and"),
    )
    return head + "".join(_table(Profile, ""))


def _table(cls: Any, path: str, many: bool = False) -> list[str]:
    """Return the section of one table of keys, and those of the tables in it."""
    keys = [one for one in fields(cls) if "section" not in one.metadata]
    inner = [one for one in fields(cls) if "section" in one.metadata]
    title = f"[[{path}]]" if many else f"[{path}]"
    lines = [f"\n## {title if path else 'Top level'}\n\n{cls.__doc__}\n"]
    default = decode._plain(cls())
    lines += [_key(one, path, default) for one in keys]
    for one in inner:
        below = f"{path}.{one.name}".lstrip(".")
        lines += _table(one.metadata["section"], below, one.metadata["kind"] == "tables")
    return lines


def _key(one: Any, path: str, default: dict[str, Any]) -> str:
    rules = one.metadata
    name = "NAME" if rules.get("rest") else one.name
    if rules["kind"] == "vars":
        form = 'string, for any `NAME = "value"`'
        name = "NAME" if rules.get("rest") else f"{one.name}.NAME"
    else:
        kind = rules["kind"]
        form = f"{_KINDS.get(kind, kind)}, default `{json.dumps(default[one.name])}`"
    notes = [form]
    if choices := rules.get("choices"):
        notes.append(("each one of " if rules["kind"] == "texts" else "one of ") + _codes(choices))
    if "least" in rules or "most" in rules:
        notes.append(_bounds(rules))
    if takes := rules.get("takes"):
        notes.append("takes " + _codes(f"{{{name}}}" for name in takes))
    title = f"{path}.{name}".lstrip(".")
    return f"\n### `{title}`\n\n{'; '.join(notes)}\n\n{_wrapped(rules['doc'])}\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _bounds(rules: Any) -> str:
    words = (("least", "at least"), ("most", "at most"))
    return ", ".join(
        f"{word} `{decode.render(rules['kind'], rules[rule])}`"
        for rule, word in words
        if rule in rules
    )


def _codes(words: Any) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _listed(words: list[str], last: str) -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def test_the_reference_page_is_rendered_from_the_schema() -> None:
    if os.environ.get("GOLDEN") == "write":
        PAGE.write_text(page())

    assert page() == PAGE.read_text()


def test_the_reference_page_has_every_key() -> None:
    kinds = {path: one.metadata["kind"] for path, one in schema.walk()}
    keys = [
        ".".join(path) for path, kind in kinds.items() if kind not in ("section", "tables", "vars")
    ]

    assert 26 <= len(keys)
    assert [] == [key for key in keys if f"### `{key}`" not in page()]
