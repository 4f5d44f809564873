"""What it costs to make it again."""

from __future__ import annotations

import pytest

from workspace_agent.watch import price
from workspace_agent.watch.price import Price

S = 10**9
H = 3600 * S
MIB = 1 << 20


@pytest.mark.parametrize(
    ("spans", "secs"),
    [
        ([], 0),
        ([(100, 130)], 30),
        ([(100, 130), (120, 150)], 50),  # at the same time
        ([(100, 200), (120, 130)], 100),  # one inside the other
        ([(190, 200), (100, 130)], 100),  # a pause of a minute is work
        ([(191, 200), (100, 130)], 39),
        ([(100, 130), (1000, 1010), (1065, 1070)], 100),
    ],
)
def test_a_union_of_intervals_with_short_pauses(spans, secs) -> None:
    assert secs == price.busy([(begun * S, changed * S) for begun, changed in spans])


@pytest.mark.parametrize(
    ("files", "rate", "secs"),
    [
        ([(MIB, 100 * S, 110 * S)], 0, 10),
        ([(MIB, 0, 110 * S)], 0, 0),
        ([(8 * MIB, 0, 110 * S)], 2 * MIB, 4),  # no beginning is known: by bytes
        ([(8 * MIB, 120 * S, 110 * S)], 2 * MIB, 4),  # it was moved here with its times
        ([(10 * MIB, 100 * S, 110 * S), (5 * MIB, 0, 0)], 99, 15),  # as fast as the other
        ([(10 * MIB, 100 * S, 100 * S), (6 * MIB, 0, 0)], 2 * MIB, 3),  # too short to measure
    ],
)
def test_a_download_costs_its_time_or_its_bytes(files, rate, secs) -> None:
    assert secs == price.fetched(files, rate)


@pytest.mark.parametrize(
    ("hours", "secs"),
    [
        ([], 0),
        ([102.5], 2.5),
        ([101, 102, 103], 3),
        ([103, 101, 102], 3),
        ([90, 102], 2),  # brought along: older than the workload
        ([90], 0),
        ([101, 126, 130], 4),  # a day without a checkpoint is not training
        ([101, 125, 130], 30),
        ([125], 0),  # nobody knows what it did before
    ],
)
def test_training_lasts_from_the_start_or_a_long_gap(hours, secs) -> None:
    assert secs * 3600 == price.trained([int(hour * H) for hour in hours], 100 * H)


@pytest.mark.parametrize(
    ("kind", "files", "expected"),
    [
        ("checkpoints", [(1, 0, 100 * H + 9600 * S)], "2 h 40 min of training"),
        ("models", [(1, 100 * H, 100 * H + 360 * S)], "about 6 min of downloads"),
        ("datasets", [(60 * MIB, 0, 1)], "about 1 min of downloads"),
        ("pip", [(1, 100 * H, 100 * H + 12 * S)], "about 12.0 s of installs"),
        ("pip", [(60 * MIB, 0, 1)], "None"),  # bytes say nothing of an installation
        ("notebooks", [(1, 100 * H, 101 * H)], "None"),
        ("models", [], "None"),
        ("npm", [(1, 5, 10)], "None"),  # under a second
    ],
)
def test_the_price_in_words(kind, files, expected) -> None:
    assert expected == str(price.price(kind, files, 100 * H, MIB))


def test_a_price_is_a_number_too() -> None:
    assert Price(5.0, "installs") == price.price("apt", [(1, 1 * S, 6 * S)], 0)
