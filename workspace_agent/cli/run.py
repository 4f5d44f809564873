"""`workspace-agent run`: hand over to the boot path, which needs none of this."""

from __future__ import annotations

import os
import sys

import click

from workspace_agent.cli.main import Options, pass_options


@click.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False})
@click.option("--system/--no-system", default=None, help="Write to /etc, or do not; by default"
              " only in a container")  # fmt: skip
@click.option("--grace", metavar="TIME", help="How long CMD may take to stop, such as 25s")
@click.argument("cmd", nargs=-1, type=click.UNPROCESSED)
@pass_options
def run(options: Options, system: bool | None, grace: str | None, cmd: tuple[str, ...]) -> None:
    """Set up the workspace, then run CMD and stay as its init.

    The exit code is CMD's own.

    \b
    Examples:
      workspace-agent run -- python train.py
      workspace-agent --profile ./gpu.toml run -- bash

    \b
    Exit codes:
      CMD's own; 128+N when signal N ended it; 143 when TERM ended it with 0
      125  the agent failed before CMD ran     126  CMD cannot be executed
      127  CMD was not found
    """
    wishes = options.variables()
    if system is not None:
        wishes["WORKSPACE_AGENT_SYSTEM"] = "1" if system else "0"
    if grace is not None:
        wishes["WORKSPACE_AGENT__WORKLOAD__GRACE"] = grace
    root = options.session.root
    argv = [sys.executable, "-I", "-S", f"{root}/workspace_agent/pid1.py", *cmd]
    os.execve(argv[0], argv, {**os.environ, **wishes})
