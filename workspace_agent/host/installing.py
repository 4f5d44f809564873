"""Is an installer at work in this container? Small: it is asked before anything else is loaded."""

from __future__ import annotations

import os

_TOOLS = ("pip", "uv", "conda", "mamba", "micromamba", "poetry", "pdm", "apt", "apt-get", "npm")
_VERBS = ("install", "uninstall", "sync", "add", "remove", "update", "upgrade", "create", "ci")


def installer() -> str:
    """Return the name of an installer that runs, or ""."""
    for pid in os.listdir("/proc"):
        if pid.isdigit() and (name := named(_words(pid))) and _is_ours(pid):
            return name
    return ""


def named(words: list[str]) -> str:
    """Return which installer the command line *words* is one of, at work; else "". Pure."""
    for n, word in enumerate(words[:5]):
        name = word.rpartition("/")[2]
        if name.rstrip("0123456789.") in _TOOLS and {*words[n + 1 : n + 9]} & {*_VERBS}:
            return name
    return ""


def _words(pid: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            return os.fsdecode(line.read(4096)).split("\0")
    except OSError:
        return []


def _is_ours(pid: str) -> bool:
    """Say whether it sees our files; another container of the pod may share its processes."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/"))
    except OSError:
        return True  # another user's: better to wait for it
