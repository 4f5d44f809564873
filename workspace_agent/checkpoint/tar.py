"""The one kind of tar that carried files travel in: PAX, not compressed, and nothing else is read.

Any tar lists and unpacks it. The standard library's takes 120 us to write a member and 80 to read
one, which is more than everything else that is done with a small file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from workspace_agent.model.problem import AgentError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
END = bytes(2 * BLOCK)

FILE, HARD, LINK, FOLDER, PIPE = b"0", b"1", b"2", b"5", b"6"
_PAX = b"x"

# What a field of 7 and of 11 octal digits holds.
_MOST_ID, _MOST_SIZE = (1 << 21) - 1, (1 << 33) - 1

# Names have up to 4096 bytes, attributes of a file 64 KiB together.
_LONGEST = 1 << 20

# Headers are far apart only where much is between them.
_AHEAD = 256 << 10

_XATTR, _DELETED = "SCHILY.xattr.", "WORKSPACE.deleted"
_SPARSE = "GNU.sparse."


@dataclass(slots=True)
class Member:
    """One thing to be put at *path*, which has no slash before it; or, *deleted*, taken from it.

    *parts* are the (start, length) of what a file with holes has, *stored* the bytes that the
    archive has from *at* on: before them, for a file with holes, is the list of its parts.
    """

    path: str
    kind: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    to: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    parts: tuple[tuple[int, int], ...] | None = None
    deleted: bool = False
    at: int = 0
    stored: int = 0


def header(one: Member) -> bytes:
    """Return all that stands before the bytes of a file."""
    name, to, stored, table = os.fsencode(one.path), os.fsencode(one.to), one.size, b""
    more: list[tuple[str, bytes]] = [("mtime", b"%d.%09d" % divmod(one.mtime_ns, 10**9))]
    if one.parts is not None:  # the last one says where the file ends
        parts = (*one.parts, (one.size, 0))
        table = _padded(b"\n".join(b"%d" % n for n in (len(parts), *chain(*parts))) + b"\n")
        stored = len(table) + sum(length for _, length in parts)
        more += [(f"{_SPARSE}major", b"1"), (f"{_SPARSE}minor", b"0"), (f"{_SPARSE}name", name),
                 (f"{_SPARSE}realsize", b"%d" % one.size)]  # fmt: skip
    if one.deleted:  # as in the layers of images, for whoever reads it with another tar
        more.append((_DELETED, name))
        above, slash, last = name.rpartition(b"/")
        name = above + slash + b".wh." + last
    if len(name) > 100:
        more.append(("path", name))
    if len(to) > 100:
        more.append(("linkpath", to))
    if stored > _MOST_SIZE:
        more.append(("size", b"%d" % stored))
    if max(one.uid, one.gid) > _MOST_ID:
        more += [("uid", b"%d" % one.uid), ("gid", b"%d" % one.gid)]
    more += [(_XATTR + key, value) for key, value in one.xattrs]
    records = b"".join(_record(key.encode(errors="surrogateescape"), value) for key, value in more)
    seconds = max(0, one.mtime_ns // 10**9)
    return b"".join((
        _before(len(records)), _padded(records),
        _block(name[:100], one.mode & 0o7777, min(one.uid, _MOST_ID), min(one.gid, _MOST_ID),
               stored if stored <= _MOST_SIZE else 0, min(seconds, _MOST_SIZE), one.kind, to[:100]),
        table,
    ))  # fmt: skip


def padding(size: int) -> bytes:
    """Return what stands behind a file of *size* bytes."""
    return bytes(-size % BLOCK)


def members(source: int) -> Iterator[Member]:
    """Read the headers of the archive *source*, a regular file; the bytes are passed over.

    Raises AgentError for whatever `header` would not have written, and for an end that is missing.
    """
    window, at, end = _Window(source), 0, os.fstat(source).st_size
    while True:
        fields, kind, size, at = _read(window, at)
        more: dict[str, bytes] = {}
        if not kind:
            return
        if kind == _PAX:
            if size > _LONGEST:
                raise wrong("a header is too long")
            more = dict(_records(window.get(at, size)))
            fields, kind, size, at = _read(window, at + size + -size % BLOCK)
        one = _member(fields, kind, size, more)
        one.at = at
        at += one.stored + -one.stored % BLOCK
        if at > end:
            raise wrong("it is cut off")
        if one.parts is not None:
            _read_parts(window, one)
        yield one


class _Window:
    """A part of a file, read ahead."""

    def __init__(self, fd: int) -> None:
        self._fd, self._start, self._data = fd, 0, b""

    def get(self, at: int, size: int) -> bytes:
        """Return *size* bytes from *at* on; raises AgentError where there are fewer."""
        begin = at - self._start
        if not 0 <= begin <= begin + size <= len(self._data):
            self._start, begin = at, 0
            self._data = os.pread(self._fd, max(size, _AHEAD), at)
        if begin + size > len(self._data):
            raise wrong("it is cut off")
        return self._data[begin : begin + size]


def _block(
    name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes, to: bytes
) -> bytes:
    before = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"), mode, uid, gid, size, mtime,
    )  # fmt: skip
    after = b"%b%bustar\x0000" % (kind, to.ljust(100, b"\0"))
    total = sum(before) + sum(after) + 8 * 32  # the sum's own field counts as spaces
    return (b"%b%06o\0 %b" % (before, total, after)).ljust(BLOCK, b"\0")


@lru_cache
def _before(size: int) -> bytes:
    """Return what stands before the records of a member; nearly all have records of one size."""
    return _block(b"PaxHeaders", 0o644, 0, 0, size, 0, _PAX, b"")


def _padded(data: bytes) -> bytes:
    return data.ljust(len(data) + -len(data) % BLOCK, b"\0")


def _record(key: bytes, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE`, of which the length is a part."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _read(window: _Window, at: int) -> tuple[bytes, bytes, int, int]:
    """Return a block, its kind, its size, and where it ends; no kind at the end of all."""
    block = window.get(at, BLOCK)
    if not any(block):
        return block, b"", 0, at
    if block[257:263] != b"ustar\0" or any(block[345:500]):
        raise wrong("it is not one of ours")
    if _number(block[148:154]) != sum(block) - sum(block[148:156]) + 8 * 32:
        raise wrong("a header is damaged")
    return block, block[156:157], _number(block[124:136]), at + BLOCK


def _number(field: bytes) -> int:
    text = field.rstrip(b"\0 ")
    if not text.isdigit() or text.strip(b"01234567"):
        raise wrong("a header is damaged")
    return int(text, 8)


def _records(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data:
        length, _, _ = data[:12].partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(data):
            raise wrong("a header is damaged")
        record, data = data[len(length) + 1 : int(length)], data[int(length) :]
        key, is_there, value = record[:-1].partition(b"=")
        if not is_there:
            raise wrong("a header is damaged")
        yield key.decode(errors="surrogateescape"), value


def _member(block: bytes, kind: bytes, size: int, more: dict[str, bytes]) -> Member:
    deleted = more.get(_DELETED)
    path = deleted or more.get(f"{_SPARSE}name") or more.get("path") or block[:100].rstrip(b"\0")
    to = more.get("linkpath", block[157:257].rstrip(b"\0"))
    if kind not in (FILE, HARD, LINK, FOLDER, PIPE) or (size and kind != FILE):
        raise wrong(f"{_shown(path)} is of a kind that is not carried")
    if not _is_plain(path) or (kind == HARD and not _is_plain(to)) or b"\0" in to:
        raise wrong(f"{_shown(path)} is no name")
    try:
        stored = int(more.get("size", size))
        seconds, _, rest = more.get("mtime", b"0").partition(b".")
        mtime_ns = int(seconds) * 10**9 + int(rest.ljust(9, b"0")[:9] or 0)
        uid, gid = (
            int(more.get(n, _number(block[a : a + 8]))) for n, a in (("uid", 108), ("gid", 116))
        )
        real = int(more.get(f"{_SPARSE}realsize", stored))
    except ValueError:
        raise wrong(f"{_shown(path)} has a damaged header") from None
    if min(stored, uid, gid, real) < 0:
        raise wrong(f"{_shown(path)} has a damaged header")
    xattrs = tuple(
        (key[len(_XATTR) :], value) for key, value in more.items() if key.startswith(_XATTR)
    )
    return Member(
        os.fsdecode(path), kind, _number(block[100:108]), uid, gid, real, mtime_ns, os.fsdecode(to),
        xattrs, () if f"{_SPARSE}major" in more else None, deleted is not None, 0, stored,
    )  # fmt: skip


def _read_parts(window: _Window, one: Member) -> None:
    """Read the list of what a file with holes has."""
    lines = window.get(one.at, min(one.stored, _LONGEST)).split(b"\n")
    try:
        count = int(lines[0])
        numbers = [int(line) for line in lines[1 : 1 + 2 * count]]
        parts = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    except ValueError:
        raise wrong(f"{_shown(os.fsencode(one.path))} has a damaged header") from None
    table = sum(len(line) + 1 for line in lines[: 1 + 2 * count])
    one.at += table + -table % BLOCK
    one.stored -= table + -table % BLOCK
    whole = sum(length for _, length in parts) == one.stored
    if not whole or any(start < 0 or n < 0 or start + n > one.size for start, n in parts):
        raise wrong(f"{_shown(os.fsencode(one.path))} has a damaged header")
    one.parts = parts


def _is_plain(path: bytes) -> bool:
    """Say whether every part of *path* is a name."""
    return b"\0" not in path and not {b"", b".", b".."} & set(path.split(b"/"))


def _shown(path: bytes) -> str:
    return ascii(os.fsdecode(path[:200]))


def wrong(why: str) -> AgentError:
    """Say that an archive is none of ours, or is damaged, and *why*."""
    return AgentError(Problem(
        "checkpoint.carried-damaged", "the files that came with the checkpoint cannot be unpacked",
        why, "take another checkpoint: `workspace-agent checkpoint`",
    ))  # fmt: skip
