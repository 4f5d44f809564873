"""From a wait status to the exit code of the agent. Pure."""

from __future__ import annotations

import errno

from workspace_agent.host.chalf import os

# The agent itself failed before the workload ran; `timeout`, `env` and `docker run` use the same.
AGENT_FAILED = 125
CANNOT_EXECUTE = 126
NOT_FOUND = 127

TERM = 15

# A workload that goes on in another container is not done: see `exit_code`.
FROZEN = 128 + TERM


def not_started(error: int) -> int:
    """Return the code for a command whose exec failed with errno *error*, as shells have it."""
    return NOT_FOUND if error == errno.ENOENT else CANNOT_EXECUTE


def exit_code(status: int, *, stopping: bool = False) -> int:
    """Return what the agent exits with after the workload ended with wait *status*.

    The workload's own code, or 128 + N when signal N ended it. After a TERM (*stopping*) a 0
    becomes 143: a pod that was evicted and exits 0 counts as done for a Job, which would then
    never run again (kubernetes/kubernetes issue 141483).
    """
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    code = os.WEXITSTATUS(status)
    return 128 + TERM if stopping and code == 0 else code
