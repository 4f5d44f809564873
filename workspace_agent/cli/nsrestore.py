"""`workspace-agent nsrestore`."""

from __future__ import annotations

import sys

import click

from workspace_agent.app import entering
from workspace_agent.cli.main import Options, pass_options


@click.command()
@click.argument("which", metavar="[ID]", default="")
@click.option("--pid", type=int, required=True, help="Any process of the container")
@pass_options
def nsrestore(options: Options, which: str, pid: int) -> None:
    """Restore in another container of this node, by its process.

    For a node agent with the privileges that the container has not: it enters the namespaces of
    PID, and runs the container's own `workspace-agent restore` there. The container runs
    `workspace-agent placeholder`, and has the volume.
    """
    sys.exit(entering.nsrestore(pid, which, options.json))
