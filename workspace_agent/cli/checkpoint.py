"""`workspace-agent checkpoint`."""

from __future__ import annotations

import sys

import click

from workspace_agent.app import checkpointing
from workspace_agent.cli import render
from workspace_agent.cli.main import Options, pass_options
from workspace_agent.model.problem import AgentError


@click.command()
@click.option("--leave-running", is_flag=True, help="Let the workload run on afterwards")
@click.option("--label", default="", metavar="TEXT", help="Keep it when the workload ends, as TEXT")
@click.option("--timeout", type=float, default=0.0, metavar="SECONDS", help="Take no longer")
@click.option("--wait-ready", is_flag=True, help="Wait until the workload says that it is ready")
@click.option("--dry-run", is_flag=True, help="Say what is in the way; touch nothing")
@click.option("--grace", type=float, default=-1.0, hidden=True)
@click.option("--ended", type=int, default=None, hidden=True)
@pass_options
def checkpoint(
    options: Options, leave_running: bool, label: str, timeout: float, wait_ready: bool,
    dry_run: bool, grace: float, ended: int | None,
) -> None:  # fmt: skip
    """Freeze the workload's processes; the next container goes on.

    \b
    Examples:
      workspace-agent checkpoint --dry-run
      workspace-agent checkpoint --leave-running

    \b
    Exit codes:
      0  made      1  not made, and the workload runs on      4  not possible here      5  busy
    """
    if ended is not None or grace >= 0:  # by PID 1
        render.into_log()
    if dry_run:
        options.finish(checkpointing.dry_run(options.session), bad=4)
    if ended is not None:
        options.finish(checkpointing.ended(options.session, ended))
    wish = checkpointing.Wish(leave_running, label, timeout or max(0.0, grace), grace, wait_ready)
    try:
        options.finish(checkpointing.checkpoint(options.session, wish, options.tell))
    except AgentError as error:
        if error.problem.slug == "checkpoint.no-workload" and grace >= 0:
            sys.exit(1)  # the pod of a placeholder ends, and nobody needs to hear of it
        raise
