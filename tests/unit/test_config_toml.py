from __future__ import annotations

import os
import subprocess
import sys
import types
import venv
from pathlib import Path

import pytest

from workspace_agent.config import toml
from workspace_agent.model.problem import AgentError, Problem

ROOT = Path(__file__).parents[2]

HOSTILE = [
    "a" + ".a" * 32 + " = 1",
    "a" + ".a" * 20_000 + " = 1",
    "[" + "a." * 20_000 + "a]\nb = 1",
    "x = {a" + ".a" * 20_000 + " = 1}",
    "'a'" + ".'a'" * 15_000 + " = 1",
    '"\\\\"' + ".a" * 20_000 + " = 1",
    "first = 1\n\n  a" + " . a" * 15_000 + " = 1",
]

HARMLESS = [
    'ips = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7",'
    ' "10.0.0.8", "10.0.0.9", "10.0.0.10", "10.0.0.11", "10.0.0.12"]',
    "floats = [" + "1.5, " * 100 + "]",
    "a = 1  # " + "x.y" * 100,
    'text = """\n' + "." * 100 + '\n"""',
    'text = "' + "a." * 100 + '"',
    '"' + "a." * 100 + '" = 1',
    'text = "\\"' + "a." * 100 + '"',
    "a" + ".a" * 31 + " = 1",
]


def problem_of(text: str) -> Problem:
    with pytest.raises(AgentError) as error:
        toml.parse(text, "profiles/gpu.toml")
    return error.value.problem


def test_text_becomes_tables() -> None:
    assert {"home": {"mode": "copy"}} == toml.parse('[home]\nmode = "copy"')


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_key_of_too_many_parts_never_reaches_the_parser(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parser() -> None:
        raise AssertionError("the parser was asked")

    monkeypatch.setattr(toml, "parser", parser)
    problem = problem_of(text)

    assert "profile.not-toml" == problem.slug
    assert "a key has more than 32 dotted parts" == problem.why


def test_the_refused_key_is_named_by_its_line() -> None:
    assert "profiles/gpu.toml:3" == problem_of(HOSTILE[-1]).where


@pytest.mark.parametrize("text", HARMLESS, ids=range(len(HARMLESS)))
def test_dots_that_separate_no_parts_are_let_through(text: str) -> None:
    assert toml.parse(text)


@pytest.mark.parametrize("text", ["a = " + "[" * 60_000, "a = " + "{a=" * 20_000])
def test_nesting_without_end_is_a_problem_and_not_a_crash(text: str) -> None:
    problem = problem_of(text)

    assert ("profile.not-toml", "tables or lists are nested too deeply") == (
        problem.slug,
        problem.why,
    )


def test_more_than_64_kib_is_refused_before_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml, "parser", None)

    assert "profile.too-big" == problem_of("#" * (64 * 1024 + 1)).slug


def test_64_kib_is_not_too_big() -> None:
    assert {} == toml.parse("#" * (64 * 1024))


@pytest.mark.parametrize(
    "text, where",
    [
        ("a = 1\nb = \n", "profiles/gpu.toml:2"),
        ("a = 1\nb = 'x", "profiles/gpu.toml:2"),
        ("[a]\nb = 1\n[a]\n", "profiles/gpu.toml:3"),
        ("a = " + "9" * 5000, "profiles/gpu.toml"),
    ],
)
def test_every_parser_error_is_one_problem_with_its_line(text: str, where: str) -> None:
    problem = problem_of(text)

    assert ("profile.not-toml", where) == (problem.slug, problem.where)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib, of Python 3.11")
@pytest.mark.parametrize(
    "text, where", [("a = 1\nb = \nc = 2", "p.toml:2"), ("a = 1\n\nb = 'x", "p.toml:3")]
)
def test_the_standard_parser_names_lines_too(
    text: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tomli", None)
    with pytest.raises(AgentError) as error:
        toml.parse(text, "p.toml")

    assert ("profile.not-toml", where) == (error.value.problem.slug, error.value.problem.where)


def test_without_any_parser_the_problem_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tomli", None)
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    problem = problem_of("a = 1")

    assert "profile.no-parser" == problem.slug
    assert "tomli" in problem.fix


def test_the_standard_parser_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    standard = types.ModuleType("tomllib")
    standard.loads = lambda text: {"read by": "tomllib"}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tomli", None)
    monkeypatch.setitem(sys.modules, "tomllib", standard)
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))

    assert {"read by": "tomllib"} == toml.parse("a = 1")


@pytest.fixture
def isolated(tmp_path: Path) -> tuple[Path, str]:
    """Return an environment whose own packages hold a stand-in for tomli, and what parses there."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "tomli.py").write_text("def loads(text): return {'read by': __file__}")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from workspace_agent.config import toml\n"
        "print(toml.parse('a = 1'))"
    )
    return home, code


def test_a_boot_without_site_finds_the_parser_of_its_own_environment(
    isolated: tuple[Path, str],
) -> None:
    home, code = isolated
    python = [str(home / "bin" / "python"), "-I", "-S", "-c", code]
    done = subprocess.run(python, capture_output=True, text=True, check=True)

    assert os.fspath(home) in done.stdout


def test_a_system_interpreter_does_not_go_looking_for_packages(
    isolated: tuple[Path, str],
) -> None:
    home, code = isolated
    (home / "pyvenv.cfg").unlink()
    python = [str(home / "bin" / "python"), "-I", "-S", "-c", code]
    done = subprocess.run(python, capture_output=True, text=True, check=False)

    assert os.fspath(home) not in done.stdout
