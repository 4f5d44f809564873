"""A group that knows its verbs by name and line, and loads one when it is called."""

from __future__ import annotations

import difflib
from importlib import import_module

import click

# Section -> verb, which is its module's name -> its help's first line; a test keeps them equal.
SECTIONS = {
    "Everyday": {
        "run": "Set up the workspace, then run CMD and stay as its init",
        "setup": "Make the workspace ready, and say what changed",
        "status": "Show the volume, the workload and how the last boot went",
        "home": "Show the home's defaults, upgrade, reset or verify them",
        "replay": "Show, plan, run or prune the packages that every pod gets back",
        "at-risk": "Show what would be lost if this container ended now",
        "rescue": "Keep what is outside the volume, or put back what was kept",
        "checkpoint": "Freeze the workload's processes; the next container goes on",
        "artifacts": "List, show, verify, prune or move what is frozen",
        "why-gone": "Say where a file or package was, what took it, and what keeps it",
        "env": "Run CMD with the workload's environment, or print it",
    },
    "Plumbing": {
        "profile": "List, show or validate profiles",
        "doctor": "Check what this machine can do, and how to fix the rest",
        "hooks": "Be a hook of the pod's lifecycle",
        "image": "Put the static half in place, at image build",
        "restore": "Go on here with a checkpoint: ID, or the newest",
        "placeholder": "Wait for a checkpoint of CMD, and go on with it",
        "nsrestore": "Restore in another container of this node, by its process",
        "completion": "Print a completion script for bash, zsh or fish",
    },
}

VERBS = {name: line for verbs in SECTIONS.values() for name, line in verbs.items()}


class LazyGroup(click.Group):
    """Root help loads no verb; a wrong name gets a suggestion."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Load one verb."""
        if name not in VERBS:
            return None
        module = name.replace("-", "_")
        command: click.Command = getattr(import_module(f"workspace_agent.cli.{module}"), module)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one may have been meant."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], VERBS, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise click.UsageError(f"there is no verb `{args[0]}`{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections from the table."""
        for section, verbs in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(list(verbs.items()))
