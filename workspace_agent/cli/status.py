"""`workspace-agent status`."""

from __future__ import annotations

import click

from workspace_agent.app import look
from workspace_agent.cli.main import Options, pass_options


@click.command()
@pass_options
def status(options: Options) -> None:
    """Show the volume, the workload and how the last boot went.

    Reads files only: it answers also when the agent is wedged or gone.

    \b
    Examples:
      workspace-agent status
      workspace-agent --json status
    """
    options.finish(look.status(options.session, options.verbose))
