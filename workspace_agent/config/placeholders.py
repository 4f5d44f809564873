"""`{volume}` and its kin: found in a text, and filled in.

Only a word in braces is a placeholder, so that JSON in a variable stays as it is; `{{word}}` is
the word in braces, literally.
"""

from __future__ import annotations

import re  # `dataclasses` loads it anyway

NAMES = ("volume", "home", "profile", "abi")

_WORD = re.compile(r"\{\{[A-Za-z_]+\}\}|\{([A-Za-z_]+)\}")


def names_in(text: str) -> list[str]:
    """Return the names of the placeholders in *text*, in order."""
    return [found[1] for found in _WORD.finditer(text) if found[1]]


def expand(text: str, **placeholders: str) -> str:
    """Return *text* with every placeholder filled in; a missing one is the caller's KeyError."""
    return _WORD.sub(lambda found: placeholders[found[1]] if found[1] else found[0][1:-1], text)
