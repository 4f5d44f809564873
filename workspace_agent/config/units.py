"""Durations and sizes as people write them, and back."""

from __future__ import annotations

import re

# Milliseconds and bytes: whole numbers, so that what is rendered parses to the same value.
DURATIONS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
SIZES = {"TiB": 2**40, "TB": 10**12, "GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6}
SIZES |= {"KiB": 2**10, "KB": 10**3, "B": 1}

# Longer than any honest value, and short enough that no number in it leaves float's range.
_LONGEST = 24

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)?([^0-9.]*)")


class RefusedError(ValueError):
    """A value that cannot be used: *what* is wrong with it, and a *hint*."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


def parse_duration(text: str) -> float:
    """Return the seconds in *text*: `340ms`, `25s`, `1.5h`, `1h30m`."""
    total, left = 0, list(DURATIONS)
    rest = text if len(text) <= _LONGEST else ""
    while rest:
        number, unit, rest = _component(rest)
        if not number or unit not in left:
            rest = ""
            break
        total += round(float(number) * DURATIONS[unit])
        left = left[left.index(unit) + 1 :]  # 1h30m, and neither 30m1h nor 1m1m
        if not rest:
            return total / 1000
    raise RefusedError(
        f"{quoted(text)} is not a duration", _suggest(text, DURATIONS, "25s", "5m", "1h30m")
    )


def parse_size(text: str) -> int:
    """Return the bytes in *text*: `64MiB`, `1.5GiB`, `2GB`."""
    if len(text) <= _LONGEST:
        number, unit, rest = _component(text)
        if number and unit in SIZES and not rest:
            return round(float(number) * SIZES[unit])
    raise RefusedError(
        f"{quoted(text)} is not a size", _suggest(text, SIZES, "64MiB", "1GiB", "2GB")
    )


def render_duration(seconds: float) -> str:
    """Return *seconds* as the shortest text that parses to the same milliseconds."""
    left, parts = round(seconds * 1000), []
    for unit, worth in DURATIONS.items():
        count, left = divmod(left, worth)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def render_size(count: int) -> str:
    """Return *count* bytes in the largest unit that divides it."""
    for unit, worth in SIZES.items():
        if count and count % worth == 0:
            return f"{count // worth}{unit}"
    return "0B"


def quoted(text: str) -> str:
    """Return *text* in backticks, short, and without anything that a terminal would act on."""
    short = text if len(text) <= 60 else text[:57] + "..."
    return f"`{short if short.isprintable() else ascii(short)[1:-1]}`"


def _component(text: str) -> tuple[str, str, str]:
    """Split the first number and its unit off *text*; where none is, it comes back empty."""
    found = _PART.match(text)
    assert found is not None  # every part of it may be empty
    return found[1] or "", found[2], text[found.end() :]


def _suggest(text: str, units: dict[str, int], *examples: str) -> str:
    number, unit, rest = _component(text.replace(" ", "").replace(",", "."))
    if number and not rest and len(number) <= _LONGEST:
        if not unit:
            return f"a unit is missing; did you mean `{number}{'s' if 's' in units else 'MiB'}`?"
        for known in units:
            if known.lower().startswith(unit.lower()) or unit.lower().startswith(known.lower()):
                return f"did you mean `{number}{known}`?"
    return "write it like " + ", ".join(f"`{one}`" for one in examples)
