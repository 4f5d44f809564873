"""`workspace-agent replay status | plan | why | run | capture | prune`."""

from __future__ import annotations

import click

from workspace_agent.app import replay_verbs
from workspace_agent.cli.main import Options, pass_options


@click.group()
def replay() -> None:
    """Show, plan, run or prune the packages that every pod gets back."""


@replay.command()
@pass_options
def status(options: Options) -> None:
    """Show which environment is in use, its conflicts, and which are stored."""
    options.finish(replay_verbs.status(options.session))


@replay.command()
@pass_options
def plan(options: Options) -> None:
    """Show what a build would add to the image's packages, and what is at odds with them.

    \b
    +  added      !  the image has another version      =  the image's version stays
    """
    options.finish(replay_verbs.plan(options.session))


@replay.command()
@pass_options
def why(options: Options) -> None:
    """Show why the next boot builds an environment: what is not as it was."""
    options.finish(replay_verbs.why(options.session))


@replay.command()
@pass_options
def run(options: Options) -> None:
    """Restore or build the environment now, and store it; a failed build is tried again.

    \b
    Exit codes:
      0  in use and stored      3  not in use, or not stored
    """
    options.finish(replay_verbs.run(options.session, options.tell))


@replay.command()
@click.option("--dry-run", is_flag=True, help="Show what would be noted; write nothing")
@pass_options
def capture(options: Options, dry_run: bool) -> None:
    """Note what was installed by hand, and show what of it the next pod gets back.

    \b
    +  new    =  known    -  gone    !  of another installer: for you to put into setup.sh
    """
    options.finish(replay_verbs.capture(options.session, dry_run))


@replay.command()
@click.option("--keep", default=0, show_default=True, help="Keep so many that are not in use")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; write nothing")
@pass_options
def prune(options: Options, keep: int, dry_run: bool) -> None:
    """Remove stored environments that are not in use."""
    options.finish(replay_verbs.prune(options.session, keep, dry_run))
