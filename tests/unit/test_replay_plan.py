"""What is added beside the image's packages, and what is said of it."""

from __future__ import annotations

import json

import pytest

from workspace_agent.replay import plan
from workspace_agent.replay.key import Policy
from workspace_agent.replay.lines import Line
from workspace_agent.replay.plan import Plan

BASE = {"torch": "2.8.0+cu128", "numpy": "2.1.0"}


def lines(*texts: str, constraint: bool = False) -> list[Line]:
    return [Line(text, "/w/requirements.txt", n, constraint) for n, text in enumerate(texts, 1)]


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"changes": 3}', '{"changes": [3]}', "null"])
def test_what_is_no_dry_run_is_not_taken_for_an_empty_one(text: str) -> None:
    assert plan.from_uv(text.encode()) is plan.from_pip(text.encode()) is None


def test_a_dry_run_of_uv_names_what_is_installed() -> None:
    changes = [
        {"action": "installed", "name": "A_b", "version": "1"},
        {"action": "installed", "name": "link", "version": None},
        {"action": "removed", "name": "numpy", "version": "2.1.0"},
    ]
    assert {"a-b": "1", "link": ""} == plan.from_uv(json.dumps({"changes": changes}).encode())


def test_a_report_of_pip_names_no_version_where_only_the_line_tells() -> None:
    install = [
        {"metadata": {"name": "A_b", "version": "1"}},
        {"metadata": {"name": "c", "version": "2"}, "is_direct": True},
    ]
    assert {"a-b": "1", "c": ""} == plan.from_pip(json.dumps({"install": install}).encode())


@pytest.mark.parametrize(
    ("policy", "additions", "conflicts", "kept"),
    [
        ("shadow", {"torch": "2.6.0", "rich": "13"}, ["torch"], []),
        ("fail", {"torch": "2.6.0", "rich": "13"}, ["torch"], []),
        ("keep-base", {"rich": "13"}, [], ["torch"]),
    ],
)
def test_what_is_at_odds_is_decided_by_the_policy(
    policy: str, additions: dict, conflicts: list[str], kept: list[str]
) -> None:
    found = plan.decide(
        {"torch": "2.6.0", "rich": "13"}, BASE, lines("torch==2.6.0", "rich"),
        Policy(on_conflict=policy, protected=("torch",)),
    )  # fmt: skip
    assert additions == found.additions
    assert conflicts == [one.name for one in found.conflicts]
    assert kept == [one.name for one in found.kept]


@pytest.mark.parametrize(
    ("asked", "added", "expected"),
    [
        (
            ("a", "torch==2.6.0 --hash=sha256:00"),
            0,
            "requirements.txt:2 wants torch==2.6.0; the image has 2.8.0+cu128",
        ),
        (
            ("torch @ https://u:canary@h/torch.whl",),
            3 << 30,
            "requirements.txt:1 wants torch @ https://h/torch.whl; the image has 2.8.0+cu128;"
            " this adds 3.0 GiB per restore",
        ),
        (("other",), 0, "what is asked for needs torch 2.6.0; the image has 2.8.0+cu128"),
    ],
)
def test_a_conflict_says_who_asks(asked: tuple[str, ...], added: int, expected: str) -> None:
    (one,) = plan.decide({"torch": "2.6.0"}, BASE, lines(*asked), Policy()).conflicts
    assert expected == one.sentence(added)


def test_company_counts_to_the_first_that_was_pinned() -> None:
    wanted = {"torch": "2.6.0", "nvidia-cublas": "12", "triton": "3", "rich": "1"}
    policy = Policy(protected=("torch", "nvidia-*", "triton"))
    (one,) = plan.decide(wanted, BASE, lines("torch==2.6.0"), policy).conflicts
    assert (True, ("nvidia-cublas", "triton")) == (one.is_protected, one.brings)


@pytest.mark.parametrize(
    ("asked", "additions", "expected"),
    [
        (("a>=1",), {"a": "1", "b": "2"}, ["a==1", "b==2"]),
        (("--pre", "a"), {"a": "1"}, ["--pre", "a==1"]),
        (("a @ https://h/a.whl", "b"), {"a": "1", "b": "2"}, ["a @ https://h/a.whl", "b==2"]),
        (("a==1 --hash=x", "b==2 --hash=y"), {"a": "1"}, ["a==1 --hash=x"]),
        (("git+https://h/a#egg=A",), {"a": ""}, ["git+https://h/a#egg=A"]),
        (("/w/a-1-py3-none-any.whl",), {"a": ""}, ["/w/a-1-py3-none-any.whl"]),
        (("-e /w/p",), {"p": ""}, ["-e /w/p"]),
        (("a",), {}, []),
    ],
)
def test_what_is_installed_is_exactly_the_plan(
    asked: tuple[str, ...], additions: dict, expected: list[str]
) -> None:
    bound = lines("a<9", "-c x", constraint=True)
    text = plan.as_requirements(Plan(additions), [*lines(*asked), *bound])
    assert expected == text.splitlines()
