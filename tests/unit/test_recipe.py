from __future__ import annotations

import shlex

import pytest

from workspace_agent.model.recipe import (
    compose,
    inside,
    is_name,
    matches,
    published,
    quoted,
    render_sh,
)  # fmt: skip


def recipe(**more: object) -> dict:
    """Return a recipe that asks for nothing but *more*."""
    empty = {"set": {}, "default": {}, "prepend": {}, "home": "", "image_home": "/root",
             "allow": [], "secret": []}  # fmt: skip
    return {**empty, **more}


# The workload's environment


def test_an_empty_recipe_leaves_the_containers_environment_alone() -> None:
    base = {"A": "1", "HOME": "/root", "odd name": "x", "caf\udce9": "\udcff"}

    assert base == compose(recipe(), base)


def test_a_set_value_wins_over_the_container_and_a_default_does_not() -> None:
    wanted = recipe(set={"A": "ours"}, default={"B": "ours", "C": "ours"})
    expected = {"A": "ours", "B": "theirs", "C": "ours"}

    assert expected == compose(wanted, {"A": "theirs", "B": "theirs"})


def test_an_empty_value_of_the_container_is_a_value() -> None:
    assert {"A": ""} == compose(recipe(default={"A": "ours"}), {"A": ""})


@pytest.mark.parametrize(
    "entries, old, expected",
    [
        (["/v/bin"], "/usr/bin:/bin", "/v/bin:/usr/bin:/bin"),
        (["/a", "/b"], "/bin", "/a:/b:/bin"),
        (["/v/bin"], "/usr/bin:/v/bin", "/usr/bin:/v/bin"),
        (["/a", "/b"], "/b:/bin", "/a:/b:/bin"),
        (["/v/bin"], None, "/v/bin"),
        (["/v/bin"], "", "/v/bin"),
        ([], "/bin", "/bin"),
        (["/v"], "::/bin:", "/v:::/bin:"),
    ],
)
def test_search_paths_come_first_and_only_once(
    entries: list[str], old: str | None, expected: str
) -> None:
    base = {} if old is None else {"PATH": old}

    assert {"PATH": expected} == compose(recipe(prepend={"PATH": entries}), base)


def test_home_moves_only_when_the_recipe_has_one() -> None:
    assert {"HOME": "/v/home"} == compose(recipe(home="/v/home"), {"HOME": "/root"})
    assert {"HOME": "/root"} == compose(recipe(home=""), {"HOME": "/root"})


def test_composing_changes_neither_the_recipe_nor_the_container() -> None:
    wanted = recipe(set={"A": "1"}, prepend={"PATH": ["/v"]}, home="/v/home")
    base = {"PATH": "/bin"}
    compose(wanted, base)

    assert (recipe(set={"A": "1"}, prepend={"PATH": ["/v"]}, home="/v/home"), {"PATH": "/bin"}) == (
        wanted, base,
    )  # fmt: skip


# What shells are told


def test_shells_are_told_what_is_set_and_what_is_allowed() -> None:
    wanted = recipe(set={"B": "ours"}, default={"C": "ours"}, allow=["HF_*"], secret=["*TOKEN*"])
    base = {"B": "theirs", "C": "theirs", "HF_HOME": "/hf", "HF_TOKEN": "hush", "OTHER": "x"}
    expected = [
        ("B", "ours", "theirs", False),
        ("C", "theirs", "theirs", False),
        ("HF_HOME", "/hf", "/hf", False),
        ("HF_TOKEN", "hush", "hush", True),
    ]

    assert expected == published(wanted, base)


def test_a_value_that_the_container_has_not_has_no_original() -> None:
    assert [("A", "1", None, False)] == published(recipe(set={"A": "1"}), {})


@pytest.mark.parametrize("name", ["odd name", "a-b", "1A", "A;touch X", "", "É", "A\n"])
def test_a_name_that_no_shell_can_have_is_left_out(name: str) -> None:
    assert [] == published(recipe(set={name: "x"}, allow=["*"]), {name: "y"})


def test_what_is_new_for_every_pod_is_never_passed_on() -> None:
    base = {"NVIDIA_VISIBLE_DEVICES": "GPU-1", "NVIDIA_OTHER": "1"}

    assert ["NVIDIA_OTHER"] == [row[0] for row in published(recipe(allow=["NVIDIA_*"]), base)]


def test_a_search_path_is_not_published_as_a_value() -> None:
    wanted = recipe(prepend={"PATH": ["/v"]}, allow=["*"])

    assert ["A"] == [row[0] for row in published(wanted, {"PATH": "/bin", "A": "1"})]


def test_a_secret_stands_only_in_the_secret_file() -> None:
    wanted = recipe(set={"MY_KEY": "hush-1", "A": "plain"}, allow=["HF_*"], secret=["*KEY*", "*_T"])
    plain, secret = render_sh(wanted, {"HF_T": "hush-2", "MY_KEY": "hush-3"}, "/run/w")

    assert (False, True) == ("hush" in plain, "plain" in plain)
    assert (True, True, False) == ("hush-1" in secret, "hush-2" in secret, "plain" in secret)


# Names, globs, quotes


@pytest.mark.parametrize(
    "name, glob, expected",
    [
        ("HF_HOME", "HF_*", True),
        ("HF_", "HF_*", True),
        ("XHF_HOME", "HF_*", False),
        ("HF_HOME", "HF_HOME", True),
        ("HF_HOME2", "HF_HOME", False),
        ("MY_TOKEN_2", "*TOKEN*", True),
        ("TOKEN", "*TOKEN*", True),
        ("TOKE", "*TOKEN*", False),
        ("anything", "*", True),
        ("", "*", True),
        ("", "", True),
        ("A", "", False),
        ("ABA", "AB*BA", False),
        ("ABBA", "AB*BA", True),
        ("A.C", "A?C", False),
        ("A?C", "A?C", True),
        ("[A]", "[A]", True),
        ("A", "[A]", False),
        ("aXbXc", "a*b*c", True),
        ("aXcXb", "a*b*c", False),
        ("abcbc", "a*bc", True),
        ("ab", "a*b*b", False),
        ("AA", "A**A", True),
    ],
)
def test_only_the_star_of_a_glob_is_special(name: str, glob: str, expected: bool) -> None:
    assert expected == matches(name, glob)


@pytest.mark.parametrize("name", ["A", "_", "a1", "HF_HOME", "__x__"])
def test_a_variables_name_is_letters_digits_and_underscores(name: str) -> None:
    assert is_name(name)


HOSTILE = [
    "", " ", "plain", "it's", "''", "'", "\"quoted\"", "$(touch X)", "`touch X`", "$HOME", "${A}",
    "a\nb", "a\n", "\n", "\\", "trailing\\", "\\'", "a=b", "-n", "*", "?", "[a]", "~", "#no", "!!",
    ";touch X", "&& touch X", "|", "é", "\udcff", "\t", "\r\n", "'; touch X; '", "x" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_a_quoted_text_is_one_word_and_itself(text: str) -> None:
    assert [text] == shlex.split(quoted(text))


@pytest.mark.parametrize(
    ("caller", "path"),
    [
        ({}, "/v/bin:/usr/bin"),
        ({"PATH": "/usr/bin"}, "/v/bin:/usr/bin"),
        ({"PATH": "/usr/local/bin:/bin"}, "/v/bin:/usr/bin:/usr/local/bin:/bin"),
        ({"PATH": "/mine:/v/bin:/usr/bin"}, "/mine:/v/bin:/usr/bin"),
    ],
)
def test_a_caller_with_a_path_of_its_own_gets_what_it_lacks(
    caller: dict[str, str], path: str
) -> None:
    found = inside(caller, {"PATH": "/v/bin:/usr/bin"}, {"PATH": "/usr/bin"})

    assert path == found["PATH"]
