"""From an errno on the volume to a sentence with a remedy. Pure."""

from __future__ import annotations

import errno
import os

from workspace_agent.model.problem import Problem

# Which of the two a name that is no folder is depends on the kernel.
_LINK = (
    "volume.link-in-the-way",
    "a link, or a file, stands where the agent keeps its files",
    "remove it; the next boot makes what is missing",
)

_KNOWN = {
    errno.ELOOP: _LINK,
    errno.ENOTDIR: _LINK,
    errno.EXDEV: (
        "volume.link-in-the-way",
        "another mount stands where the agent keeps its files",
        "make the folders in it yourself, or mount it elsewhere",
    ),
    errno.ENOSPC: ("volume.full", "the volume is full", "delete something, or enlarge the volume"),
    errno.EDQUOT: ("volume.full", "the volume's quota is used up", "delete something there"),
    errno.EROFS: (
        "volume.read-only",
        "the volume is mounted read-only",
        "mount it read-write; until then nothing that changes will survive",
    ),
    errno.EACCES: (
        "volume.not-writable",
        "this user may not write to the volume",
        "run as the volume's owner, or set the pod's fsGroup",
    ),
    errno.EPERM: (
        "volume.not-writable",
        "this user may not write to the volume",
        "run as the volume's owner, or set the pod's fsGroup",
    ),
    errno.ESTALE: (
        "volume.stale",
        "the volume's server has forgotten this mount",
        "restart the pod, so that the volume is mounted anew",
    ),
    errno.EIO: ("volume.io-error", "the volume answers with errors", "check its server and disk"),
}


def from_oserror(error: OSError, where: str, doing: str) -> Problem:
    """Say what *error* means for *doing* at *where*."""
    why = f"{doing}: {os.strerror(error.errno or 0)}"
    if error.errno in _KNOWN:
        slug, what, fix = _KNOWN[error.errno]
        return Problem(slug, what, why, fix, where)
    fix = "`workspace-agent setup` tries it again, in the foreground"
    return Problem("step.failed", f"{doing} did not work", why, fix, where)
