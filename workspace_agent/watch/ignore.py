"""Which files their owner does not want to hear of: lines as in a .gitignore."""

from __future__ import annotations

import re
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def ignoring(lines: Iterable[str]) -> Callable[[str], bool] | None:
    """Return what says of an absolute path whether *lines* ignore it; None where there are none.

    The last line that fits wins; `!` takes back; a `/` at the start or inside binds to the root of
    the file system; a `/` at the end means folders; `**` is any number of folders.
    """
    rules = [rule for line in islice(lines, _LINES) if (rule := _rule(line.rstrip("\n")))]
    if not rules:
        return None

    def is_ignored(path: str) -> bool:
        said = False
        for wanted, fits in rules:
            if fits.match(path):
                said = wanted
        return said

    return is_ignored


# Every file is held against every line; more, and longer ones, are no list of a person's.
_LINES, _LONGEST = 1000, 1000

# Each `*` of a name, and each `**`, multiplies the ways to read a path. A line with more is left
# out: it could hold the watcher up for ever.
_STARS, _FOLDERS = 3, 2

# Any number of folders.
_ANY = {"/**/": "/(?:.*/)?", "**/": "(?:.*/)?", "/**": "/.*"}


def _rule(line: str) -> tuple[bool, re.Pattern[str]] | None:
    text = line if line.endswith("\\ ") else line.rstrip()
    wanted = not text.startswith("!")
    text = text if wanted else text[1:]
    if not text or text.startswith("#") or len(text) > _LONGEST:
        return None
    names = text.strip("/").split("/")
    if names.count("**") > _FOLDERS or max(one.count("*") for one in names) > _STARS:
        return None
    folder = text.endswith("/")
    bound = "/" in text.rstrip("/")
    body = "".join(
        map(_part, re.findall(r"/\*\*/|\*\*/|/\*\*|\*|\?|\[[^]/]+\]|\\.|(?s:.)", text.strip("/")))
    )
    start = "/" if bound else "/(?:.*/)?"
    end = "/.*" if folder else "(?:/.*)?"
    try:
        return wanted, re.compile(f"{start}{body}{end}\\Z", re.DOTALL)
    except re.error:
        return None


def _part(one: str) -> str:
    if one in _ANY:
        return _ANY[one]
    if one in ("*", "?"):
        return f"[^/]{one if one == '*' else ''}"
    if one.startswith("["):
        one = "[" + re.sub(r"([\[&~|])", r"\\\1", one[1:])  # no sets of sets
        return f"[^{one[2:]}" if one.startswith("[!") else one
    return re.escape(one[1:] if one.startswith("\\") and len(one) == 2 else one)
