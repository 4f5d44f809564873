"""What a project's `uv.lock` asks for, written down by uv as lines of requirements."""

from __future__ import annotations

import os
from shutil import which

from workspace_agent.host import command, files
from workspace_agent.model import layout
from workspace_agent.replay.lines import unreadable
from workspace_agent.replay.redact import redacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from workspace_agent.replay.asked import Asked

# uv neither builds nor downloads anything for it.
_LIMIT = 20.0


def as_lines(lock: str, asked: Asked, python: str, runtime: str, env: Mapping[str, str]) -> str:
    """Return a file in *runtime* with what *lock* says *asked* is for *python*; raises
    AgentError.
    """
    uv = which("uv", path=env["PATH"])
    if not uv:
        raise unreadable(lock, "there is no uv on the image's PATH")
    out = f"{runtime}/{layout.UV_LOCK}"
    argv = [uv, "export", "--frozen", "--no-emit-project", "--no-annotate", "--no-header",
            "--no-cache", "--no-python-downloads", "--python", python,
            "--project", os.path.dirname(lock)]  # fmt: skip
    argv += [word for one in asked.extras for word in ("--extra", one)]
    argv += [word for one in asked.groups for word in ("--group", one)]
    try:
        said = _run(argv, out, f"{runtime}/{layout.LOGS}/replay.log", env)
    except OSError as error:
        raise unreadable(lock, str(error)) from error
    if said:
        raise unreadable(lock, said)
    return out


def _run(argv: list[str], out: str, log: str, env: Mapping[str, str]) -> str:
    """Run *argv* into the file *out*; returns why it failed, or ""."""
    os.makedirs(os.path.dirname(log), 0o700, exist_ok=True)
    files.commit(out, "", 0o600)
    for more in (["--emit-index-url"], []):  # an older uv does not know it
        ended = command.run(
            [*argv, *more], log=log, env=env, timeout=_LIMIT, out=out, clean=redacted
        )
        if ended.code == 0:
            return ""
    return "".join(ended.tail.splitlines()[-1:]) or "uv failed"
