"""Where a verb stands: which container environment, which install; and what it has to say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from workspace_agent.app.engine import Opening, open_boot
from workspace_agent.host import files, mounts, runtime
from workspace_agent.host.asking import in_time
from workspace_agent.model import layout
from workspace_agent.model.jsontext import table
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workspace_agent.config.schema import Profile


@dataclass(frozen=True)
class Told:
    """What a verb has to say: *lines* for people, *data* for programs, problems for both."""

    lines: Sequence[str]
    data: dict[str, Any]
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class Session:
    """The surroundings of one call of a verb; *environ* is the container's, flags laid over it."""

    environ: Mapping[str, str]
    root: str
    container: bool
    runtime: str

    def open(self, *, strict: bool = True, dry_run: bool = False, patient: bool = False) -> Opening:
        """Load the profile and gather the facts; raises ProfileError when *strict*.

        Raises AgentError where the volume does not answer, unless *patient*.
        """
        made = self.runtime
        if not made and dry_run:
            made = runtime.candidates(self.environ, self.container)[0]
        elif not made:
            made = runtime.make(self.environ, self.container)
        ask = partial(
            open_boot,
            self.environ,
            mounts.read_mounts(),
            root=self.root,
            runtime=made,
            container=self.container,
        )

        def answers(profile: Profile) -> None:
            secs = profile.volume.deadline
            if not patient and in_time(lambda: ask().profile.name, secs) is None:
                raise AgentError(_hung(secs))

        return ask(strict=strict, listen=answers)

    def read(self, name: str) -> dict[str, Any] | None:
        """Return one of this boot's JSON files; None when it is absent, broken or newer."""
        found = table(files.read(f"{self.runtime}/{name}")) if self.runtime else {}
        return found if found.get("schema") == 1 else None

    def workload_environ(self) -> dict[str, str]:
        """Return the workload's environment as the boot wrote it; empty when none did."""
        return runtime.variables(f"{self.runtime}/{layout.ENVIRON}") if self.runtime else {}


def find(flags: Mapping[str, str]) -> Session:
    """Return the session of this process; *flags* are variables that stand for options."""
    caller = dict(os.environ)
    container = mounts.in_container(caller, mounts.read_mounts())
    folder = runtime.find({**caller, **flags}, container)
    environ = {**(_agents_environ(folder) or caller), **flags}
    if "WORKSPACE_AGENT_RUNTIME" in caller:
        environ["WORKSPACE_AGENT_RUNTIME"] = caller["WORKSPACE_AGENT_RUNTIME"]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return Session(environ, root, container, folder)


def _hung(secs: float) -> Problem:
    return Problem(
        "volume.not-responding",
        "the volume does not answer",
        f"no answer for {duration(secs)}",
        "look at the volume's server or the node's mount",
    )


def running(agent: Mapping[str, Any] | None) -> bool:
    """Say whether the process that *agent* (agent.json) names still is that process."""
    started = runtime.started(agent.get("pid")) if agent else 0
    return agent is not None and started > 0 and started == agent.get("started")


def _agents_environ(folder: str) -> dict[str, str]:
    """Return the environment the running agent was given: a shell's own has been changed by us."""
    here = Session({}, "", False, folder)
    agent = here.read(layout.AGENT)
    if agent is None or not running(agent):
        return {}
    return runtime.variables(f"/proc/{agent['pid']}/environ")
