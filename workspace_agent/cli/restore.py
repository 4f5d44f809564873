"""`workspace-agent restore`."""

from __future__ import annotations

import click

from workspace_agent.app import standby
from workspace_agent.cli.main import Options, pass_options


@click.command()
@click.argument("which", metavar="[ID]", default="")
@click.option("--dry-run", is_flag=True, help="Say what is in the way; touch nothing")
@pass_options
def restore(options: Options, which: str, dry_run: bool) -> None:
    """Go on here with a checkpoint: ID, or the newest.

    ID is a version, a workload, or both, as `artifacts list` shows them. A container that starts
    with the agent in front does this by itself; by hand it is for one that runs `placeholder`.

    \b
    Exit codes:
      0  it goes on      1  it does not, and nothing of it is left      3  it would not (--dry-run)
    """
    options.finish(standby.restore(options.session, which, dry_run, options.tell))
