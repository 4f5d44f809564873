"""`workspace-agent image bake`."""

from __future__ import annotations

import click

from workspace_agent.app import bake as baking
from workspace_agent.app.session import Told
from workspace_agent.cli import render
from workspace_agent.cli.main import Options, pass_options


@click.group()
def image() -> None:
    """Put the static half in place, at image build."""


@image.command()
@pass_options
def bake(options: Options) -> None:
    """Compile this install and this image for the fast path.

    Run it as root, as the last step of an image build: shell hooks in /etc, the compiled
    profile, bytecode, the command in /usr/local/bin. A container of the image on a volume that
    it knows then starts CMD without asking the engine.

    \b
    Examples:
      RUN python3 -I /opt/workspace-agent/workspace_agent image bake
    """
    report = baking.bake(options.session)
    lines = render.report_lines(report, f"image at {options.session.root}", False, False)
    data = {"steps": [row.to_json() for row in report.rows]}
    options.finish(Told(lines, data, report.problems), bad=1)
