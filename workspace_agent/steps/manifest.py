"""The image's defaults: which ones they are (the fingerprint), and what each was (the manifest).

The manifest of the defaults that a home was made from is its base: what tells a file that the
user changed from one that the image changed. It is streamed both ways, and what is read back
comes from the volume, where anybody may have written it: unreadable means absent.
"""

from __future__ import annotations

import os
import stat
from array import array
from bisect import bisect_left
from contextlib import suppress

from workspace_agent.host import files
from workspace_agent.host.walk import Walk
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.steps.entry import KINDS, READ, Entry, digest, entry_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from gzip import GzipFile

    from workspace_agent.host.safe_root import SafeRoot

# The longest path and link target, each character of them escaped.
_LINE = 64 << 10

# A manifest packs to a third, one of many like names to a fiftieth; beyond this it is a trap.
_RATIO = 256

# How many names are sorted at once: ten million take 80 MB, and their sorting little beside it.
_RUN = 1 << 18

# A manifest in the making grows all the time; one that has not for so long has lost its writer.
_SILENT = 3600


def fingerprint(
    source: SafeRoot,
    exclude: Sequence[str] = (),
    prune: Collection[tuple[int, int]] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """Return 16 hex digits for the defaults in *source*, as the copier sees them; nothing is read.

    The order in which they are met does not matter, and neither does what differs between two
    nodes that unpacked the same image: the size of a folder, and times but whole seconds of files.
    """
    return _digits(sum(_worth(entry) for entry, _ in defaults(source, exclude, prune, tell)))


def write(state: SafeRoot, image: str, found: Iterable[tuple[Entry, int]]) -> bool:
    """Write the manifest of the `defaults` *found*; says whether they are those of *image*.

    If they are not, or not any more, there is none. Raises OSError.
    """
    with state.folder(layout.DEFAULTS_IN_STATE, 0o700) as folder:
        name = f"{image}.jsonl.gz"
        temporary = files.temporary_name(name)
        try:
            fd = folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            _clear(folder, os.fstat(fd).st_mtime)
            if _fill(fd, found) != image:
                return False
            folder.rename(temporary, name)
            files.sync_dir("", folder.fd)
        finally:
            folder.remove(temporary)
    return True


class Manifest:
    """The manifest of *image* on the volume: its entries, and which paths are among them."""

    def __init__(self, state: SafeRoot, image: str) -> None:
        self._state, self.image = state, image
        self._known: list[array[int]] = []
        self.count = 0

    @classmethod
    def of(
        cls, state: SafeRoot, image: str, tell: Callable[[str], None] = lambda _: None
    ) -> Manifest | None:
        """Return it, read once from end to end, or None when it is not there, whole and sound."""
        found = cls(state, image)
        run: list[int] = []
        try:
            for entry in found:
                found.count += 1
                run.append(_number(entry.path))
                if len(run) >= _RUN:
                    tell("reading what the home was made from")
                    found._known.append(array("Q", sorted(run)))
                    run = []
        except (OSError, EOFError, ValueError, RecursionError):
            return None
        found._known.append(array("Q", sorted(run)))
        return found

    def __contains__(self, path: str) -> bool:
        number = _number(path)
        at = ((run, bisect_left(run, number)) for run in self._known)
        return any(place < len(run) and run[place] == number for run, place in at)

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries; raises OSError, EOFError or ValueError where it is not sound."""
        import gzip
        import zlib

        fd = self._state.open(f"{layout.DEFAULTS_IN_STATE}/{self.image}.jsonl.gz", READ)
        with open(fd, "rb") as raw:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise ValueError
            try:
                with gzip.open(raw, "rb") as lines:
                    yield from _parsed(lines, info.st_size * _RATIO + _LINE)
            except zlib.error as error:
                raise ValueError from error


def defaults(
    source: SafeRoot,
    exclude: Sequence[str] = (),
    prune: Collection[tuple[int, int]] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Entry, int]]:
    """Yield each default, its content not read, and the open folder that it is in."""
    for part in Walk(source, exclude=exclude, prune=prune):
        tell("looking at the image's defaults")
        for folder in part:
            inside = [*((one.name, one.info) for one in folder.folders), *folder.files]
            for name, info in inside:
                with suppress(OSError):  # gone while we look
                    yield entry_of(folder.path(name), info, folder.source), folder.source


def _worth(entry: Entry) -> int:
    # Layers keep whole seconds, so a pulled image differs from a built one in the rest.
    facts = (entry.kind, entry.mode, entry.size, entry.mtime_ns // 10**9, entry.target, entry.path)
    return _number("\0".join(map(str, facts)))


def _number(text: str) -> int:
    import hashlib

    digest = hashlib.sha256(os.fsencode(text)).digest()
    return int.from_bytes(digest[:8], "big")


def _fill(fd: int, found: Iterable[tuple[Entry, int]]) -> str:
    """Write all lines to *fd*, which is closed; returns the fingerprint of what they say."""
    import gzip

    count = total = 0
    with open(fd, "wb") as raw:
        with gzip.open(raw, "wb", compresslevel=6) as packed:
            for entry, folder in found:
                count, total = count + 1, total + _worth(entry)
                sha256 = ""
                with suppress(OSError):  # the copier could not read it either
                    if entry.kind == "file":
                        sha256 = digest(folder, entry.path.rpartition("/")[2])
                packed.write(f"{dumps({**vars(entry), 'sha256': sha256})}\n".encode())
            packed.write(f"{dumps({'format': 1, 'end': count})}\n".encode())
        raw.flush()
        os.fsync(fd)
    return _digits(total)


def _digits(total: int) -> str:
    return f"{total % 2**64:016x}"


def _clear(folder: SafeRoot, now: float) -> None:
    """Remove what killed boots left half written; *now* is by the volume's clock."""
    for name in folder.names():
        info = folder.look(name) if name.endswith(".new") else None
        if info is not None and now - info.st_mtime > _SILENT:
            folder.remove(name)


def _parsed(lines: GzipFile, limit: int) -> Iterator[Entry]:
    """Yield what *lines* say, *limit* bytes of them at most."""
    import json

    count = total = 0
    while (line := lines.readline(_LINE)).endswith(b"\n"):
        total += len(line)
        value = json.loads(line)
        if total > limit or not isinstance(value, dict):
            raise ValueError
        if "end" in value:
            if value != {"format": 1, "end": count} or lines.read(1):
                raise ValueError
            return
        yield _checked(value)
        count += 1
    raise EOFError


def _checked(value: dict[str, object]) -> Entry:
    """Return the entry that *value* is; raises ValueError when it is none."""
    try:
        entry = Entry(**value)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError from error
    kinds = [str, str, int, int, int, str, str]
    if [type(one) for one in vars(entry).values()] != kinds:
        raise ValueError
    if entry.kind not in KINDS.values() or not is_below(entry.path):
        raise ValueError
    return entry


def is_below(path: str) -> bool:
    """Say whether *path* is a plain relative path: no `..`, nothing empty, nothing to resolve."""
    return "\0" not in path and not {"", ".", ".."} & set(path.split("/"))


def is_fingerprint(text: str) -> bool:
    """Say whether *text* can be one."""
    return len(text) == 16 and set(text) <= set("0123456789abcdef")
