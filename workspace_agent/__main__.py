"""The command `workspace-agent`, also as `python3 workspace_agent VERB` in a bare checkout."""

from __future__ import annotations

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main() -> None:
    """Run the command line in the private environment; make that first where it is missing."""
    if sys.path[0] != _ROOT:
        sys.path.insert(0, _ROOT)  # `python3 workspace_agent` puts the package itself there
    if os.path.exists(f"{_ROOT}/pyproject.toml") and sys.prefix != f"{_ROOT}/venv":
        _enter_private()
    from workspace_agent.cli.main import entry

    entry()


def _enter_private() -> None:
    from workspace_agent.app import private
    from workspace_agent.app.telling import Teller
    from workspace_agent.model.problem import Problem

    if not private.is_whole(_ROOT):
        _say("making the private environment")
        problem: Problem | None = private.make(_ROOT, "", Teller(lambda: None, _say))
        if problem is not None:
            for line in problem.lines():
                _say(line)
            sys.exit(1)
    argv = [private.interpreter(_ROOT), "-I", "-m", "workspace_agent", *sys.argv[1:]]
    os.execv(argv[0], argv)


def _say(line: str) -> None:
    sys.stderr.write(f"workspace-agent: {line}\n")


if __name__ == "__main__":
    main()
