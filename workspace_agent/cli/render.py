"""The only thing that prints: an answer as lines for people or as one JSON object."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, TextIO

import click

from workspace_agent.app.telling import Teller, counts
from workspace_agent.model.outcome import Report, Row, Status
from workspace_agent.model.words import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workspace_agent.app.session import Told
    from workspace_agent.model.problem import Problem

SCHEMA = "workspace-agent/1"

_COLOURS = {
    Status.OK: "green", Status.CHANGED: "cyan", Status.WOULD_CHANGE: "cyan",
    Status.FAILED: "red", Status.BLOCKED: "red",
}  # fmt: skip


_prefix = ""


def into_log() -> None:
    """Have every line say whose it is: they go to the pod's log, among the workload's own."""
    global _prefix
    _prefix = "workspace-agent: "


def show(told: Told, code: int, verb: str, *, as_json: bool, color: str, quiet: bool) -> None:
    """Print *told*: lines on stdout and problems on stderr, or the envelope on stdout."""
    if as_json:
        click.echo(_envelope([verb], code, told.data, told.problems))
        return
    coloured = wants_colour(sys.stdout, color)
    for line in told.lines if not quiet else told.lines[-1:]:
        click.echo(f"{_prefix}{line}", color=coloured)
    for problem in told.problems:
        _problem(problem, "error" if code in (1, 2) else "problem", color)


def progress(text: str) -> None:
    """Say what a long call is at: the first word after a second, then one every ten."""
    if not _teller:
        _teller.append(Teller(lambda: None, lambda line: click.echo(f"{_prefix}{line}", err=True)))
    _teller[0](text)


_teller: list[Teller] = []


def fail(problem: Problem, code: int, verb: str, *, as_json: bool) -> None:
    """Print *problem* as the end of the call, and exit with *code*."""
    if as_json:
        click.echo(_envelope([verb] if verb else [], code, None, [problem]))
    else:
        _problem(problem, "error", "auto")
    sys.exit(code)


def row(one: Row, *, color: bool = False) -> str:
    """Return a row of a plan or report: state, name, why, seconds."""
    word = f"{one.status.value:<13}"
    if color and one.status in _COLOURS:
        word = click.style(word, fg=_COLOURS[one.status])
    secs = duration(one.secs) if one.status is not Status.WOULD_CHANGE else ""
    return f"  {word} {one.name:<14} {one.why:<52} {secs:>7}".rstrip()


def report_lines(report: Report, header: str, color: bool, dry_run: bool) -> list[str]:
    """Return a whole report: facts, rows, one summary line."""
    rows = [row(one, color=color) for one in report.rows]
    if dry_run:
        todo, ok = report.count(Status.WOULD_CHANGE), report.count(Status.OK)
        summary = f"{todo} to change, {ok} ok. Nothing was written."
    else:
        summary = f"{counts(report)} in {duration(report.secs)}"
    return [header, "", *rows, "", summary]


def wants_colour(stream: TextIO, choice: str) -> bool:
    """Say whether *stream* gets colour: the flag, then NO_COLOR, FORCE_COLOR, then the terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _envelope(verb: Sequence[str], code: int, data: object, problems: Sequence[Problem]) -> str:
    status = {0: "ok", 3: "degraded"}.get(code, "error")
    return json.dumps(
        {
            "schema": SCHEMA,
            "command": list(verb),
            "status": status,
            "exit_code": code,
            "data": data,
            "problems": [problem.to_json() for problem in problems],
        }
    )


def _problem(problem: Problem, word: str, choice: str) -> None:
    first, *rest = problem.lines(word)
    coloured = wants_colour(sys.stderr, choice)
    head = first.replace(f"{word}:", click.style(f"{word}:", fg="red"), 1) if coloured else first
    lines = [f"{_prefix}{line}" for line in (head, *rest)]
    click.echo("\n".join(lines), err=True, color=coloured)
