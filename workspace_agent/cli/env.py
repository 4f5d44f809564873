"""`workspace-agent env`: what `kubectl exec` and cron lack."""

from __future__ import annotations

import os

import click

from workspace_agent.app.session import Told
from workspace_agent.cli.main import Options, pass_options
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.recipe import inside, is_name, quoted
from workspace_agent.supervise import exitcode, spawn


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("cmd", nargs=-1, type=click.UNPROCESSED)
@pass_options
def env(options: Options, cmd: tuple[str, ...]) -> None:
    """Run CMD with the workload's environment, or print it.

    For `kubectl exec`, cron and probes, which see the image's environment only. Printed, it is
    in a form that a shell can read back; secrets are printed too.

    \b
    Examples:
      workspace-agent env -- python -c 'import torch'
      eval "$(workspace-agent env)"
    """
    found = options.session.workload_environ()
    if not found:
        fix = "start the container with entrypoint.sh, or run `workspace-agent setup`"
        raise AgentError(Problem("agent.not-running", "no boot has left its environment", fix=fix))
    if cmd:
        error = spawn.execute(cmd, inside(os.environ, found, options.session.environ))
        click.echo(f"workspace-agent: `{cmd[0]}`: {os.strerror(error)}", err=True)
        raise click.exceptions.Exit(exitcode.not_started(error))
    lines = [f"export {name}={quoted(value)}" for name, value in sorted(found.items())
             if is_name(name)]  # fmt: skip
    options.finish(Told(lines, {"env": found}))
