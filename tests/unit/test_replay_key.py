"""What makes another environment, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.host.interpreter import Interpreter
from workspace_agent.replay import key, lines
from workspace_agent.replay.key import Policy

BASE = {"torch": "2.8.0+cu128", "numpy": "2.1"}


def made(folder: Path, text: str = "a==1\nb\n", **more: object) -> str:
    """Return the key of a file with *text*, and of the rest."""
    path = folder / "requirements.txt"
    path.write_text(text)
    given = {
        "python": Interpreter("/usr/bin/python3", "", "cp311-x86_64"),
        "base": BASE,
        "policy": Policy(),
        "environ": {},
        "rule": "",
        "place": "/opt/workspace-env",
        **more,
    }
    python, base, policy = (given.pop(name) for name in ("python", "base", "policy"))
    return key.digest(key.facts(lines.read([str(path)]), python, base, policy, **given))


@pytest.mark.parametrize(
    ("text", "is_same"),
    [
        ("a==1\nb\n", True),
        ("# a comment\n\na==1   # why\n  b\r\n", True),
        ("a==1 \\\n\nb", True),
        ("--no-cache-dir\na==1\nb\n", True),
        ("b\na==1\n", False),
        ("a==1.0\nb\n", False),
        ("a==1\nb[x]\n", False),
        ("a==1\nb ; python_version > '3'\n", False),
        ("--pre\na==1\nb\n", False),
        ("a==1\nb\n--extra-index-url https://h/x\n", False),
    ],
)
def test_only_what_is_asked_for_counts(tmp_path: Path, text: str, is_same: bool) -> None:
    assert is_same is (made(tmp_path) == made(tmp_path, text))


@pytest.mark.parametrize(
    "more",
    [
        {"base": {**BASE, "torch": "2.9.0"}},
        {"base": {**BASE, "scipy": "1"}},
        {"python": Interpreter("/usr/bin/python3", "", "cp313-x86_64")},
        {"python": Interpreter("/opt/conda/bin/python3", "", "cp311-x86_64")},
        {"python": Interpreter("/usr/bin/env", "", "cp311-x86_64")},
        {"place": "/var/tmp/x"},
        {"rule": "blackwell"},
        {"policy": Policy(mode="isolated")},
        {"policy": Policy(on_conflict="fail")},
        {"policy": Policy(protected=("torch",))},
        {"environ": {"PIP_INDEX_URL": "https://mirror/simple"}},
        {"environ": {"UV_EXCLUDE_NEWER": "2026-01-01"}},
        {"environ": {"PIP_ONLY_BINARY": ":all:"}},
    ],
)
def test_what_it_is_made_with_counts(tmp_path: Path, more: dict) -> None:
    assert made(tmp_path) != made(tmp_path, **more)


@pytest.mark.parametrize(
    "more",
    [
        {"environ": {"HOSTNAME": "pod-7", "USER": "x", "HOME": "/y", "PIP_PROXY": "z"}},
        {"base": dict(reversed(BASE.items()))},
    ],
)
def test_where_and_when_it_is_made_does_not(tmp_path: Path, more: dict) -> None:
    assert made(tmp_path) == made(tmp_path, **more)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://u:secret@h/s", "https://u:other@h/s"),
        ("https://u:secret@h/s", "https://h/s"),
        ("https://token@h/s", "https://another@h/s"),
        ("https://u:pa@ss@h/s", "https://u:pa@55@h/s"),
        ("https://h/s?token=one&x=1", "https://h/s?token=two&x=1"),
    ],
)
def test_a_credential_that_is_changed_builds_nothing(tmp_path: Path, one: str, other: str) -> None:
    said = {made(tmp_path, f"--index-url {url}\na\n") for url in (one, other)}
    told = {made(tmp_path, "a\n", environ={"PIP_INDEX_URL": url}) for url in (one, other)}
    assert (1, 1) == (len(said), len(told))


def test_a_variable_counts_by_its_name(tmp_path: Path) -> None:
    text = "--index-url https://${USER}:${PASSWORD}@h/s\na\n"
    assert made(tmp_path, text) == made(tmp_path, text, environ={"PASSWORD": "x"})


def nested(folder: Path, pin: str) -> str:
    (folder / "below").mkdir(exist_ok=True)
    (folder / "below/b.txt").write_text(f"-c c.txt\n{pin}\n")
    (folder / "below/c.txt").write_text("c<2\n")
    return made(folder, "-r below/b.txt\n")


def test_a_pin_in_a_nested_file_counts_and_a_comment_there_does_not(tmp_path: Path) -> None:
    first = nested(tmp_path, "b==1")
    assert first != nested(tmp_path, "b==2")
    assert first == nested(tmp_path, "# only a word\nb==1")


def test_a_constraint_is_not_a_requirement(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a<2\n")
    assert made(tmp_path, "-r x.txt\n") != made(tmp_path, "-c x.txt\n")


def wheel(folder: Path, data: str) -> str:
    (folder / "a-1-py3-none-any.whl").write_text(data)
    return "./a-1-py3-none-any.whl\n"


def project(folder: Path, version: str) -> str:
    (folder / "p").mkdir(exist_ok=True)
    (folder / "p/pyproject.toml").write_text(f"[project]\nversion = {version!r}\n")
    return "-e ./p[extra]\n"


@pytest.mark.parametrize("local", [wheel, project])
def test_what_a_local_path_leads_to_counts(tmp_path: Path, local: Callable) -> None:
    first = made(tmp_path, local(tmp_path, "1"))
    assert first == made(tmp_path, local(tmp_path, "1"))
    assert first != made(tmp_path, local(tmp_path, "2"))


def test_the_code_of_an_editable_project_does_not(tmp_path: Path) -> None:
    text = project(tmp_path, "1")
    first = made(tmp_path, text)
    (tmp_path / "p/code.py").write_text("x = 1\n")
    assert first == made(tmp_path, text)


def test_facts_hold_no_credential(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("--index-url https://u:canary@h/s\na @ https://canary@h/a.whl?token=canary\n")
    python = Interpreter("/usr/bin/python3", "", "cp311-x86_64")
    environ = {"UV_INDEX": "x=https://u:canary@h/s", "PIP_EXTRA_INDEX_URL": "https://canary@h"}
    found = key.facts(lines.read([str(path)]), python, {}, Policy(), environ=environ)
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2, "b": 3}, ["a: 1 -> 2", "b: None -> 3"]),
        ({"l": ["x", "y"]}, {"l": ["y", "z"]}, ["l: - x", "l: + z"]),
        ({"l": ["x", "y"]}, {"l": ["y", "x"]}, ["l: in another order"]),
        ({"l": ["x"]}, {"l": 3}, ["l: ['x'] -> 3"]),
        ({"l": [["x"], 3]}, {"l": [3, ["x"]]}, ["l: in another order"]),
    ],
)
def test_a_difference_is_said_line_by_line(old: dict, new: dict, expected: list[str]) -> None:
    assert expected == key.difference(old, new)
