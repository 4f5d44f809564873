"""`workspace-agent rescue [plan | ls | show | restore | undo | prune]`."""

from __future__ import annotations

import click

from workspace_agent.app import rescue_verbs
from workspace_agent.cli.main import Options, pass_options
from workspace_agent.watch.kinds import KINDS

_BYTES = [name for name, one in KINDS.items() if one.rescued == "bytes"]


@click.group(invoke_without_command=True)
@click.option("--budget", type=float, default=0.0, metavar="SECONDS",
              help="Take no longer; 0 is as long as it takes")  # fmt: skip
@click.pass_context
def rescue(ctx: click.Context, budget: float) -> None:
    """Keep what is outside the volume, or put back what was kept.

    \b
    Examples:
      workspace-agent rescue
      workspace-agent rescue plan
      workspace-agent rescue restore --dry-run /root/work
    """
    options: Options = ctx.obj
    if ctx.invoked_subcommand is None:
        options.finish(rescue_verbs.now(options.session, budget, options.tell))


@rescue.command()
@pass_options
def plan(options: Options) -> None:
    """Show what a stop of this pod would keep in its grace, what not, and which grace would do."""
    options.finish(rescue_verbs.plan(options.session))


@rescue.command()
@pass_options
def ls(options: Options) -> None:
    """List the containers that have left something on the volume."""
    options.finish(rescue_verbs.ls(options.session))


@rescue.command()
@click.argument("run", default="")
@pass_options
def show(options: Options, run: str) -> None:
    """Show what is kept, of one RUN or of all that the next boot looks at; ! was not kept."""
    options.finish(rescue_verbs.show(options.session, run))


@rescue.command()
@click.argument("paths", nargs=-1)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(_BYTES), help="All of a kind")
@click.option("--to", default="", metavar="DIR", help="Below DIR, and not where it was")
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing")
@pass_options
def restore(
    options: Options, paths: tuple[str, ...], kinds: tuple[str, ...], to: str, dry_run: bool
) -> None:
    """Put back PATHS and what is below them, or all; nothing newer is overwritten."""
    options.finish(rescue_verbs.restore(options.session, paths, kinds, to, dry_run))


@rescue.command()
@pass_options
def undo(options: Options) -> None:
    """Take away what this boot has put back, where nobody has changed it since."""
    options.finish(rescue_verbs.undo(options.session))


@rescue.command()
@click.option("--keep", default=3, show_default=True, help="Keep so many that are not needed")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing")
@pass_options
def prune(options: Options, keep: int, dry_run: bool) -> None:
    """Remove what no boot looks at any more."""
    options.finish(rescue_verbs.prune(options.session, keep, dry_run))
