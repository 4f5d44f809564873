from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workspace_agent.config import schema, toml
from workspace_agent.config.decode import Issue, decode, to_json
from workspace_agent.config.placeholders import expand, names_in
from workspace_agent.config.schema import Profile

ROOT = Path(__file__).parents[2]

SHIPPED = (ROOT / "profiles" / "persistent-workspace.toml").read_text()

GOOD = [
    ('name = "gpu"', lambda profile: profile.name, "gpu"),
    ("[volume]\nrequired = true", lambda profile: profile.volume.required, True),
    ('[volume]\nmin_free = "1GiB"', lambda profile: profile.volume.min_free, 2**30),
    ('[volume]\ncandidates = ["/mnt/*"]', lambda profile: profile.volume.candidates, ("/mnt/*",)),
    ('[home]\nmode = "bind"', lambda profile: profile.home.mode, "bind"),
    ('[home]\nexclude = ["*.sock", "[]a]"]', lambda p: p.home.exclude, ("*.sock", "[]a]")),
    ('[env]\nset = "x"', lambda profile: profile.env.set, {"set": "x"}),
    ('[env]\nA = "{volume}/a"', lambda profile: profile.env.set, {"A": "{volume}/a"}),
    ('[env]\nA = \'{"a":{"b":1}}\'', lambda p: p.env.set, {"A": '{"a":{"b":1}}'}),
    ('[env.default]\nA = "a"', lambda profile: profile.env.default, {"A": "a"}),
    ('[env.propagate]\nallow = ["A_*"]', lambda profile: profile.env.propagate.allow, ("A_*",)),
    ("[path]\npythonpath = false", lambda profile: profile.path.pythonpath, False),
    ('[scripts]\ntimeout = "1m"', lambda profile: profile.scripts.timeout, 60.0),
    ("[workload]\nneeds = []", lambda profile: profile.workload.needs, ()),
    ('[workload]\ncommand = ["sh", "-c", "echo ${A}"]', lambda p: len(p.workload.command), 3),
    ("[report]\nhistory = 0", lambda profile: profile.report.history, 0),
    ('[report]\ntermination_log = ""', lambda profile: profile.report.termination_log, ""),
]

BAD = [
    ("schema = 2", "schema: 2 is not one of 1"),
    ("schema = true", "schema: expected a whole number, got true"),
    ('extends = "a"', "extends: expected a list of strings, got a string; put it in brackets"),
    ("name = 1", "name: expected a string, got a number; put it in quotes"),
    ('name = "../a"', "name: `../a` is not a file name; give a name without `/`"),
    ("nam = 1", "nam: unknown key; did you mean `name`?"),
    ("zzz = 1", "zzz: unknown key"),
    ("home = 1", "home: expected a table, got a number"),
    ("[[home]]", "home: expected a table, got a list with a table in it"),
    ("[hoem]", "hoem: unknown key; did you mean `home`?"),
    (
        '[home]\nmode = "bnd"',
        "home.mode: `bnd` is not one of auto, bind, redirect, links, copy, off;"
        " did you mean `bind`?",
    ),
    ('[home]\n"mode+" = "bind"', "home.mode+: only a list can be appended to; leave out the `+`"),
    (
        '[home]\npath = "home"',
        "home.path: `home` is not an absolute path; did you mean `{volume}/home`?",
    ),
    (
        '[home]\npath = "{volum}/x"',
        "home.path: `{volum}` is not known here; there is {volume}, {profile};"
        " write `{{word}}` to have {word} itself",
    ),
    (
        '[home]\nlinks = ["../.ssh"]',
        "home.links: `../.ssh` leaves the home; write it relative to the home",
    ),
    ('[home]\nexclude = ["[ab"]', "home.exclude: the glob `[ab` has a `[` without its `]`"),
    ('[home]\nexclude = ["[]"]', "home.exclude: the glob `[]` has a `[` without its `]`"),
    ('[home]\nexclude = ["[!]"]', "home.exclude: the glob `[!]` has a `[` without its `]`"),
    ('[home]\nexclude = [""]', "home.exclude: an empty glob matches nothing"),
    ('[home]\nmarker = "a/b"', "home.marker: `a/b` is not a file name; give a name without `/`"),
    (
        '[volume]\ncandidates = ["mnt"]',
        "volume.candidates: `mnt` is not an absolute path; did you mean `/mnt`?",
    ),
    (
        "[volume]\nmin_free = 64",
        'volume.min_free: expected a size such as `64MiB`, got a number; did you mean `"64MiB"`?',
    ),
    (
        "[volume]\ndeadline = 30",
        'volume.deadline: expected a duration such as `30s`, got a number; did you mean `"30s"`?',
    ),
    ('[volume]\ndeadline = "0s"', "volume.deadline: less than 100ms"),
    (
        '[volume]\ndeadline = "30"',
        "volume.deadline: `30` is not a duration; a unit is missing; did you mean `30s`?",
    ),
    (
        "[volume]\nrequired = 1",
        "volume.required: expected true or false, got a number",
    ),
    (
        '[env]\n"A B" = "x"',
        "env.A B: not a name for a variable; use letters, digits and `_`, and no digit first",
    ),
    (
        '[env]\n1A = "x"',
        "env.1A: not a name for a variable; use letters, digits and `_`, and no digit first",
    ),
    ("[env]\nA = 1", "env.A: expected a string, got a number; put it in quotes"),
    ("[env]\nA.B = 'x'", "env.A: expected a string, got a table"),
    ("[env.default]\nA = 1979-05-27", "env.default.A: expected a string, got a date or time"),
    (
        "[env]\nA = '${HOME}'",
        "env.A: `{HOME}` is not known here; there is {volume}, {home}, {profile}, {abi};"
        " write `{{word}}` to have {word} itself",
    ),
    ('[env]\nA = "\\u0000"', "env.A: a NUL character cannot be part of it"),
    (
        '[workload]\nneeds = ["homes"]',
        "workload.needs: `homes` is not one of volume, home, env, scripts; did you mean `home`?",
    ),
    (
        '[workload]\ncommand = ["a", 1]',
        "workload.command: expected a list of strings, got a list with a number in it",
    ),
    ("[report]\nhistory = -1", "report.history: less than 0"),
    ("[report]\nhistory = 1001", "report.history: more than 1000"),
    ("[report]\nhistory = 1.5", "report.history: expected a whole number, got a number"),
    ('"\\u001b[2J" = 1', r"\x1b[2J: unknown key"),
    (
        '[[requirements]]\nwhen.driver = "=>570"',
        "requirements.0.when.driver: `=>570` compares with no version;"
        " write it like `>=570`, `8.6` or `>=8,<9`",
    ),
    (
        '[[requirements]]\nwhen.gpu_count = ">=8,"',
        "requirements.0.when.gpu_count: `>=8,` compares with no version;"
        " write it like `>=570`, `8.6` or `>=8,<9`",
    ),
    (
        '[[requirements]]\nwhen.arch = ["Blackwel"]',
        "requirements.0.when.arch: `Blackwel` is not one of volta, turing, ampere, ada, hopper,"
        " blackwell; did you mean `blackwell`?",
    ),
    (
        '[[requirements]]\nname = "a/b"',
        "requirements.0.name: `a/b` is not a file name; give a name without `/`",
    ),
]


def lines(table: Mapping[str, Any]) -> list[str]:
    return [str(issue) for issue in decode(table)[1]]


def key_paths(table: Mapping[str, Any], at: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    paths = set()
    for name, value in table.items():
        paths.add((*at, name))
        if isinstance(value, dict):
            paths |= key_paths(value, (*at, name))
    return paths


def test_nothing_decodes_to_the_defaults() -> None:
    assert (Profile(), ()) == decode({})


def test_the_shipped_default_profile_decodes_to_the_defaults() -> None:
    assert (Profile(), ()) == decode(toml.parse(SHIPPED))


def test_the_shipped_default_profile_shows_every_key() -> None:
    assert key_paths(to_json(Profile())) == key_paths(toml.parse(SHIPPED))


@pytest.mark.parametrize("text, pick, value", GOOD, ids=[text for text, _, _ in GOOD])
def test_a_value_reaches_its_field(text: str, pick: Any, value: object) -> None:
    profile, issues = decode(toml.parse(text))

    assert () == issues
    assert value == pick(profile)


@pytest.mark.parametrize("text, line", BAD, ids=[text for text, _ in BAD])
def test_a_mistake_is_said_in_one_line(text: str, line: str) -> None:
    assert [line] == lines(toml.parse(text))


def test_every_mistake_is_reported_in_one_run() -> None:
    text = "\n".join(
        (
            "nam = 1",
            "[home]",
            'mode = "x"',
            'links = ["/a", "ok", "../b"]',
            "[env]",
            "A = 1",
            "[env.propagate]",
            "alow = []",
        )
    )

    assert [
        ("nam",),
        ("home", "mode"),
        ("home", "links"),
        ("home", "links"),
        ("env", "A"),
        ("env", "propagate", "alow"),
    ] == [issue.key for issue in decode(toml.parse(text))[1]]


def test_a_key_with_a_mistake_keeps_its_default() -> None:
    profile, _ = decode({"home": {"mode": "x", "marker": ".m"}, "volume": 3})

    assert replace(Profile(), home=replace(Profile().home, marker=".m")) == profile


def test_a_list_may_be_appended_to() -> None:
    assert [] == lines({"path": {"prepend+": ["/opt/bin"]}})


def test_thousands_of_unknown_keys_are_not_all_guessed_at() -> None:
    issues = decode({f"nam{number}": 1 for number in range(2000)})[1]

    assert 2000 == len(issues)
    assert 50 == sum(bool(issue.hint) for issue in issues)


def test_an_issue_without_a_hint_ends_after_what() -> None:
    assert "home.mode: wrong" == str(Issue(("home", "mode"), "wrong"))


@pytest.mark.parametrize("text", [SHIPPED, *(text for text, _, _ in GOOD)])
def test_plain_values_decode_to_the_same_profile(text: str) -> None:
    profile, _ = decode(toml.parse(text))

    assert (profile, ()) == decode(to_json(profile))


@pytest.mark.parametrize(
    "text, expanded",
    [
        ("{volume}/home", "/v/home"),
        ("{volume}{home}", "/v/h"),
        ("plain", "plain"),
        ("", ""),
        ("{{volume}}", "{volume}"),
        ("{{{volume}}}", "{{volume}}"),
        ("{", "{"),
        ("{}", "{}"),
        ("{volume", "{volume"),
        ("{{volume}", "{/v"),
        ('{"a":{"b":"{volume}"}}', '{"a":{"b":"/v"}}'),
        ("{a b}", "{a b}"),
    ],
)
def test_only_a_word_in_braces_is_filled_in(text: str, expanded: str) -> None:
    assert expanded == expand(text, volume="/v", home="/h")


def test_a_filled_in_value_is_not_looked_at_again() -> None:
    assert "{home}" == expand("{volume}", volume="{home}", home="/h")


def test_the_names_in_a_text_come_in_order() -> None:
    assert ["volume", "abi"] == names_in("{volume}/{abi}/{{home}}")


def test_every_key_is_documented() -> None:
    assert [] == [path for path, one in schema.walk() if not one.metadata["doc"].endswith(".")]


def test_a_secret_with_a_word_in_braces_is_not_in_the_message() -> None:
    _, issues = decode({"env": {"API_KEY": "se{cret}value"}})

    assert 1 == len(issues)
    assert "cret" not in str(issues[0])


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1:80", "http://example.com", "https://127.0.0.1", "http://127.0.0.1@192.0.2.1",
     "http://0.0.0.0:80", "http://169.254.169.254", "127.0.0.1:8000", "http://127.0.0.1:99999"],
)  # fmt: skip
def test_only_a_server_of_this_machine_is_asked(url: str) -> None:
    _, (issue,) = decode({"checkpoint": {"http": url}})
    assert "is not http:// on a loopback address" in str(issue)
