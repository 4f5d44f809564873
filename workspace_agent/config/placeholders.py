"""`{volume}` and its kin: found in a text, and filled in."""

from __future__ import annotations

NAMES = ("volume", "home", "profile", "abi")

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")


def split(text: str) -> list[tuple[str, str]]:
    """Cut *text* into (literal, name) pairs; the name follows its literal and may be empty.

    Only a word in braces is a placeholder, so that JSON in a variable stays as it is; `{{word}}`
    is the word in braces, literally.
    """
    pieces = []
    literal, at = "", 0
    while (brace := text.find("{", at)) >= 0:
        literal += text[at:brace]
        doubled = text.startswith("{{", brace)
        start = brace + 1 + doubled
        end = _word_end(text, start)
        if end == start or not text.startswith("}}" if doubled else "}", end):
            literal, at = literal + "{", brace + 1
            continue
        at = end + 1 + doubled
        if doubled:
            literal += text[brace + 1 : end + 1]
        else:
            pieces.append((literal, text[start:end]))
            literal = ""
    return [*pieces, (literal + text[at:], "")]


def names_in(text: str) -> list[str]:
    """Return the names of the placeholders in *text*, in order."""
    return [name for _, name in split(text) if name]


def expand(text: str, **placeholders: str) -> str:
    """Return *text* with every placeholder filled in; a missing one is the caller's KeyError."""
    return "".join(lit + (placeholders[name] if name else "") for lit, name in split(text))


def _word_end(text: str, start: int) -> int:
    end = start
    while end < len(text) and text[end] in _LETTERS:
        end += 1
    return end
