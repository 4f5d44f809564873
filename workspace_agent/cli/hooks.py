"""`workspace-agent hooks pre-stop`."""

from __future__ import annotations

import click

from workspace_agent.app import checkpointing
from workspace_agent.cli.main import Options, pass_options


@click.group()
def hooks() -> None:
    """Be a hook of the pod's lifecycle."""


@hooks.command("pre-stop")
@click.option("--budget", type=float, default=20.0, show_default=True, metavar="SECONDS",
              help="Take no longer: it is part of the pod's grace")  # fmt: skip
@pass_options
def pre_stop(options: Options, budget: float) -> None:
    """Freeze the workload if that fits, else keep what is outside the volume.

    To be called before the pod is told to end; twice does no harm. What the time was spent on is in
    the ledger: `workspace-agent artifacts show`.
    """
    options.finish(checkpointing.before_stop(options.session, budget, options.tell), bad=0)
