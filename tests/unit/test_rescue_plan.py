"""What is saved in the time that is left."""

from __future__ import annotations

import random

import pytest

from workspace_agent.model.atrisk import Entry
from workspace_agent.rescue.plan import plan

MB = 10**6


def entry(path: str, value: int = 50, size: int = MB, newer: int = 0, blocks: int = -1) -> Entry:
    taken = size if blocks < 0 else blocks
    return Entry(path, "code", value, 0o100644, 0, 0, size, taken, newer, newer, 1, 1, 1)


def names(entries: object) -> str:
    return " ".join(one.path for one in entries)


ORDERS = {
    "the dearest first": ([entry("a", 50), entry("b", 90), entry("c", 70)], "b c a"),
    "of those the newest": ([entry("a", newer=1), entry("b", newer=3), entry("c")], "b a c"),
    "of those the smallest": ([entry("a", size=3), entry("b", size=1), entry("c")], "b a c"),
    "the name at last": ([entry("b"), entry("a")], "a b"),
}


@pytest.mark.parametrize(("entries", "expected"), ORDERS.values(), ids=ORDERS)
def test_the_order(entries: list[Entry], expected: str) -> None:
    assert expected == names(plan(entries, secs=100, rate=MB, room=100 * MB).take)


def test_what_takes_longer_than_there_is_time_is_left_and_the_rest_is_taken() -> None:
    entries = [entry("big", 90, 8000 * MB), entry("small"), entry("other")]
    made = plan(entries, secs=10, rate=100 * MB, room=10**12)

    assert (["small", "other"], "big") == (
        sorted(names(made.take).split(), reverse=True), names(e for e, _ in made.left),
    )  # fmt: skip
    assert "it takes 80 s of the 10 s that are left" == made.left[0][1]


def test_what_would_take_everything_takes_everything() -> None:
    entries = [entry(str(n), size=n * MB) for n in range(50)]
    needed = plan(entries, secs=1, rate=MB, room=10**12).needed

    assert () == plan(entries, secs=needed + 0.001, rate=MB, room=10**12).left
    assert () != plan(entries, secs=needed * 0.99, rate=MB, room=10**12).left


def test_what_there_is_no_room_for_is_left() -> None:
    made = plan([entry("a", 90, 6 * MB), entry("b", 80, 6 * MB), entry("c")], secs=99, rate=MB,
                room=8 * MB)  # fmt: skip

    assert ("a c", "b") == (names(made.take), names(e for e, _ in made.left))


def test_holes_take_no_time_and_no_room() -> None:
    made = plan([entry("sparse", size=8 << 30, blocks=4096)], secs=1, rate=MB, room=MB)

    assert "sparse" == names(made.take)


@pytest.mark.parametrize(
    ("secs", "rate", "room"), [(0, MB, MB), (-5, MB, MB), (5, 0, MB), (5, MB, 0)]
)
def test_without_time_speed_or_room_nothing_is_begun(secs: float, rate: float, room: int) -> None:
    assert () == plan([entry("a")], secs=secs, rate=rate, room=room).take


def test_no_plan_takes_more_than_there_is() -> None:
    chance = random.Random(7)
    for _ in range(300):
        entries = [
            entry(str(n), chance.randint(0, 100), chance.randint(0, 50 * MB), chance.randint(0, 9))
            for n in range(chance.randint(0, 40))
        ]
        secs, room = chance.uniform(0, 60), chance.randint(0, 900 * MB)
        made = plan(entries, secs=secs, rate=10 * MB, room=room)

        assert sorted(entries, key=id) == sorted([*made.take, *(e for e, _ in made.left)], key=id)
        assert sum(one.size for one in made.take) <= min(room, secs * 10 * MB)
