"""The agent's private environment: what the verbs and the watcher need, made beside the workload.

The boot path needs none of it. The folder is `venv` beside the package; its marker, written last,
holds what it was made for, so that half of one is never used.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from workspace_agent import __version__
from workspace_agent.host import command, files
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    Tell = Callable[[str], None]

STATE = "private.json"

# A slow package index is slow for everybody; a dead one should not keep a process for ever.
_TIMEOUT = 900.0

# pip settings of the user's that would send the packages elsewhere.
_FOREIGN = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME")

_ENSUREPIP = (
    "import subprocess, sys\n"
    "for words in (['ensurepip'], ['pip', 'install', '-q', *sys.argv[1:]]):\n"
    "    subprocess.check_call([sys.executable, '-I', '-m', *words])\n"
)


def requirements(root: str) -> list[str]:
    """Return the dependencies that pyproject.toml declares; it is ours, so lines will do."""
    text = os.fsdecode(files.read(f"{root}/pyproject.toml") or b"")
    body = text.partition("\ndependencies = [")[2].partition("\n]")[0]
    return [line.strip().strip('",') for line in body.splitlines() if line.strip().startswith('"')]


def is_whole(root: str) -> bool:
    """Say whether the environment at *root* is complete and made for this code."""
    made = files.read(f"{root}/venv/{layout.VENV_MARKER}") == _key(root)
    return made and os.path.exists(interpreter(root))  # the link's target may have been removed


def interpreter(root: str) -> str:
    """Return the path of its interpreter."""
    return f"{root}/venv/bin/python"


def make(root: str, runtime: str, tell: Tell) -> Problem | None:
    """Make the environment; returns what is in the way, or None. May be killed and repeated."""
    lock = _lock(root)
    if isinstance(lock, Problem):
        return lock
    began = time.monotonic()
    try:
        if is_whole(root):
            return None
        _record(runtime, "making", "")
        problem = _build(root, runtime, tell)
        _record(runtime, "failed" if problem else "ready", problem.why if problem else "")
        tell(f"private environment: {problem.why if problem else 'ready'}"
             f" after {duration(time.monotonic() - began)}")  # fmt: skip
        return problem
    except OSError as error:
        why = f"{error.filename or root}: {os.strerror(error.errno or 0)}"
        _record(runtime, "failed", why)
        return _problem(why, f"make {root}/venv writable")
    finally:
        os.close(lock)


def _build(root: str, runtime: str, tell: Tell) -> Problem | None:
    venv = f"{root}/venv"
    import shutil  # 4 ms; a boot only asks whether there is anything to build

    files.remove(f"{venv}/{layout.VENV_MARKER}")
    for name in os.listdir(venv):
        if name not in ("pycache", "lock"):
            shutil.rmtree(f"{venv}/{name}", ignore_errors=True)
    log = f"{runtime or venv}/private.log"
    # Without pip of its own: ensurepip is what Debian leaves out, and pip works from outside.
    failed = _run([sys.executable, "-I", "-m", "venv", "--without-pip", venv], log, tell)
    if failed:
        return _problem(f"python -m venv: {failed}", "apt-get install python3-venv")
    site = f"{venv}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    failed = _install(venv, site, requirements(root), log, tell)
    if failed:
        return _problem(failed, f"see {log}; with pip or uv on PATH, run it again")
    files.commit(f"{site}/workspace-agent.pth", f"{root}\n")
    files.commit(f"{venv}/bin/workspace-agent", launcher(root), 0o755)
    files.commit(f"{venv}/{layout.VENV_MARKER}", _key(root))
    return None


def launcher(root: str) -> str:
    """Return the text of the command: isolated, whatever the caller's environment holds."""
    return f'#!/bin/sh\nexec "{root}/venv/bin/python" -I -m workspace_agent "$@"\n'


def _install(venv: str, site: str, wanted: list[str], log: str, tell: Tell) -> str:
    """Install *wanted* with whatever installer there is; returns why that was not possible."""
    reasons = []
    for name, argv in _installers(venv, site, wanted):
        failed = _run(argv, log, tell)
        if not failed:
            return ""
        reasons.append(f"{name}: {failed}")
    if not reasons:
        return "neither uv nor pip was found: apt-get install python3-pip"
    return "; ".join(reasons)


def _installers(venv: str, site: str, wanted: list[str]) -> list[tuple[str, list[str]]]:
    import shutil

    python = f"{venv}/bin/python"
    found = []
    if uv := shutil.which("uv"):
        found.append(("uv", [uv, "pip", "install", "-q", "--python", python, *wanted]))
    for name in dict.fromkeys((sys.executable, shutil.which("python3") or sys.executable)):
        # --target instead of a pip inside: any pip can do that, and no marker of an externally
        # managed environment is in its way.
        pip = [name, "-I", "-m", "pip"]
        options = ["-q", "--disable-pip-version-check", "--no-input", "--only-binary=:all:"]
        found.append(("pip", [*pip, "install", *options, "--target", site, *wanted]))
    if _has_ensurepip():
        found.append(("ensurepip", [python, "-I", "-c", _ENSUREPIP, *wanted]))
    return found


def _has_ensurepip() -> bool:
    from importlib.util import find_spec

    return find_spec("ensurepip") is not None


def _run(argv: list[str], log: str, tell: Tell) -> str:
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    try:
        ended = command.run(argv, log=log, env=env, timeout=_TIMEOUT, tell=tell)
    except OSError as error:
        return os.strerror(error.errno or 0)
    last = ended.tail.splitlines()[-1:] or [f"exit code {ended.code}"]
    return "" if ended.code == 0 else last[0][:200]


def _lock(root: str) -> int | Problem:
    """Return a descriptor that holds the right to build; waits for another builder."""
    import fcntl

    try:
        os.makedirs(f"{root}/venv", exist_ok=True)
        fd = os.open(f"{root}/venv/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return _problem(f"{root}/venv: {os.strerror(error.errno or 0)}", f"make {root} writable")
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _record(runtime: str, phase: str, why: str) -> None:
    if not runtime:
        return
    facts = {"schema": 1, "phase": phase, "since": time.time(), "why": why}
    try:
        files.commit(f"{runtime}/{STATE}", dumps(facts) + "\n")
    except OSError:
        return


def _key(root: str) -> bytes:
    # Not our own interpreter: whichever made it, it serves everybody.
    return os.fsencode("\n".join([__version__, root, *requirements(root), ""]))


def _problem(why: str, fix: str) -> Problem:
    return Problem("agent.no-private-environment", "the verbs are not available", why, fix)
