"""`workspace-agent why-gone`."""

from __future__ import annotations

import click

from workspace_agent.app import gone
from workspace_agent.cli.main import Options, pass_options


@click.command("why-gone")
@click.argument("what")
@pass_options
def why_gone(options: Options, what: str) -> None:
    """Say where a file or package was, what took it, and what keeps it.

    \b
    Examples:
      workspace-agent why-gone /root/results.csv
      workspace-agent why-gone pandas
    """
    options.finish(gone.why_gone(options.session, what))
