"""One record: what, why, fix, where, slug."""

from __future__ import annotations

from workspace_agent.model.problem import AgentError, Problem

FULL = Problem("a.b", "it is not right", "this\nand that", "do this", "/there:7")


def test_the_human_form_has_what_then_why_fix_where_and_the_slug_last() -> None:
    assert (
        "error: it is not right",
        "  why: this",
        "       and that",
        "  fix: do this",
        "  where: /there:7",
        "  (a.b)",
    ) == FULL.lines()


def test_what_is_empty_has_no_line() -> None:
    assert ("degraded: x", "  (a.b)") == Problem("a.b", "x").lines("degraded")


def test_in_json_every_field_is_there() -> None:
    assert {"slug": "a.b", "what": "x", "why": "", "fix": "", "where": ""} == Problem(
        "a.b", "x"
    ).to_json()


def test_json_leads_back_to_the_same_problem() -> None:
    assert FULL == Problem(**FULL.to_json())


def test_an_error_carries_its_problem_and_says_what() -> None:
    error = AgentError(FULL)

    assert (FULL, "it is not right") == (error.problem, str(error))


def test_no_line_of_it_is_for_a_terminal_to_act_on() -> None:
    """Names of files come from anybody."""
    name = "\x1b]0;owned\x07"
    lines = Problem("slug", f"what {name}", f"why {name}\nmore", f"fix {name}", name).lines()

    assert all(line.isprintable() for line in lines)
    assert 6 == len(lines)
