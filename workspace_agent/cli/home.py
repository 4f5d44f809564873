"""`workspace-agent home status | diff | merge | reset | verify`."""

from __future__ import annotations

import click

from workspace_agent.app import home_change, home_look
from workspace_agent.cli.main import Options, pass_options

_dry_run = click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing")
_files = click.option(
    "--file",
    "files",
    metavar="PATH",
    multiple=True,
    help="Only this file of the home, or what is below this folder; repeatable",
)


@click.group()
def home() -> None:
    """Show the home's defaults, upgrade, reset or verify them."""


@home.command()
@pass_options
def status(options: Options) -> None:
    """Show where the home comes from and what became of its defaults."""
    options.finish(home_look.status(options.session))


@home.command()
@click.option("--file", metavar="PATH", default="", help="Compare the two versions of this file")
@click.option("--all", "everything", is_flag=True, help="List what is the same or yours alone, too")
@pass_options
def diff(options: Options, file: str, everything: bool) -> None:
    """List the defaults in which the home and this image differ.

    \b
    conflict  changed by you and in the image      new      only in this image
    changed   changed in the image alone           gone     not in this image any more
    yours     changed by you alone                 deleted  deleted by you
    unknown   differs, and nobody knows why: the home was not made by this agent

    \b
    Examples:
      workspace-agent home diff
      workspace-agent home diff --file .bashrc
    """
    options.finish(home_look.diff(options.session, file, everything))


@home.command()
@_files
@_dry_run
@pass_options
def merge(options: Options, files: tuple[str, ...], dry_run: bool) -> None:
    """Take over this image's defaults where you have changed nothing.

    What you have not changed is replaced, with a backup; what is new is added; where both sides
    changed yours stays, and the image's goes to .workspace-agent/defaults-new on the volume. What
    you deleted does not come back, and nothing is removed.

    \b
    Exit codes:
      0  done      3  nothing done: nobody knows what the home was made from
    """
    options.finish(home_change.merge(options.session, files, dry_run))


@home.command()
@_files
@click.option("--yes", is_flag=True, help="Needed for the whole home")
@_dry_run
@pass_options
def reset(options: Options, files: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Bring back this image's defaults, your versions into a backup.

    Files that are no defaults are not touched. For the whole home it is what deleting the marker
    does at the next boot.

    \b
    Examples:
      workspace-agent home reset --file .bashrc
      workspace-agent home reset --dry-run

    \b
    Exit codes:
      0  done      3  done in part: what has the place of a default is not one that it replaces
    """
    if not (files or yes or dry_run):
        raise click.UsageError("the whole home is reset with --yes only; --dry-run shows it")
    options.finish(home_change.reset(options.session, files, dry_run))


@home.command()
@pass_options
def verify(options: Options) -> None:
    """Read the home again, and say what is not as the image gave it.

    With -v every file that you changed or deleted is listed, too.

    \b
    Exit codes:
      0  nothing is damaged      3  damaged files, or nothing to compare with
    """
    options.finish(home_look.verify(options.session, options.verbose))
