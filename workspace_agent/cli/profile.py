"""`workspace-agent profile list | show | validate`."""

from __future__ import annotations

import os

import click

from workspace_agent.app import profiles
from workspace_agent.app.session import Told
from workspace_agent.cli.main import Options, pass_options
from workspace_agent.config import load as profile_loading


@click.group()
def profile() -> None:
    """List, show or validate profiles."""


@profile.command("list")
@pass_options
def list_(options: Options) -> None:
    """List the profiles that are shipped."""
    names = profile_loading.names(f"{options.session.root}/profiles")
    options.finish(Told(names, {"profiles": list(names)}))


@profile.command()
@click.argument("name", default="")
@pass_options
def show(options: Options, name: str) -> None:
    """Print every key with its value and where that came from."""
    loaded = profiles.chosen(options.session.environ, options.session.root, name=name)
    options.finish(Told(profiles.as_lines(loaded), profiles.as_data(loaded)))


@profile.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@pass_options
def validate(options: Options, files: tuple[str, ...]) -> None:
    """Check profile files; every mistake of every file is listed.

    \b
    Exit codes:
      0  no mistakes      2  mistakes, as FILE:LINE: KEY: what
    """
    found = [profiles.mistakes(options.session, os.path.abspath(path)) for path in files]
    problems = [problem for problem in found if problem]
    good = len(files) - len(problems)
    lines = [f"{good} of {len(files)} without mistakes"]
    options.finish(Told(lines, {"valid": good}, problems), bad=2)
