"""What a text of a profile has to look like, form by form."""

from __future__ import annotations

import re  # `placeholders` loads it anyway
from typing import TYPE_CHECKING, Any

from workspace_agent.config import placeholders
from workspace_agent.config.units import RefusedError, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_DIGITS = frozenset("0123456789")

# One of those that a comparison of versions has, parted by commas: `>=570`, `8.6`, `>=8,<9`.
COMPARISON = re.compile(r"(>=|<=|==|!=|>|<|)\s*(\d{1,6}(?:\.\d{1,6}){0,3})", re.ASCII)


def check_text(text: str, rules: Mapping[str, Any]) -> None:
    """Refuse a *text* that breaks one of its key's *rules*."""
    if "\0" in text:
        raise RefusedError("a NUL character cannot be part of it")
    if (choices := rules.get("choices")) and text not in choices:
        what = f"{quoted(text)} is not one of {', '.join(choices)}"
        raise RefusedError(what, guess(text, choices))
    if "takes" in rules:
        _check_placeholders(text, rules["takes"])
    if form := rules.get("form"):
        _FORMS[form](text)


def check_variable(name: str) -> None:
    """Refuse a *name* that a shell could not assign to."""
    if not name or name[0] in _DIGITS or not set(name) <= _LETTERS | _DIGITS:
        raise RefusedError(
            "not a name for a variable", "use letters, digits and `_`, and no digit first"
        )


def guess(word: str, known: Sequence[str]) -> str:
    """Return `did you mean ...?` for the nearest of *known*, or nothing."""
    from difflib import get_close_matches  # loads re; only for a mistake

    lowered = {one.lower(): one for one in known}
    near = get_close_matches(word.lower()[:60], lowered, n=1)
    return f"did you mean `{lowered[near[0]]}`?" if near else ""


def _check_placeholders(text: str, takes: Sequence[str]) -> None:
    known = ", ".join(f"{{{one}}}" for one in takes)
    for name in placeholders.names_in(text):
        if name not in takes:
            # The word is shown only where it is nearly one of ours: the text may hold a secret.
            near = guess(name, takes)
            what = f"`{{{name}}}`" if near else "a word in braces"
            literal = "write `{{word}}` to have {word} itself"
            raise RefusedError(f"{what} is not known here", f"there is {known}; {literal}")


def _glob(text: str) -> None:
    if not text:
        raise RefusedError("an empty glob matches nothing")
    at = 0
    while (at := text.find("[", at)) >= 0:
        # The first character of a set, after `!`, may be `]` itself.
        first = at + 1 + (text[at + 1 : at + 2] == "!")
        end = text.find("]", first + 1)
        if end < 0:
            raise RefusedError(f"the glob {quoted(text)} has a `[` without its `]`")
        at = end + 1


def _relative(text: str) -> None:
    _glob(text)
    if text.startswith(("/", "~")) or ".." in text.split("/"):
        raise RefusedError(f"{quoted(text)} leaves the home", "write it relative to the home")


def _absolute(text: str) -> None:
    _glob(text)
    if not text.startswith("/"):
        raise RefusedError(
            f"{quoted(text)} is not an absolute path", f"did you mean {quoted('/' + text)}?"
        )


def _absolute_or_empty(text: str) -> None:
    if text:
        _absolute(text)


def _place(text: str) -> None:
    if not text.startswith(("/", "{volume}", "{home}")):
        hint = f"did you mean {quoted('{volume}/' + text)}?"
        raise RefusedError(f"{quoted(text)} is not an absolute path", hint)


def _filename(text: str) -> None:
    if not text or "/" in text or text in (".", ".."):
        raise RefusedError(f"{quoted(text)} is not a file name", "give a name without `/`")


def _filename_or_empty(text: str) -> None:
    if text:
        _filename(text)


def _comparison(text: str) -> None:
    if not all(COMPARISON.fullmatch(part.strip()) for part in text.split(",")):
        hint = "write it like `>=570`, `8.6` or `>=8,<9`"
        raise RefusedError(f"{quoted(text)} compares with no version", hint)


def loopback(url: str) -> str:
    """Return the address of a server on this machine; refuses any other. No name is looked up."""
    import ipaddress
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
        if parts.scheme == "http" and ipaddress.ip_address(host).is_loopback and parts.port != 0:
            return host
    except ValueError:
        pass
    hint = "write it like `http://127.0.0.1:8000`"
    raise RefusedError(f"{quoted(url)} is not http:// on a loopback address", hint)


def _loopback_or_empty(text: str) -> None:
    if text:
        loopback(text)


_FORMS = {
    "loopback-or-empty": _loopback_or_empty,
    "comparison": _comparison,
    "glob": _glob,
    "relative": _relative,
    "absolute": _absolute,
    "absolute-or-empty": _absolute_or_empty,
    "place": _place,
    "filename": _filename,
    "filename-or-empty": _filename_or_empty,
}
