"""The root of the command line: global flags, the exit codes, the one place errors are caught."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import click

from workspace_agent import __version__
from workspace_agent.app import session as sessions
from workspace_agent.cli import render
from workspace_agent.cli.lazy import LazyGroup
from workspace_agent.model.problem import AgentError, ImpossibleError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED, USAGE, IMPOSSIBLE, BUSY, INTERRUPTED = 1, 2, 4, 5, 130


@dataclass
class Options:
    """The global flags of one call."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: str = "auto"
    profile: str | None = None
    volume: str | None = None
    verb: str = ""

    @cached_property
    def session(self) -> sessions.Session:
        """Find out where we are, once."""
        return sessions.find(self.variables())

    def variables(self) -> dict[str, str]:
        """Return the flags as the variables that the boot path reads."""
        table = {
            "WORKSPACE_AGENT_PROFILE": self.profile,
            "WORKSPACE_VOLUME": self.volume,
            "WORKSPACE_AGENT_JSON": "1" if self.json else None,
            "WORKSPACE_AGENT_QUIET": "1" if self.quiet else None,
            "WORKSPACE_AGENT_VERBOSE": "1" if self.verbose else None,
        }
        return {name: value for name, value in table.items() if value}

    def tell(self, text: str) -> None:
        """Say on stderr, now and then, what a long call is at."""
        if not (self.json or self.quiet):
            render.progress(text)

    def finish(self, told: sessions.Told, bad: int = 3) -> None:
        """Print *told* in the form asked for; exit with 0, or *bad* if anything is not right."""
        code = bad if told.problems else 0
        render.show(told, code, self.verb, as_json=self.json, color=self.color, quiet=self.quiet)
        sys.exit(code)


pass_options = click.make_pass_decorator(Options)


# Each has a variable, too, and help says which.
_option = partial(click.option, show_envvar=True)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@_option(
    "--profile", metavar="NAME|FILE", envvar="WORKSPACE_AGENT_PROFILE", help="The profile to use"
)
@_option(
    "--volume", metavar="DIR", envvar="WORKSPACE_VOLUME",
    help="The volume, where none of the profile's candidates is meant",
)  # fmt: skip
@_option(
    "--json", "as_json", is_flag=True, envvar="WORKSPACE_AGENT_JSON",
    help="One JSON object on stdout, whatever happens",
)  # fmt: skip
@_option(
    "-q", "--quiet", is_flag=True, envvar="WORKSPACE_AGENT_QUIET",
    help="Only problems and the summary",
)  # fmt: skip
@_option(
    "-v", "--verbose", is_flag=True, envvar="WORKSPACE_AGENT_VERBOSE",
    help="Every row, and a traceback when the agent itself breaks",
)  # fmt: skip
@_option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto",
    envvar="WORKSPACE_AGENT_COLOR", help="When to use colour",
)  # fmt: skip
@click.version_option(__version__, message="workspace-agent %(version)s")
@click.pass_context
def cli(
    ctx: click.Context,
    profile: str | None,
    volume: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    color: str,
) -> None:
    """Make the next GPU pod come back as the last one was left.

    \b
    Exit codes:
      0  done                          3  done in part: usable, and not all is right
      1  failed, and said why          4  not possible on this machine
      2  wrong usage or profile        5  busy: somebody else holds the lock
      `run` exits as CMD does: docs/reference/exit-codes.md
    """  # fmt: skip
    verb = ctx.invoked_subcommand or ""
    ctx.obj = Options(as_json, quiet, verbose, color, profile, volume, verb)


def _wish(words: Sequence[str]) -> tuple[str, bool]:
    """Return the verb in *words*, and whether JSON is wanted, for a call that fails on its way."""
    as_json, rest = bool(os.environ.get("WORKSPACE_AGENT_JSON")), list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        as_json = as_json or word == "--json"
        if word in ("--profile", "--volume", "--color") and rest:
            rest.pop(0)
    return (rest[0] if rest else ""), as_json


def _code(error: AgentError) -> int:
    if isinstance(error, ImpossibleError):
        return IMPOSSIBLE
    slug = error.problem.slug
    return USAGE if slug.startswith("profile.") else BUSY if slug.endswith(".busy") else FAILED


def entry(argv: list[str] | None = None) -> None:
    """Run the command line; the only place where an error becomes an exit code."""
    words = sys.argv[1:] if argv is None else argv
    verb, as_json = _wish(words)
    try:
        ended = cli.main(args=words, prog_name="workspace-agent", standalone_mode=False)
        sys.exit(ended if isinstance(ended, int) else 0)  # click hands the code of an Exit back
    except click.UsageError as error:
        usage = Problem("usage", error.format_message(), fix="`workspace-agent --help`")
        code = USAGE
        render.fail(usage, code, verb, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except AgentError as error:
        code = _code(error)
        render.fail(error.problem, code, verb, as_json=as_json)
    except Exception as error:
        if "-v" in words or "--verbose" in words:
            raise
        what = f"the agent broke: {type(error).__name__}: {error}"
        bug = Problem("agent.crashed", what, fix="run it again with -v, and report what it prints")
        render.fail(bug, FAILED, verb, as_json=as_json)
