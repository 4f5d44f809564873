"""`workspace-agent setup`."""

from __future__ import annotations

import sys

import click

from workspace_agent.app import setting_up
from workspace_agent.app.session import Told
from workspace_agent.cli import render
from workspace_agent.cli.main import Options, pass_options


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would change and write nothing")
@click.option("--only", metavar="STEP", multiple=True, help="Run this step alone; repeatable")
@click.option("--skip", metavar="STEP", multiple=True, help="Leave this step out; repeatable")
@click.option("--strict", is_flag=True, help="Exit with 1 instead of 3 when a step did not succeed")
@pass_options
def setup(
    options: Options, dry_run: bool, only: tuple[str, ...], skip: tuple[str, ...], strict: bool
) -> None:
    """Make the workspace ready, and say what changed.

    The same steps as at boot; run it twice and the second changes nothing.

    \b
    Examples:
      workspace-agent setup --dry-run
      workspace-agent setup --only home.seed
    """
    header, report = setting_up.set_up(options.session, dry_run=dry_run, only=only, skip=skip)
    color = render.wants_colour(sys.stdout, options.color)
    lines = render.report_lines(report, header, color, dry_run)
    data = {"dry_run": dry_run, "steps": [row.to_json() for row in report.rows]}
    options.finish(Told(lines, data, report.problems), bad=1 if strict else 3)
