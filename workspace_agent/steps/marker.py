"""What a home says of itself: the marker in it, and the record of it among the agent's files.

Others test only that the marker exists. An empty one, or one that we cannot read, is a legacy
marker: present, and left as it is.
"""

from __future__ import annotations

import re
import time

from workspace_agent import __version__
from workspace_agent.host import files
from workspace_agent.model.jsontext import dumps, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workspace_agent.host.copy import Copied
    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.steps.merge import Laid

FORMAT = 1

# What a fingerprint looks like; the marker comes from the volume.
_IMAGE = re.compile(r"[0-9a-f]{16}")

# Larger ones are not ours.
_LIMIT = 256 << 10


def fields(
    boot_id: str, mode: str, home: str, image: str, began: int, copied: Copied
) -> dict[str, object]:
    """Return the marker of a home made from the folder *home* of the image *image*.

    *began* is when the image was looked at, in nanoseconds: the clock of its files, too.
    """
    return {
        "format": FORMAT,
        "agent": __version__,
        "boot_id": boot_id,
        "image": image,
        "home": home,
        "began": began,
        "created": now(),
        "mode": mode,
        "files": copied.files,
        "bytes": copied.bytes,
        "skipped": copied.skipped,
        "skipped_total": copied.skipped_total,
        "owners": "kept" if copied.owners_kept else "ours",
        "kept": [],
        "kept_total": 0,
        "backup": "",
    }


def merged(fields: dict[str, object], laid: Laid, backup: str) -> dict[str, object]:
    """Return the marker *fields* after a merge."""
    return {
        **fields,
        "kept": laid.kept,
        "kept_total": laid.kept_total,
        "backup": backup if laid.replaced else "",
    }


def record(state: SafeRoot, name: str, boot_id: str, found: dict[str, object]) -> None:
    """Note as *name* that a home with the marker *found* is here: without one it means "again".

    A home whose marker tells no image was adopted: what its defaults were is not known.
    """
    base, mode = found.get("image"), found.get("mode")
    note = {
        "format": FORMAT,
        "boot_id": boot_id,
        "mode": mode if isinstance(mode, str) else "adopted",
        "began": found.get("began"),
        "base": base if isinstance(base, str) and _IMAGE.fullmatch(base) else "",
        "at": now(),
    }
    state.commit(name, dumps(note) + "\n")


def parsed(text: bytes | None) -> dict[str, object]:
    """Return the fields of a marker or record; empty when it is not one of ours, or newer."""
    fields = table(text)  # 6 ms, and a boot that finds its marker does not read it
    return fields if fields.get("format") == FORMAT else {}


def read(path: str) -> dict[str, object]:
    """Return the fields of the marker *path*, as `parsed` does."""
    return parsed(files.read(path, _LIMIT))


def now() -> str:
    """Return the time for a record."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
