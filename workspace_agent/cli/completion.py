"""`workspace-agent completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from workspace_agent.app.session import Told
from workspace_agent.cli.main import Options, cli, pass_options


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_options
def completion(options: Options, shell: str) -> None:
    """Print a completion script for bash, zsh or fish.

    \b
    Examples:
      source <(workspace-agent completion bash)
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    script = found(cli, {}, "workspace-agent", "_WORKSPACE_AGENT_COMPLETE").source()
    options.finish(Told(script.splitlines(), {"shell": shell, "script": script}))
