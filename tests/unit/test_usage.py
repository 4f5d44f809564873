"""How full the disk is, and when it will be."""

from __future__ import annotations

import pytest

from workspace_agent.watch import usage
from workspace_agent.watch.usage import Forecast, Limit

GIB = 1 << 30
DISK = Limit("disk", 20 * GIB, 10 * GIB)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("21474836480", 20 * GIB),  # what the downward API says
        ("20Gi", 20 * GIB),
        ("1.5Gi", 3 * GIB // 2),
        (" 500M\n", 500_000_000),
        ("10k", 10_000),
        ("1Ti", 1024 * GIB),
        ("2E", 2 * 10**18),
        ("3000m", 3),
        ("", None),
        ("0", None),
        ("20 GB", None),
        ("20gi", None),
        ("-5Gi", None),
        ("1.2.3Gi", None),
        ("much", None),
    ],
)
def test_a_quantity_of_kubernetes(text: str, count: int | None) -> None:
    assert count == usage.quantity(text)


@pytest.mark.parametrize(
    ("declared", "layer", "size", "used", "free", "expected"),
    [
        # nobody said: the layer has what it has and what is free
        ("", 1, 270, 41, 229, [Limit("disk", 230, 1)]),
        # all that is used of the disk is the layer's: a quota
        ("", 96, 200, 100, 100, [Limit("disk", 200, 100)]),
        ("", 94, 200, 100, 100, [Limit("disk", 194, 94)]),
        ("", 0, 200, 0, 200, [Limit("disk", 200, 0)]),
        # the pod's limit, and the disk may be full before
        ("20", 1, 270, 41, 229, [Limit("limit of this pod", 20, 1), Limit("disk", 230, 1)]),
    ],
)
def test_what_limits_a_layer(declared, layer, size, used, free, expected) -> None:
    assert expected == usage.limits(declared, layer, size, used, free)


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        ([], 0),
        ([(0, 5)], 0),
        ([(0, 0), (10, 900)], 0),  # one step may be a jump
        ([(0, 0), (10, 500), (20, 1000), (30, 1500)], 50),
        ([(0, 0), (10, 0), (20, 9_000_000), (30, 0), (40, 0)], 0),  # came and went
        ([(0, 7), (10, 7), (20, 9_000_000), (30, 9_000_000)], 0),  # one jump
        ([(0, 0), (10, 100), (20, 5_000), (30, 5_100), (40, 5_200)], 10),  # a jump in a trend
        ([(0, 500), (10, 400), (20, 300), (30, 200)], -10),
        ([(0, 0), (0, 100), (10, 100), (20, 200), (30, 300), (40, 400)], 10),  # a clock that stood
        ([(0, 0), (10, 100), (60, 600), (70, 700)], 10),  # uneven steps
    ],
)
def test_a_rate_is_not_fooled_by_one_jump(samples, rate) -> None:
    assert rate == usage.rate(samples)


def test_the_limit_that_is_reached_first_counts() -> None:
    samples = [(at * 10.0, at * GIB) for at in range(5)]
    tight, wide = Limit("limit of this pod", 20 * GIB, 18 * GIB), Limit("disk", 99 * GIB, 18 * GIB)

    assert Forecast(tight, 20) == usage.forecast(samples, [wide, tight])


def test_a_limit_that_is_full_already_comes_before_one_that_will_be() -> None:
    samples = [(at * 10.0, at * GIB) for at in range(5)]
    full = Limit("disk", 20 * GIB, 20 * GIB)

    assert Forecast(full, 0) == usage.forecast(samples, [DISK, full])


def test_without_a_rate_the_fuller_one_counts_and_nothing_is_foretold() -> None:
    fuller = Limit("disk", 20 * GIB, 15 * GIB)

    assert Forecast(fuller, None) == usage.forecast([], [DISK, fuller])


@pytest.mark.parametrize("grown", [-GIB, 0, 1000])
def test_what_shrinks_or_takes_longer_than_a_day_is_not_foretold(grown: int) -> None:
    samples = [(at * 10.0, 9 * GIB + at * grown) for at in range(5)]

    assert usage.forecast(samples, [DISK]).full_in_secs is None


@pytest.mark.parametrize(
    ("percent", "level"), [(0, 0), (69, 0), (70, 70), (84, 70), (85, 85), (95, 95), (120, 95)]
)
def test_levels(percent: int, level: int) -> None:
    assert level == Forecast(Limit("disk", 100, percent), None).level


@pytest.mark.parametrize(
    ("used", "secs", "line"),
    [
        (10 * GIB, 360.0, "the 20 GiB disk is full in 6 min"),
        (10 * GIB, 7.0, "the 20 GiB disk is full in 7.0 s"),
        (18 * GIB, None, "the 20 GiB disk is 90 % full"),
        (20 * GIB, 0.0, "the 20 GiB disk is full"),
    ],
)
def test_the_line_says_when(used: int, secs: float | None, line: str) -> None:
    assert line == Forecast(Limit("disk", 20 * GIB, used), secs).line


def test_a_disk_without_a_size_is_full() -> None:
    assert (1.0, 95) == (
        Forecast(Limit("disk", 0, 0), None).share,
        Forecast(Limit("disk", 0, 0), None).level,
    )
