"""What becomes of one thing that was saved, at the next boot. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass

from workspace_agent.rescue.lines import FOLDER, Saved, raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# What comes back by itself, in this order.
KINDS = (
    "notebooks", "code", "secrets", "config", "databases", "trackers", "logs", "other",
)  # fmt: skip

# What stands where it belongs.
ABSENT, SAME, OTHER, ANOTHER_TYPE = "absent", "same", "other", "another type"

# The kernel's, or of this boot alone.
_NEVER = ("/proc", "/sys", "/dev", "/run")


@dataclass(frozen=True)
class Verdict:
    """*how*: restored, same, replaced, beside, offered or never; and *why*."""

    how: str
    why: str


def decide(
    saved: Saved, here: str, *, untouched: bool, same_image: bool, kinds: Sequence[str] | None
) -> Verdict:
    """Say what becomes of *saved*, where *here* says what stands in its place.

    *untouched* is a file as the image has it, and not newer; *same_image* whether *saved* is from
    that image, whose file of this name it then took the place of, by whatever way.
    *kinds* come back by themselves; None is for those that somebody asked for by name.
    """
    if _is_below(saved.path, _NEVER):
        return Verdict("never", "it is of one container only")
    if here == SAME:
        return Verdict("same", "it is there")
    if saved.type == FOLDER and here != ABSENT:
        return Verdict("never", "something else has the place of a folder")
    if kinds is not None and _is_below(saved.path, ("/etc",)):
        return Verdict("offered", "below /etc nothing comes back by itself")
    if kinds is not None and saved.kind not in kinds:
        return Verdict("offered", f"{saved.kind or 'this kind'} does not come back by itself")
    if here == ABSENT:
        return Verdict("restored", "it was missing")
    if here == ANOTHER_TYPE or not untouched:
        return Verdict("beside", "something newer, or of yours, is there")
    if not same_image:
        return Verdict("beside", "it is of another image, and this one brings a file of its name")
    return Verdict("replaced", "it is the image's, which you had changed")


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def beside(saved: Saved) -> str:
    """Return the name for *saved* beside what has its own: the same at every boot."""
    above, _, name = saved.path.rpartition("/")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(saved.mtime_ns // 10**9))
    suffix = f".rescued-{stamp}"
    short = raw(name)[: 255 - len(suffix)].decode("utf-8", "surrogateescape")
    return f"{above}/{short}{suffix}"
