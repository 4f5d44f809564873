"""What is mounted where, and whether this is a container.

`/proc/self/mountinfo` answers without touching the mounts: a hung volume cannot hang us here.
"""

from __future__ import annotations

from workspace_agent.host.chalf import os

TYPE_CHECKING = False  # `typing` costs 4 ms and only the type checker needs it
if TYPE_CHECKING:
    from collections.abc import Mapping


# The initial PID namespace has a fixed inode number in every kernel (PROC_PID_INIT_INO).
_INIT_PID_NS = "pid:[4026531836]"

_MARKS = ("KUBERNETES_SERVICE_HOST", "container")


def parse_mountinfo(text: str) -> dict[str, tuple[str, str, bool]]:
    """Return {mount point: (fstype, source, read only)}; the last mount on a point counts.

    Read only is true when the mount or its superblock is. Lines that do not parse are left out.
    """
    found = {}
    for line in text.split("\n"):
        head, dash, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3:
            continue
        ro = "ro" in fields[5].split(",") or "ro" in rest[2].split(",")
        found[_unescaped(fields[4])] = (rest[0], _unescaped(rest[1]), ro)
    return found


def read_mounts() -> dict[str, tuple[str, str, bool]]:
    """Return the mounts of this process, or an empty dict where /proc is not there."""
    try:
        with open("/proc/self/mountinfo", "rb") as handle:
            return parse_mountinfo(os.fsdecode(handle.read()))
    except OSError:
        return {}


def kind(path: str, mounts: Mapping[str, tuple[str, str, bool]]) -> str:
    """Return the kind of file system that *path* is on; "" for the one at the root."""
    above = [point for point in mounts if f"{path}/".startswith(f"{point}/") and point != "/"]
    return mounts[max(above, key=len)][0] if above else ""


def in_container(
    environ: Mapping[str, str], mounts: Mapping[str, tuple[str, str, bool]], root: str = "/"
) -> bool:
    """Say whether the system folders belong to a container, and not to a person's machine.

    Two of three must say so: a runtime's mark, a layered root, a PID namespace of its own. One
    alone lies: a machine made from an image carries `/.dockerenv`, a live system has an overlay
    for its root, and `unshare` gives anybody a namespace.
    """
    mark = any(environ.get(name) for name in _MARKS) or any(
        os.path.exists(root + name) for name in (".dockerenv", "run/.containerenv")
    )
    layered = mounts.get("/", ("",))[0] in ("overlay", "fuse-overlayfs", "aufs", "virtiofs")
    return mark + layered + (_pid_namespace(root) not in ("", _INIT_PID_NS)) >= 2


def _pid_namespace(root: str) -> str:
    try:
        return os.readlink(root + "proc/self/ns/pid")
    except OSError:
        return ""


def _unescaped(field: str) -> str:
    """Undo the kernel's octal escapes; that of the backslash last."""
    if "\\" not in field:
        return field
    for code, char in (("040", " "), ("011", "\t"), ("012", "\n"), ("043", "#"), ("134", "\\")):
        field = field.replace("\\" + code, char)
    return field
