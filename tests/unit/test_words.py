"""Numbers as people read them."""

from __future__ import annotations

import pytest

from workspace_agent.model import words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024, "10 KiB"),
        (412 * 1024**3, "412 GiB"),
        (3 * 1024**4, "3.0 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert text == words.size(count)


@pytest.mark.parametrize(
    ("secs", "text"),
    [
        (0, "0 ms"),
        (0.0042, "4 ms"),
        (0.999, "999 ms"),
        (1, "1.0 s"),
        (8.24, "8.2 s"),
        (60, "1 min"),
        (300, "5 min"),
        (9600, "2 h 40 min"),
        (3600, "1 h 0 min"),
    ],
)
def test_durations(secs: float, text: str) -> None:
    assert text == words.duration(secs)


@pytest.mark.parametrize(
    ("count", "one", "many", "text"),
    [
        (1, "file", "", "1 file"),
        (2, "file", "", "2 files"),
        (0, "file", "", "0 files"),
        (3, "entry", "entries", "3 entries"),
    ],
)
def test_counts(count: int, one: str, many: str, text: str) -> None:
    assert text == words.counted(count, one, many)
