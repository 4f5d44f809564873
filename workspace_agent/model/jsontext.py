"""JSON: written without the `json` package, whose import costs 6 ms of the fast path's 10; read
without belief in what stands there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def dumps(value: object) -> str:
    """Return *value* (None, bool, int, float, str, sequences and string-keyed dicts) as ASCII JSON.

    Undecodable bytes in strings (surrogate escapes) come out as `\\udcXX`, as `json` does.
    Raises TypeError for anything else.
    """
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f'"{"".join(map(_char, value))}"'
    if isinstance(value, int | float):
        return repr(value) if value - value == 0 else "null"  # JSON has no infinity and no NaN
    if isinstance(value, dict):
        return f"{{{', '.join(f'{dumps(str(k))}: {dumps(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(dumps, value))}]"
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _char(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if " " <= char <= "~":
        return char
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def table(data: bytes | str | None) -> dict[str, Any]:
    """Return the object that *data* is; {} for anything else, and for nothing."""
    import json

    try:
        found = json.loads(data or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
