from __future__ import annotations

from typing import Any

import pytest

from workspace_agent.config import locate, toml

TEXT = '''\
# a comment with mode = "x"
name = "gpu"

description = """
[home]
mode = "not this one"
"""
workload.grace = "1s"

[home]  # [env]
# mode = "nor this"
mode = "auto"
links = [
    ".a",  # [path]
    ".b",
]
exclude = ["x"]

[env]
"QUOTED" = "1"
[env.default]
A = "1"
[path]
inline = { a = 1, deep = { b = [ { c = 1 }, { d = 2 } ] } }

[[services]]
name = "one"
[services.restart]
max = 1
[[services]]
name = "two"
[services.restart]
max = 2
[[services.ports]]
at = 1
[[services.ports]]
at = 2
'''

LINES = [
    (("name",), 2),
    (("description",), 4),
    (("workload", "grace"), 8),
    (("workload",), 8),
    (("home",), 10),
    (("home", "mode"), 12),
    (("home", "links"), 13),
    (("home", "exclude"), 17),
    (("env", "QUOTED"), 20),
    (("env", "default"), 21),
    (("env", "default", "A"), 22),
    (("path", "inline", "deep", "b", "1", "d"), 24),
    (("services",), 26),
    (("services", "0", "name"), 27),
    (("services", "0", "restart", "max"), 29),
    (("services", "1"), 30),
    (("services", "1", "name"), 31),
    (("services", "1", "restart", "max"), 33),
    (("services", "1", "ports", "0", "at"), 35),
    (("services", "1", "ports", "1", "at"), 37),
]


@pytest.mark.parametrize("key, line", LINES)
def test_a_key_is_found_on_the_line_where_it_starts(key: tuple[str, ...], line: int) -> None:
    assert {key: line} == locate.lines(TEXT, [key])


def test_all_keys_are_found_in_one_pass() -> None:
    assert dict(LINES) == locate.lines(TEXT, [key for key, _ in LINES])


def test_a_key_that_is_not_there_has_no_line() -> None:
    assert {("name",): 2} == locate.lines(TEXT, [("name",), ("home", "mod"), ("nam",)])


def test_a_file_of_many_lines_is_parsed_statement_by_statement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "[env]\n" + "".join(f'A{number} = "1"\n' for number in range(4000))
    parsed: list[int] = []
    parse = toml.parse

    def counted(one: str) -> dict[str, Any]:
        parsed.append(len(one))
        return parse(one)

    monkeypatch.setattr(toml, "parse", counted)

    assert {("env", "A3999"): 4001} == locate.lines(text, [("env", "A3999")])
    assert sum(parsed) <= 2 * len(text)


def test_a_value_of_thousands_of_lines_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a = [\n" + "1,\n" * 20_000 + "]\nb = 1\n"
    parsed: list[int] = []
    monkeypatch.setattr(locate, "_parses", lambda one: parsed.append(len(one)))

    assert {} == locate.lines(text, [("b",)])
    assert 0 < sum(parsed) <= 1024 * 1024
