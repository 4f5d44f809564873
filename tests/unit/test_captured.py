"""What was installed by hand, as lines: what is wanted, what came with it, what a person wrote."""

from __future__ import annotations

import pytest

from workspace_agent.replay.capture import Dist
from workspace_agent.replay.captured import Captured, listed, locked, updated


def dist(
    name: str, *needs: str, asked: bool | None = None, extras: tuple[str, ...] = (), at: str = "1"
) -> Dist:
    return Dist(name, f"{name}>={at}", f"{name}=={at}", needs, extras, asked)


def fresh(*dists: Dist) -> dict[str, Dist]:
    return {one.name: one for one in dists}


def after(*dists: Dist, old: Captured | None = None, text: str | None = None) -> Captured:
    known = old or Captured()
    return updated(known, text, fresh(*dists), (), {*known.packages, *fresh(*dists)})


def own(text: str | None) -> list[str]:
    """The lines of *text* that are no comments."""
    return [line for line in (text or "").splitlines() if line and not line.startswith("#")]


PIP, NOT_ASKED = True, False

TOPS = {
    "one alone": (fresh(dist("a")), ["a"]),
    "uv marks all: what another needs is not wanted": (
        fresh(dist("a", "b"), dist("b", "c"), dist("c")), ["a"]),
    "pip was told both": (fresh(dist("a", "b", asked=PIP), dist("b", asked=PIP)), ["a", "b"]),
    "pip was told one": (fresh(dist("a", "b", asked=PIP), dist("b", asked=NOT_ASKED)), ["a"]),
    "pip forgot to mark it": (fresh(dist("a", asked=NOT_ASKED)), ["a"]),
    "an extra of another, by uv": (fresh(dist("a", extras=("b",)), dist("b")), ["a", "b"]),
    "an extra of another, by pip": (
        fresh(dist("a", extras=("b",), asked=PIP), dist("b", asked=NOT_ASKED)), ["a"]),
    "an extra of another, asked for": (
        fresh(dist("a", extras=("b",), asked=PIP), dist("b", asked=PIP)), ["a", "b"]),
    "two that need each other": (fresh(dist("a", "b"), dist("b", "a")), ["a"]),
    "it needs itself": (fresh(dist("a", "a")), ["a"]),
    "what it needs is the image's": (fresh(dist("a", "torch")), ["a"]),
}  # fmt: skip


@pytest.mark.parametrize(("found", "tops"), TOPS.values(), ids=TOPS)
def test_what_somebody_wanted_is_told_from_what_came_with_it(
    found: dict[str, Dist], tops: list[str]
) -> None:
    now = updated(Captured(), None, found, (), found)

    assert (tops, sorted(found)) == (list(now.tops), sorted(now.packages))
    assert [f"{name}==1" for name in sorted(found)] == own(locked(listed(None, now, now), now))


def test_what_was_wanted_stays_so_when_another_comes_that_needs_it() -> None:
    now = after(dist("b", "a"), old=after(dist("a")))
    upgraded = after(dist("a", at="2"), old=now)

    assert (["a", "b"], ["a", "b"]) == (list(now.tops), list(upgraded.tops))


def test_what_came_with_a_removed_package_is_not_wanted_and_goes_with_the_container() -> None:
    old = after(dist("a", "b"), dist("b"))
    here = updated(old, listed(None, old, old), {}, {"a"}, {"b"})
    later = updated(here, None, {}, (), ())

    assert ({}, None) == (here.tops, locked(None, here))
    assert (["b"], []) == (list(here.packages), list(later.packages))


def test_what_another_pod_captured_stays() -> None:
    old = after(dist("a", "b"), dist("b"))
    now = updated(old, listed(None, old, old), fresh(dist("c")), (), {"c"})

    assert (["a", "c"], ["a", "b", "c"]) == (list(now.tops), list(now.packages))


def test_a_newer_version_takes_the_place_of_the_line() -> None:
    old = after(dist("a"), dist("c"))
    text = listed(None, old, old)
    now = after(dist("a", at="2"), old=old, text=text)

    assert ["a>=2", "c>=1"] == own(listed(text, old, now))


PERSON = "# mine\n\n  a<3  # not the new one\nflask\nc>=1\n"


def test_what_a_person_wrote_stays_as_it_is_to_the_byte() -> None:
    old = after(dist("a", "b"), dist("b"), dist("c"))
    now = after(dist("a", "b", at="2"), dist("d"), old=old, text=PERSON)
    text = listed(PERSON, old, now)

    assert f"{PERSON}d>=1\n" == text
    assert ["c==1", "d==1", "a<3  # not the new one", "flask"] == own(locked(text, now))


def test_a_persons_line_takes_the_place_of_a_pin_of_what_only_came_along() -> None:
    now = after(dist("a", "b"), dist("b"))

    assert ["a==1", "b<2"] == own(locked("a>=1\nb<2\n", now))


def test_a_line_that_a_person_took_out_does_not_come_back() -> None:
    old = after(dist("a", "b"), dist("b"), dist("c"))
    text = listed(None, old, old).replace("a>=1\n", "")
    now = after(old=old, text=text)
    again = after(old=now, text=listed(text, old, now))

    assert (["c>=1"], ["c>=1"]) == (own(listed(text, old, now)), own(listed(text, now, again)))
    assert ["c==1"] == own(locked(text, again))


def test_a_line_taken_out_comes_back_when_it_is_installed_anew() -> None:
    old = after(dist("a"))
    dropped = after(old=old, text="# empty\n")
    now = after(dist("a", asked=PIP, at="2"), old=dropped, text="# empty\n")

    assert "# empty\na>=2\n" == listed("# empty\n", dropped, now)


@pytest.mark.parametrize("text", ["", "a", "a>=1\r\nb\r\n", "\n\n", "-e /x\n--index-url y", "!\n?"])
def test_a_list_that_nothing_changes_is_not_touched(text: str) -> None:
    old = after(dist("a")) if "a>=1" in text else Captured()

    assert text == listed(text, old, after(old=old, text=text))


def test_a_file_that_holds_nothing_is_none() -> None:
    old = after(dist("a"))
    text = listed(None, old, old)
    now = updated(old, text, {}, {"a"}, ())

    assert (None, None, True) == (listed(text, old, now), locked(None, now), now.is_empty)


def test_what_cannot_be_had_again_is_a_comment() -> None:
    lost = Dist("a", "# a 1 is not on the volume", "", (), (), PIP)
    now = updated(Captured(), None, fresh(lost, dist("b")), (), {"a", "b"})
    text = listed(None, now, now)

    assert "# a 1 is not on the volume\n" in text
    assert (["b>=1"], ["b==1"]) == (own(text), own(locked(text, now)))


@pytest.mark.parametrize(
    "data",
    [None, "", "[]", "{}", "\udcff", "[" * 100_000, '{"format": 1, "packages": 5}',
     '{"format": 2, "packages": [], "offers": {}, "interrupted": ""}',
     '{"format": 1, "packages": [{"name": "a", "line": "a\\n-r x", "pin": "", "needs": [],'
     ' "extras": [], "asked": true}], "offers": {}, "interrupted": ""}',
     '{"format": 1, "packages": [{"name": "a", "line": 1, "pin": "", "needs": [], "extras": []}],'
     ' "offers": {}, "interrupted": ""}',
     '{"format": 1, "packages": [{"name": "a", "line": "", "pin": "", "needs": 3, "extras": []}],'
     ' "offers": {}, "interrupted": ""}',
     '{"format": 1, "packages": [{"name": "a"}], "offers": {}, "interrupted": ""}'],
)  # fmt: skip
def test_a_record_that_is_not_ours_is_none(data: str | None) -> None:
    assert Captured() == Captured.parsed(data)


def test_a_record_comes_back_as_it_was() -> None:
    now = after(dist("a", "b", extras=("x",)), dist("b"))

    assert now == Captured.parsed(now.to_json())
