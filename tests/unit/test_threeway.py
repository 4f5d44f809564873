"""Whose change is it: every way in which three versions of a default can differ."""

from __future__ import annotations

import itertools

import pytest

from workspace_agent.steps.threeway import Verdict, judge

# as it came, as this image has it, as the home has it
TABLE = {
    ("a", "a", "a"): Verdict.SAME,
    ("a", "a", "b"): Verdict.YOURS,
    ("a", "a", None): Verdict.DELETED,
    ("a", "b", "a"): Verdict.CHANGED,
    ("a", "b", "b"): Verdict.SAME,
    ("a", "b", "c"): Verdict.CONFLICT,
    ("a", "b", None): Verdict.DELETED,
    ("a", None, "a"): Verdict.GONE,
    ("a", None, "b"): Verdict.GONE,
    ("a", None, None): Verdict.SAME,
    (None, "a", "a"): Verdict.SAME,
    (None, "a", "b"): Verdict.CONFLICT,
    (None, "a", None): Verdict.NEW,
    (None, None, "a"): Verdict.GONE,
    (None, None, None): Verdict.SAME,
}


@pytest.mark.parametrize("versions", TABLE)
def test_the_table(versions: tuple[object, object, object]) -> None:
    assert TABLE[versions] is judge(*versions)


def test_the_table_has_every_row() -> None:
    def form(versions: tuple[object, ...]) -> tuple[object, ...]:
        names = dict(zip(dict.fromkeys(one for one in versions if one), "abc", strict=False))
        return tuple(names.get(one) for one in versions)

    every = {form(versions) for versions in itertools.product(["a", "b", "c", None], repeat=3)}

    assert every == {form(versions) for versions in TABLE}


@pytest.mark.parametrize("versions", TABLE)
def test_without_a_base_only_what_is_the_same_can_be_told(
    versions: tuple[object, object, object],
) -> None:
    _, new, mine = versions
    wanted = Verdict.SAME if new == mine else Verdict.UNKNOWN

    assert wanted is judge(None, new, mine, known=False)


@pytest.mark.parametrize("versions", TABLE)
def test_what_the_user_has_is_only_replaced_where_it_is_what_the_image_gave(
    versions: tuple[object, object, object],
) -> None:
    base, _, mine = versions
    replaced = judge(*versions) is Verdict.CHANGED

    assert not replaced or mine == base
