"""Who put a file there: what pip, conda and dpkg themselves noted when they did.

Their lists are read when a file is asked for that one of them may have written, and only those
that such a file can stand in; a path alone says nothing.
"""

from __future__ import annotations

import base64
import io
import os
from contextlib import suppress
from itertools import islice

from workspace_agent.host import files
from workspace_agent.model.jsontext import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Known = dict[str, tuple[int, str]]  # below the folder of packages: size (-1: not noted), hash

_SITES = ("/site-packages/", "/dist-packages/")

# The largest lists that there are have 2 MiB; anybody can plant one.
_LIST_BYTES, _LIST_LINES = 8 << 20, 100_000

# A larger file whose size is as noted is not read to see whether somebody edited it.
_EDITED_BYTES = 4 << 20

# What the system's packages make when they are installed, and make again.
_MADE = ("/etc/alternatives/", "/etc/ssl/certs/", "/etc/rc", "/etc/systemd/", "/var/lib/dbus/",
         "/var/lib/pam/", "/var/lib/python/", "/var/lib/systemd/", "/var/lib/ucf/",
         "/usr/share/mime/", "/usr/share/icons/", "/usr/share/info/")  # fmt: skip
_MADE_NAMES = frozenset({"ld.so.cache", "mtab", "gschemas.compiled", "mimeinfo.cache", ".pwd.lock"})

# Between the steps of one run of dpkg, in ns; at its end it writes down what is installed.
_NEAR = 5 * 10**9

_DPKG, _DPKG_END = "/var/lib/dpkg/info", "/var/lib/dpkg/status"


class Owners:
    """Answers for every path on this layer; *since* is when the workload was started (ns)."""

    def __init__(self, since: int, root: str = "") -> None:
        self._since, self._root = since, root
        self._sites: dict[str, tuple[int, dict[str, list[str]], set[str]]] = {}
        self._near: tuple[tuple[str, str, int], Known] = (("", "", 0), {})
        self._lists: dict[str, tuple[int, frozenset[str], int]] = {}

    def __call__(self, path: str, info: os.stat_result) -> str:
        """Return who put *path* there; "" is nobody who noted it."""
        for part in _SITES:
            at = path.find(part)
            if at >= 0:
                return self._packaged(path[: at + len(part) - 1], path[at + len(part) :], info)
        if path.startswith(_MADE) or path.rpartition("/")[2] in _MADE_NAMES:
            return "hidden"
        if "/bin/" in path and self._is_script(path):
            return "pip"
        return self._conda(path) or self._apt(path, info)

    def _packaged(self, site: str, below: str, info: os.stat_result) -> str:
        tops, _ = self._site(site)
        top = below.partition("/")[0]
        key = (site, top, self._sites[site][0])
        if self._near[0] != key:
            self._near = (key, dict(self._records(site, tops.get(top, ()))))
        noted = self._near[1].get(below)
        if noted is None:
            return self._conda(f"{site}/{below}") or self._apt(f"{site}/{below}", info)
        size, digest = noted
        if size in (-1, info.st_size) and not self._is_edited(f"{site}/{below}", info, digest):
            return "pip"
        return "edited"

    def _site(self, site: str) -> tuple[dict[str, list[str]], set[str]]:
        """Return which packages have files in which folder of *site*, and their files outside."""
        when = _changed(self._root + site)
        if site not in self._sites or self._sites[site][0] != when:
            tops: dict[str, list[str]] = {}
            outside: set[str] = set()
            with suppress(OSError):
                names = os.listdir(self._root + site)
                for dist in (one for one in names if one.endswith(".dist-info")):
                    for below, _ in self._records(site, (dist,)):
                        if below.startswith("../"):
                            outside.add(os.path.normpath(f"{site}/{below}"))
                        elif (found := tops.setdefault(below.partition("/")[0], []))[-1:] != [dist]:
                            found.append(dist)
            self._sites[site] = (when, tops, outside)
        return self._sites[site][1:]

    def _records(
        self, site: str, dists: Iterator[str] | list[str] | tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[int, str]]]:
        for dist in dists:
            text = files.read(f"{self._root}{site}/{dist}/RECORD", _LIST_BYTES) or b""
            for raw in islice(io.BytesIO(text), _LIST_LINES):
                path, _, rest = os.fsdecode(raw.rstrip(b"\r\n")).rpartition(",")
                path, _, digest = path.rpartition(",")
                yield path.strip('"'), (int(rest) if rest.isdigit() else -1, digest)

    def _is_edited(self, path: str, info: os.stat_result, digest: str) -> bool:
        """Say whether a file of the right size has other bytes than its package brought."""
        kind, _, wanted = digest.partition("=")
        if kind != "sha256" or info.st_size > _EDITED_BYTES or info.st_ctime_ns < self._since:
            return False
        import hashlib

        data = files.read(self._root + path, _EDITED_BYTES)
        if data is None:
            return False
        raw = hashlib.sha256(data).digest()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != wanted

    def _is_script(self, path: str) -> bool:
        above = os.path.dirname(os.path.dirname(path))
        for lib in (f"{above}/lib", f"{above}/local/lib"):
            with suppress(OSError):
                for python in os.listdir(self._root + lib):
                    for part in _SITES:
                        site = f"{lib}/{python}{part[:-1]}"
                        if python.startswith("python") and path in self._site(site)[1]:
                            return True
        return False

    def _conda(self, path: str) -> str:
        """Return `conda` where a prefix above *path* has a package that lists it."""
        above = path
        while (above := above.rpartition("/")[0]).count("/") >= 1:
            meta = f"{above}/conda-meta"
            if _changed(self._root + meta):
                known, _ = self._listed(meta, ".json", _conda_files)
                return "conda" if path[len(above) + 1 :] in known or path.startswith(meta) else ""
        return ""

    def _apt(self, path: str, info: os.stat_result) -> str:
        known, newest = self._listed(_DPKG, ".list", _dpkg_files)
        if path in known:
            return "apt"
        local = path.startswith("/usr/local/") or path.endswith((".py", ".sh"))
        near = newest - _NEAR < info.st_ctime_ns < newest + _NEAR if known else False
        if not near or local or not path.startswith(("/usr/", "/etc/", "/var/lib/")):
            return ""
        # `apt-get install nginx && cp mine.conf /etc/nginx`: what comes after the end is a person's
        return "hidden" if info.st_ctime_ns <= _changed(self._root + _DPKG_END) else ""

    def _listed(self, folder: str, end: str, read: object) -> tuple[frozenset[str], int]:
        """Return every path that the lists in *folder* name that are new since the start."""
        when = _changed(self._root + folder)
        if folder not in self._lists or self._lists[folder][0] != when:
            found: set[str] = set()
            newest = 0
            with suppress(OSError), os.scandir(self._root + folder) as listing:
                for entry in listing:
                    if not entry.name.endswith(end):
                        continue
                    changed = entry.stat(follow_symlinks=False).st_ctime_ns
                    if changed >= self._since:
                        newest = max(newest, changed)
                        found.update(read(files.read(entry.path, _LIST_BYTES) or b""))  # type: ignore[operator]
            self._lists[folder] = (when, frozenset(found), newest)
        return self._lists[folder][1:]


def _dpkg_files(text: bytes) -> list[str]:
    return os.fsdecode(text).splitlines()


def _conda_files(text: bytes) -> list[str]:
    found: Mapping[str, object] = table(text)
    names = found.get("files")
    return [one for one in names if isinstance(one, str)] if isinstance(names, list) else []


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
