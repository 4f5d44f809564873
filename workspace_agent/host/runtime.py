"""The folder of this boot: chosen, made private, emptied of the last one; and who is at work."""

from __future__ import annotations

from workspace_agent.host import files
from workspace_agent.host.chalf import os
from workspace_agent.model import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Files of an earlier container in the same pod: an emptyDir at /run survives its restart.
_STALE = (
    layout.STATUS, layout.AGENT, layout.BANNER, layout.SCRIPTS, layout.SECRETS_SH,
    layout.SECRETS_FISH, layout.ENVIRON, layout.ENV_SH, layout.ENV_FISH, layout.CARDS,
    layout.FROZEN, layout.SUCCESSOR, layout.RESTORED, layout.FREEZING,
    layout.CHECKPOINTED,
)  # fmt: skip


def candidates(environ: Mapping[str, str], container: bool) -> list[str]:
    """List where the runtime folder may be, best first."""
    chosen = environ.get("WORKSPACE_AGENT_RUNTIME")
    if chosen:
        return [os.path.abspath(chosen)]
    private = [f"{base}/workspace-agent-{os.geteuid()}" for base in ("/tmp", "/dev/shm")]
    return [layout.RUNTIME, *private] if container else private


def find(environ: Mapping[str, str], container: bool) -> str:
    """Return the runtime folder that a boot or a set-up has used here, or an empty string."""
    for path in candidates(environ, container):
        used = any(files.exists(f"{path}/{name}") for name in (layout.AGENT, layout.STATUS))
        if used and _is_ours(path):
            return path
    return ""


def make(environ: Mapping[str, str], container: bool) -> str:
    """Return a writable runtime folder, or an empty string where the machine has none.

    A folder under a world-writable one counts only if it is a real folder of our own user.
    """
    for path in candidates(environ, container):
        try:
            os.makedirs(path, 0o755, exist_ok=True)
        except OSError:
            continue
        _close(path)
        if _is_ours(path) and os.access(path, os.W_OK | os.X_OK):
            return path
    return ""


def clear(path: str) -> None:
    """Remove what an earlier boot said in *path*, before anybody can read it as ours."""
    for name in _STALE:
        files.remove(f"{path}/{name}")


def started(pid: object) -> int:
    """Return when process *pid* started, in clock ticks since boot, or 0 if there is none."""
    stat = files.read(f"/proc/{pid}/stat") or b""
    born = stat.rpartition(b")")[2].split()[19:20]
    return int(born[0]) if born else 0


def variables(path: str) -> dict[str, str]:
    """Return the variables of a file in the form of /proc/PID/environ; none where there is none."""
    pairs = (os.fsdecode(item).partition("=") for item in (files.read(path) or b"").split(b"\0"))
    return {name: value for name, _, value in pairs if name}


def _close(path: str) -> None:
    """Take others' right to write from a folder of our user's: a mounted emptyDir is 0777."""
    try:
        info = os.lstat(path)
        if info.st_mode & 0o022 and info.st_uid == os.geteuid() and path == layout.RUNTIME:
            os.chmod(path, 0o755)
    except OSError:
        return


def _is_ours(path: str) -> bool:
    try:
        info = os.lstat(path)
    except OSError:
        return False
    folder, shared = info.st_mode & 0o170000 == 0o040000, info.st_mode & 0o022
    return folder and not shared and info.st_uid in (0, os.geteuid())
