"""`workspace-agent placeholder`."""

from __future__ import annotations

import sys

import click

from workspace_agent.app import standby
from workspace_agent.cli import render
from workspace_agent.cli.main import Options, pass_options


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--for", "secs", type=float, default=0.0, metavar="SECONDS",
              help="Then start CMD afresh; 0 waits for ever")  # fmt: skip
@click.option("--artifact", default="", metavar="ID", help="This one, and not the newest of CMD")
@click.argument("cmd", nargs=-1, type=click.UNPROCESSED)
@pass_options
def placeholder(options: Options, secs: float, artifact: str, cmd: tuple[str, ...]) -> None:
    """Wait for a checkpoint of CMD, and go on with it.

    As a container's command: it does nothing until there is a checkpoint, and then the container is
    the workload's. `SNAPSHOT_RESTORE_STANDBY=1` has entrypoint.sh do so with its own CMD.

    \b
    Examples:
      workspace-agent placeholder -- python serve.py
      workspace-agent placeholder --for 60 -- python serve.py
    """
    render.into_log()
    sys.exit(standby.placeholder(options.session, secs, artifact, cmd, options.tell))
