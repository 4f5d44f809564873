"""`pip install` at every boot, as the scripts do that this agent replaces: to compare with."""

from __future__ import annotations

import os
from dataclasses import dataclass

from workspace_agent.host import command, files
from workspace_agent.model.outcome import Check, Ok, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.replay import lines
from workspace_agent.replay.redact import redacted, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workspace_agent.replay.asked import Asked

_LIMIT = 3600.0

# What people give to pip for fear of something that is not there.
_NEEDLESS = {
    "--no-cache-dir": "no cache outlives the pod",
    "--break-system-packages": "the agent says it to pip in any case",
}


@dataclass(frozen=True)
class PipEachBoot:
    """Run `pip install` with *options* and what is *asked* for into *python*, once in a container.

    *mark* is where that is noted.
    """

    asked: Asked
    python: str
    options: tuple[str, ...]
    env: Mapping[str, str]
    log: str
    mark: str
    name: str = "replay"
    needs: tuple[str, ...] = ("volume.ready",)
    run: Callable[..., command.Finished] = command.run

    def check(self) -> Check:
        """Look for the note."""
        if files.read(self.mark) is None:
            return Todo("pip runs at every boot, as the profile wants it", self.asked.files)
        vain = [f"{one}: {why}" for one, why in _NEEDLESS.items() if one in self.options]
        return Ok("; ".join(["pip ran in this container", *vain]))

    def apply(self, tell: Callable[[str], None]) -> None:
        """Run it; raises AgentError when pip fails."""
        os.makedirs(os.path.dirname(self.log), 0o700, exist_ok=True)
        os.makedirs(os.path.dirname(self.mark), exist_ok=True)
        named = lines.write(self.asked.lines(), f"{self.mark}-")
        argv = [self.python, "-m", "pip", "install", *self.options, *named]
        # An older pip does not know the option, and does not mind the variable.
        env = {**self.env, "PIP_BREAK_SYSTEM_PACKAGES": "1"}
        secrets = values(env, "", ())
        ended = self.run(
            argv, log=self.log, env=env, timeout=_LIMIT, tell=tell,
            clean=lambda text: redacted(text, secrets),
        )  # fmt: skip
        if ended.code:
            why = (ended.tail.splitlines() or [f"exit code {ended.code}"])[-1]
            fix = f"see {self.log}; `replay.mode` set to `overlay` would keep the last good ones"
            what = "pip could not install the packages"
            raise AgentError(Problem("replay.build-failed", what, why, fix))
        files.commit(self.mark, "")
