"""The user's own scripts on the volume: setup.sh, then setup.d in name order, once a boot."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from workspace_agent.host import command, files
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.outcome import Check, Ok, Skip, Todo
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True)
class SetupScripts:
    """Run each script once in this boot, one after the other, each under its own time limit.

    They run as the workload will: its user, its environment, the volume as the working folder,
    never inside PID 1. One that fails is reported and does not stop the next.
    """

    file: str
    folder: str
    volume: str
    runtime: str
    env: Mapping[str, str]
    timeout: float
    run: Callable[..., command.Finished] = command.run
    name: str = "scripts"
    needs: tuple[str, ...] = ("volume.ready",)
    # What has run where no runtime folder can keep it: the re-check must know.
    memory: list[str] = field(default_factory=list, compare=False)

    def check(self) -> Check:
        """Compare the scripts with this boot's record."""
        scripts = list(self._scripts())
        if not scripts:
            return Skip("no setup.sh, no setup.d")
        done = self._record()
        left = tuple(path for path in scripts if _identity(path) not in done)
        if left and not self.runtime:
            return Todo("this machine keeps no record: they run at every set-up", left)
        if left:
            return Todo(f"{len(left)} to run", left)
        return Ok(f"{len(scripts)} run in this boot")

    def apply(self, tell: Callable[[str], None]) -> None:
        """Run those that this boot has not run; raises AgentError with the first that failed."""
        done = self._record()
        failed = []
        for path in self._scripts():
            identity = _identity(path)
            if identity in done:
                continue
            problem = self._one(path, tell)
            failed += [problem] if problem else []
            done += dict.fromkeys((identity, _identity(path)))  # it may have changed itself
            self._keep(done)
        if failed:
            raise AgentError(failed[0])

    def _scripts(self) -> Iterator[str]:
        """Yield setup.sh and then those of setup.d, which setup.sh may just have put there."""
        if os.path.isfile(self.file):
            yield self.file
        try:
            names = sorted(os.listdir(self.folder))
        except OSError:
            return
        paths = [f"{self.folder}/{name}" for name in names if not name.startswith(".")]
        yield from (path for path in paths if os.path.isfile(path) and _is_script(path))

    def _record(self) -> list[str]:
        if not self.runtime:
            return self.memory
        data = files.read(f"{self.runtime}/{layout.SCRIPTS}")
        if data is None:
            return []
        import json  # only where there are scripts

        try:
            found = json.loads(data)
        except ValueError:
            return []
        return [str(item) for item in found] if isinstance(found, list) else []

    def _keep(self, done: list[str]) -> None:
        if self.runtime:
            files.commit(f"{self.runtime}/{layout.SCRIPTS}", dumps(done) + "\n")
        else:
            self.memory[:] = done

    def _one(self, path: str, tell: Callable[[str], None]) -> Problem | None:
        logs = f"{self.runtime}/{layout.LOGS}"
        log = f"{logs}/{os.path.basename(path)}.log" if self.runtime else os.devnull
        if self.runtime:
            os.makedirs(logs, 0o700, exist_ok=True)
        argv = [path] if os.access(path, os.X_OK) else [_shell(), path]
        try:
            ended = self.run(
                argv, log=log, env=self.env, timeout=self.timeout, cwd=self.volume, tell=tell
            )
        except OSError as error:
            return self._problem(path, os.strerror(error.errno or 0), log)
        if ended.timed_out:
            return self._problem(path, f"it ran longer than {duration(self.timeout)}", log)
        if ended.code == 0:
            return None
        # Not a word of its output: it may hold a secret, and this goes to the termination log.
        return self._problem(path, f"exit code {ended.code}", log)

    def _problem(self, path: str, why: str, log: str) -> Problem:
        fix = f"see {log}; the next boot runs it again"
        return Problem("scripts.failed", f"{path} did not succeed", why, fix, path)


def _is_script(path: str) -> bool:
    return path.endswith(".sh") or os.access(path, os.X_OK)


def _shell() -> str:
    import shutil  # 4 ms; only where there are scripts

    return shutil.which("bash") or "/bin/sh"


def _identity(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError:
        return f"{path} is gone"
    return f"{path} {info.st_mtime_ns} {info.st_size}"
