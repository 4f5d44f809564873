"""`workspace-agent at-risk`."""

from __future__ import annotations

import sys

import click

from workspace_agent.app import at_risk as app
from workspace_agent.cli import render
from workspace_agent.cli.main import FAILED, Options, pass_options
from workspace_agent.config.units import RefusedError, parse_duration


@click.command("at-risk")
@click.option("--all", "every", is_flag=True, help="List each file")
@click.option("--hidden", is_flag=True, help="With --all: what nobody misses, too")
@click.option("--since", metavar="TIME", help="Only what changed so long ago, such as 10m")
@click.option("--fail", is_flag=True, help="Exit with 1 if something precious would be lost")
@pass_options
def at_risk(options: Options, every: bool, hidden: bool, since: str | None, fail: bool) -> None:
    """Show what would be lost if this container ended now.

    With each kind the command that would have kept it.

    \b
    Examples:
      workspace-agent at-risk
      workspace-agent at-risk --all --since 10m
      workspace-agent at-risk --fail || echo save your work
    """
    try:
        secs = parse_duration(since) if since else 0.0
    except RefusedError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error
    told, failed = app.at_risk(options.session, every=every, since=secs, fail=fail, unseen=hidden)
    if not failed:
        options.finish(told)
    render.show(told, FAILED, options.verb, as_json=options.json, color=options.color,
                quiet=options.quiet)  # fmt: skip
    sys.exit(FAILED)
