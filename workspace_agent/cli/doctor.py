"""`workspace-agent doctor`."""

from __future__ import annotations

import click

from workspace_agent.app import diagnosis
from workspace_agent.app.session import Told
from workspace_agent.cli.main import Options, pass_options


@click.command()
@pass_options
def doctor(options: Options) -> None:
    """Check what this machine can do, and how to fix the rest.

    Asks every step what it would do, compares what `kubectl exec` sees with what the workload
    sees, and looks at the agent's own install. Writes nothing.

    \b
    Exit codes:
      0  nothing to fix      3  something to fix, listed with its remedy
    """
    findings = diagnosis.examine(options.session)
    problems = [finding.problem for finding in findings if finding.problem]
    lines = [f"  {'ok' if f.problem is None else 'fix':<4} {f.about:<22} {f.why}" for f in findings]
    lines += ["", f"{len(findings) - len(problems)} ok, {len(problems)} to fix"]
    data = {"findings": [finding.to_json() for finding in findings]}
    options.finish(Told(lines, data, problems))
