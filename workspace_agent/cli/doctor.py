"""`workspace-agent doctor`."""

from __future__ import annotations

import click

from workspace_agent.app import ability, diagnosis
from workspace_agent.app.session import Told
from workspace_agent.cli.main import Options, pass_options


@click.command()
@click.option(
    "--for", "role", type=click.Choice(["checkpoint", "restore"]),
    help="Ask whether the workload's processes can be frozen, or brought back, here",
)  # fmt: skip
@pass_options
def doctor(options: Options, role: str | None) -> None:
    """Check what this machine can do, and how to fix the rest.

    Asks every step what it would do, compares what `kubectl exec` sees with what the workload
    sees, and looks at the agent's own install. Writes nothing.

    With --for it says what CRIU may do here, tries it with a process of its own, and lists what
    in the running workload stands against a checkpoint, without touching the workload.

    \b
    Exit codes:
      0  nothing to fix      3  something to fix, listed with its remedy
      4  (with --for) not possible on this machine
    """
    if role:
        _ability(options, role)
    findings = diagnosis.examine(options.session)
    problems = [finding.problem for finding in findings if finding.problem]
    lines = [f"  {'ok' if f.problem is None else 'fix':<4} {f.about:<22} {f.why}" for f in findings]
    lines += ["", f"{len(findings) - len(problems)} ok, {len(problems)} to fix"]
    data = {"findings": [finding.to_json() for finding in findings]}
    options.finish(Told(lines, data, problems))


def _ability(options: Options, role: str) -> None:
    able = ability.examine(options.session)
    reasons = able.dump if role == "checkpoint" else able.restore
    stops = [one.problem for one in able.found if one.stops and role == "checkpoint"]
    options.finish(Told(able.lines(), able.to_json(), [*reasons, *stops]), 4 if reasons else 3)
