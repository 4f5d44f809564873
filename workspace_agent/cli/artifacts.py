"""`workspace-agent artifacts list | show | verify | prune | export | import`."""

from __future__ import annotations

import click

from workspace_agent.app import artifact_verbs, parcels
from workspace_agent.cli.main import Options, pass_options


@click.group()
def artifacts() -> None:
    """List, show, verify, prune or move what is frozen."""


@artifacts.command("list")
@pass_options
def list_(options: Options) -> None:
    """List all checkpoints on the volume; * is what the next container goes on with."""
    options.finish(artifact_verbs.listed(options.session))


@artifacts.command()
@click.argument("which", metavar="ID")
@pass_options
def show(options: Options, which: str) -> None:
    """Show one: its processes, files and machine, and what became of it so far."""
    options.finish(artifact_verbs.show(options.session, which))


@artifacts.command()
@click.argument("which", metavar="[ID]", default="")
@pass_options
def verify(options: Options, which: str) -> None:
    """Read one, or all, and say which files are not as they were written."""
    options.finish(artifact_verbs.verify(options.session, which), bad=1)


@artifacts.command()
@click.option("--keep", default=-1, metavar="N", help="Keep so many of each workload")
@click.option("--damaged", is_flag=True, help="Remove those that `verify` finds, too")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing")
@pass_options
def prune(options: Options, keep: int, damaged: bool, dry_run: bool) -> None:
    """Remove old ones; what the next container goes on with stays."""
    options.finish(artifact_verbs.prune(options.session, keep, damaged, dry_run))


@artifacts.command()
@click.argument("which", metavar="ID")
@click.argument("file", type=click.Path(dir_okay=False))
@pass_options
def export(options: Options, which: str, file: str) -> None:
    """Write one to FILE, as a tar; it holds all of the workload's memory."""
    options.finish(parcels.export(options.session, which, file))


@artifacts.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@pass_options
def import_(options: Options, file: str) -> None:
    """Take in what `export` wrote; whoever made FILE can run code in the workload's place."""
    options.finish(parcels.take_in(options.session, file))
