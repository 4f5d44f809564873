"""No credential in a log, an event, a manifest or a lock. Pure."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

STARS = "***"

# Shorter values are words that stand in any output: redacting them would hide where.
_LEAST = 6

# To the last "@": people write passwords with one as they are.
_USERINFO = re.compile(r"(?<=://)[^/?#\s'\"]+@")
_QUERY = re.compile(r"(?i)((?:token|password|passwd|secret|api_?key|sig|signature)=)[^&\s'\"]+")


def redacted(text: str, secrets: Collection[str] = ()) -> str:
    """Return *text* without the user and password of any URL, and without any of *secrets*."""
    for secret in sorted(secrets, key=len, reverse=True):  # one may begin as another does
        text = text.replace(secret, STARS)
    return _QUERY.sub(rf"\1{STARS}", _USERINFO.sub(f"{STARS}@", text))


def anonymous(text: str) -> str:
    """Return *text* with its URLs as they are without credentials; variables stay names."""
    return _QUERY.sub(r"\1", _USERINFO.sub("", text))


def values(environ: Mapping[str, str], netrc: str, texts: Sequence[str]) -> frozenset[str]:
    """Return every value that may be a secret: of variables, of a *netrc*, of URLs in *texts*."""
    from urllib.parse import unquote  # pip says it as it is sent

    found = set(re.findall(r"\b(?:login|password|account)\s+(\S+)", netrc))
    named = re.compile(r"(?i)token|key|secret|password|passwd|credential")
    found |= {value for name, value in environ.items() if named.search(name)}
    for text in (*texts, *environ.values()):
        for match in _USERINFO.finditer(text):
            user, _, password = match[0][:-1].partition(":")
            parts = (user, password, unquote(user), unquote(password))
            found |= {part for part in parts if "$" not in part}
    return frozenset(one for one in found if len(one) >= _LEAST)
