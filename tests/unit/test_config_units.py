from __future__ import annotations

import pytest

from workspace_agent.config import units

DURATIONS = [
    ("340ms", 0.34),
    ("25s", 25.0),
    ("5m", 300.0),
    ("1h30m", 5400.0),
    ("1d", 86400.0),
    ("1.5h", 5400.0),
    ("0s", 0.0),
    ("1h0m5s", 3605.0),
]

SIZES = [
    ("64MiB", 64 * 2**20),
    ("1GiB", 2**30),
    ("2GB", 2 * 10**9),
    ("1.5GiB", 3 * 2**29),
    ("512B", 512),
    ("0B", 0),
    ("3KB", 3000),
    ("1TiB", 2**40),
]

BAD_DURATIONS = [
    ("30", "a unit is missing; did you mean `30s`?"),
    ("30 s", "did you mean `30s`?"),
    ("5min", "did you mean `5m`?"),
    ("10sec", "did you mean `10s`?"),
    ("1,5h", "did you mean `1.5h`?"),
    ("", "write it like `25s`, `5m`, `1h30m`"),
    ("soon", "write it like `25s`, `5m`, `1h30m`"),
    ("-5s", "write it like `25s`, `5m`, `1h30m`"),
    ("30m1h", "write it like `25s`, `5m`, `1h30m`"),
    ("1m1m", "write it like `25s`, `5m`, `1h30m`"),
    ("1h30", "write it like `25s`, `5m`, `1h30m`"),
    ("1..5s", "write it like `25s`, `5m`, `1h30m`"),
    (".5s", "write it like `25s`, `5m`, `1h30m`"),
    ("1e3s", "write it like `25s`, `5m`, `1h30m`"),
    ("infs", "write it like `25s`, `5m`, `1h30m`"),
    ("²s", "write it like `25s`, `5m`, `1h30m`"),
    ("9" * 400 + "s", "write it like `25s`, `5m`, `1h30m`"),
]

BAD_SIZES = [
    ("64", "a unit is missing; did you mean `64MiB`?"),
    ("64Mi", "did you mean `64MiB`?"),
    ("64 MiB", "did you mean `64MiB`?"),
    ("64mib", "did you mean `64MiB`?"),
    ("2gb", "did you mean `2GB`?"),
    ("64MiBs", "did you mean `64MiB`?"),
    ("1GiB1MiB", "write it like `64MiB`, `1GiB`, `2GB`"),
    ("-1GB", "write it like `64MiB`, `1GiB`, `2GB`"),
    ("much", "write it like `64MiB`, `1GiB`, `2GB`"),
]


@pytest.mark.parametrize("text, seconds", DURATIONS)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert seconds == units.parse_duration(text)


@pytest.mark.parametrize("text, count", SIZES)
def test_a_size_is_bytes(text: str, count: int) -> None:
    assert count == units.parse_size(text)


@pytest.mark.parametrize("text, hint", BAD_DURATIONS)
def test_a_bad_duration_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(units.RefusedError) as refused:
        units.parse_duration(text)

    assert hint == refused.value.hint
    assert refused.value.what.endswith("is not a duration")


@pytest.mark.parametrize("text, hint", BAD_SIZES)
def test_a_bad_size_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(units.RefusedError) as refused:
        units.parse_size(text)

    assert hint == refused.value.hint
    assert refused.value.what.endswith("is not a size")


@pytest.mark.parametrize("text", [text for text, _ in DURATIONS])
def test_a_rendered_duration_parses_to_the_same_seconds(text: str) -> None:
    seconds = units.parse_duration(text)

    assert seconds == units.parse_duration(units.render_duration(seconds))


@pytest.mark.parametrize("text", [text for text, _ in SIZES])
def test_a_rendered_size_parses_to_the_same_bytes(text: str) -> None:
    count = units.parse_size(text)

    assert count == units.parse_size(units.render_size(count))


def test_values_are_rendered_in_the_units_that_people_write() -> None:
    assert ("340ms", "1h30m", "5m", "64MiB", "2GB", "1KB") == (
        units.render_duration(0.34),
        units.render_duration(5400),
        units.render_duration(300),
        units.render_size(64 * 2**20),
        units.render_size(2 * 10**9),
        units.render_size(1000),
    )


def test_a_quoted_text_cannot_move_a_cursor_or_fill_a_log() -> None:
    assert r"`\x1b[2J`" == units.quoted("\x1b[2J")
    assert 62 == len(units.quoted("x" * 1000))
