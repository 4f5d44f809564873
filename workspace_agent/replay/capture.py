"""What was installed by hand into a folder of packages: from their own descriptions alone.

Nothing is started or imported, and nothing of what stands in those files is believed: a package
says about itself whatever it likes.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass

from workspace_agent.host import files
from workspace_agent.model.jsontext import table
from workspace_agent.replay import dists
from workspace_agent.replay.lines import normal
from workspace_agent.replay.redact import anonymous

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# What somebody needs stands at its top; below it some have a whole book.
_METADATA = 4 << 20

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.!+_]{0,63}")
_NEEDS = re.compile(r"Requires-Dist:\s*([A-Za-z0-9][A-Za-z0-9._-]{0,127})(.*)")
_EXTRA = re.compile(r";.*\bextra\b")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]{1,2000}")


@dataclass(frozen=True)
class Dist:
    """A package somebody added. *line* asks for it, *pin* for exactly this one; *pin* is empty
    where another container cannot have it.

    *needs* are the packages that it names, *extras* those of its extras. *asked* says whether
    somebody wanted it, and it did not come with others; None where its installer does not tell.
    """

    name: str
    line: str
    pin: str
    needs: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    asked: bool | None = None


@dataclass(frozen=True)
class Look:
    """What is in a folder by hand: *times* of all, *fresh* those not seen before, and the names of
    those that are *torn*: files of theirs are missing.
    """

    times: Mapping[str, int]
    fresh: Mapping[str, Dist]
    torn: tuple[str, ...] = ()


def look(
    site: str,
    since: int,
    *,
    known: Mapping[str, str],
    seen: Mapping[str, int],
    volume: str,
) -> Look:
    """Return what was added to the folder *site* after *since* (ns), but for the versions *known*.

    *seen* are the times of an earlier look: what has the same is not read again.
    """
    times: dict[str, int] = {}
    fresh: dict[str, Dist] = {}
    torn = []
    for name, info in dists.infos(site):
        version = info.removesuffix(".dist-info").rpartition("-")[2]
        with suppress(OSError):
            when = os.stat(f"{site}/{info}").st_mtime_ns
            if not info.endswith(".dist-info") or (when < since and name not in seen):
                continue
            if known.get(name) == version or _text(f"{site}/{info}/INSTALLER") == "conda":
                continue
            if seen.get(name) != when:
                if not _is_whole(site, info):
                    torn.append(name)
                    continue
                if one := read(f"{site}/{info}", name, version, volume):
                    fresh[name] = one
            times[name] = max(when, times.get(name, 0))
    return Look(times, fresh, tuple(torn))


def read(info: str, name: str, version: str, volume: str) -> Dist | None:
    """Return what the folder *info* says of a package; None for a name that is none.

    What lies on the container's own disk, and not on *volume*, cannot be had again.
    """
    if not NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        return None
    needs, extras = _needs(info)
    asked = files.exists(f"{info}/REQUESTED") if _text(f"{info}/INSTALLER") == "pip" else None
    public, _, local = version.partition("+")
    line, pin = f"{name}>={public}", f"{name}=={public}"
    if local:
        pin += f"  # here {version}"  # no index but the one that it is from has that very one
    if data := files.read(f"{info}/direct_url.json"):
        line = pin = _origin(name, data, volume)
    return Dist(name, line or f"# {name} {version} is not on the volume", pin, needs, extras, asked)


def _needs(info: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of what a package needs, and of what its extras do."""
    text = (files.read(f"{info}/METADATA", _METADATA) or b"").decode("utf-8", "replace")
    always: dict[str, None] = {}
    extras: dict[str, None] = {}
    for line in text.replace("\r\n", "\n").partition("\n\n")[0].split("\n"):
        if found := _NEEDS.match(line):
            (extras if _EXTRA.search(found[2]) else always)[normal(found[1])] = None
    return tuple(always), tuple(extras)


def _origin(name: str, data: bytes, volume: str) -> str:
    """Return the requirement that leads to where a package came from (PEP 610), or ""."""
    found = table(data)
    if not _URL.fullmatch(url := str(found.get("url"))):
        return ""
    path = _path(url)
    if path and not f"{os.path.realpath(path)}/".startswith(f"{volume}/"):
        return ""
    # "git" is the name under which servers of git are spoken to, and nobody's secret.
    url = anonymous(url.replace("//git@", "//git\0")).replace("\0", "@")
    vcs, folder = found.get("vcs_info"), found.get("dir_info")
    below = found.get("subdirectory")
    more = f"#subdirectory={below}" if below and _URL.fullmatch(f"x://{below}") else ""
    if isinstance(vcs, dict):
        kind, commit = vcs.get("vcs"), str(vcs.get("commit_id"))
        known = kind in ("git", "hg", "svn", "bzr") and _COMMIT.fullmatch(commit)
        return f"{name} @ {kind}+{url}@{commit}{more}" if known else ""
    if isinstance(folder, dict) and folder.get("editable"):
        return f"-e {path}" if path and not re.search(r"[\s#]", path) else ""
    return f"{name} @ {url}{more}"


def _path(url: str) -> str:
    if not url.startswith("file://"):
        return ""
    from urllib.parse import unquote

    return unquote(url.removeprefix("file://").partition("#")[0])


def _is_whole(site: str, info: str) -> bool:
    """Say whether every file in a package's own list is there.

    Installers write that list last, or with the rest in any order. Folders are listed, since a
    stat of each file of a large package takes ten times as long.
    """
    wanted: dict[str, set[str]] = {}
    for row in dists.record(site, info):
        if not row[0].endswith(".pyc"):
            folder, _, name = row[0].rpartition("/")
            wanted.setdefault(folder, set()).add(name)
    try:
        return bool(wanted) and all(
            names <= set(os.listdir(os.path.join(site, folder))) for folder, names in wanted.items()
        )
    except (OSError, ValueError):
        return False


def _text(path: str) -> str:
    return (files.read(path, 1024) or b"").decode("ascii", "replace").strip()
