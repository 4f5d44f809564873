"""The lines of a run. They come from a volume: what is not exactly right is none. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workspace_agent.model.jsontext import dumps, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SCHEMA = 1

# Longer lines are passed over, and after so many no more are read.
LONGEST, MOST = 64 << 10, 1_000_000

# What a kernel takes for a name is less; a path has to fit in its line, escaped.
_NAME, _PATH, _PARTS = 255, 8 << 10, 2000

# More holes than this are stored as zeros.
MOST_EXTENTS = 400

RUN = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9A-Za-z_-]{1,64}")
_DATA = re.compile(rf"{RUN.pattern}-[0-9]{{1,9}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

FILE, LINK, FOLDER = "f", "l", "d"
HOWS = ("restored", "replaced", "beside", "undone")

_SIZES, _IDS, _TIMES = range(1 << 62), range((1 << 32) - 1), range(-(1 << 62), 1 << 62)
_NUMBERS = {
    "mode": range(1 << 16), "uid": _IDS, "gid": _IDS, "size": _SIZES, "mtime_ns": _TIMES,
    "at": _SIZES, "stored": _SIZES,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Saved:
    """One thing as it was: *stored* bytes from *at* in the data file *file* have *sha256*.

    They are the whole of it, or its *extents* (start, length), between which are holes. *to* is a
    link's text, *hard* the first path of the same file in this run. A *torn* file changed while
    it was read; a *backup* is a database's own. *image* is the one it was saved in.
    """

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    kind: str = ""
    added: bool | None = None
    sha256: str = ""
    file: str = ""
    at: int = 0
    stored: int = 0
    extents: tuple[tuple[int, int], ...] = ()
    to: str = ""
    hard: str = ""
    xattrs: tuple[tuple[str, str], ...] = ()
    torn: bool = False
    backup: bool = False
    image: str = ""

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """Where in the file its stored bytes belong: (start, length)."""
        return self.extents or (((0, self.stored),) if self.stored else ())


@dataclass(frozen=True)
class Back:
    """*path* is about to be put back: *how*, at *at* if that is another, in place of *old*."""

    path: str
    how: str
    at: str = ""
    old: Saved | None = None


@dataclass(frozen=True)
class Left:
    """*path* was seen and not saved, and *why*."""

    path: str
    kind: str
    size: int
    why: str


@dataclass(frozen=True)
class Mark:
    """`gone`: the user removed the path *text*, which must not come back.

    `took`: all that runs before say has been looked at. `end`: the run ended in good order, *text*
    is why.
    """

    word: str
    text: str = ""


@dataclass(frozen=True)
class Header:
    """The first line of a run: when it *began*, in which *image*, on which *host*."""

    began: str = ""
    image: str = ""
    host: str = ""
    schema: int = SCHEMA


Line = Saved | Back | Left | Mark | Header


def encode(line: Line) -> bytes:
    """Return the text of *line*, with its end."""
    if isinstance(line, Saved):
        found = _fields(line)
    elif isinstance(line, Mark):
        found = {line.word: _shown(line.text)}
    elif isinstance(line, Left):
        found = {"left": _shown(line.path), **{name: getattr(line, name) for name in _LEFT}}
    elif isinstance(line, Back):
        found = {"back": _shown(line.path), "how": line.how, "at": _shown(line.at)}
        found |= {"old": _fields(line.old)} if line.old else {}
    else:
        found = {name: getattr(line, name) for name in ("schema", "began", "image", "host")}
    return dumps(found).encode() + b"\n"


_LEFT = ("kind", "size", "why")


def decode(text: bytes) -> Line | None:
    """Return what *text* says, or None; never raises."""
    if len(text) > LONGEST:
        return None
    try:
        return _decoded(table(text))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _decoded(found: dict[str, Any]) -> Line:
    if "path" in found:
        return _saved(found)
    if "gone" in found:
        return Mark("gone", clean(found["gone"]))
    for word in ("took", "end"):
        if word in found:
            return Mark(word, _word(found[word]))
    if "left" in found:
        size = _number(found["size"], _SIZES)
        return Left(clean(found["left"]), _word(found["kind"]), size, _word(found["why"]))
    if "back" in found:
        _must(found["how"] in HOWS)
        old, at = found.get("old"), found["at"] and clean(found["at"])
        return Back(clean(found["back"]), found["how"], at, _saved(old) if old else None)
    began, image, host = (_word(found.get(name, "")) for name in ("began", "image", "host"))
    return Header(began, image, host, _number(found["schema"], _SIZES))


def _fields(saved: Saved) -> dict[str, object]:
    """Return what is not as usual."""
    found: dict[str, object] = {"path": _shown(saved.path)}
    for name, usual in _USUAL.items():
        value = getattr(saved, name)
        if value != usual:
            found[name] = _shown(value) if name in ("to", "hard") else value
    return found


_FIELDS = Saved.__dataclass_fields__
_USUAL = {name: one.default for name, one in _FIELDS.items() if name != "path"}


def _saved(found: Mapping[str, Any]) -> Saved:
    _must(set(found) <= set(_FIELDS))
    kind, usual = found["type"], {**_USUAL, **found}
    _must(kind in (FILE, LINK, FOLDER))
    for name, among in _NUMBERS.items():
        _number(usual[name], among)
    for name in ("kind", "sha256", "file", "image"):
        _word(usual[name])
    _must(usual["added"] in (None, True, False) and usual["torn"] in (True, False))
    _must(usual["backup"] in (True, False))
    usual |= {
        "path": clean(found["path"]),
        # No set-id bits; the sticky bit is for folders.
        "mode": usual["mode"] & (0o1777 if kind == FOLDER else 0o777),
        "extents": _extents(usual["extents"], usual["size"]),
        "to": _text(usual["to"]),
        "hard": usual["hard"] and clean(usual["hard"]),
        "xattrs": tuple((_user(name), _word(value)) for name, value in usual["xattrs"]),
    }
    made = Saved(**usual)
    _must((kind == LINK) == (0 < len(made.to) < 4096))
    if made.stored:
        _must(kind == FILE and _DATA.fullmatch(made.file) and _SHA256.fullmatch(made.sha256))
    _must(sum(length for _, length in made.parts) == made.stored)
    # A file of which nothing is stored is one hole.
    _must(kind != FILE or made.extents or made.stored in (0, made.size))
    return made


def _extents(given: Any, size: int) -> tuple[tuple[int, int], ...]:
    made = tuple((_number(start, _SIZES), _number(length, _SIZES)) for start, length in given)
    _must(len(made) <= MOST_EXTENTS)
    end = 0
    for start, length in made:
        _must(length > 0 and start >= end)
        end = start + length
    _must(end <= size)
    return made


def _user(name: Any) -> str:
    _must(_word(name).startswith("user.") and len(name) <= _NAME and "\0" not in name)
    return str(name)


def clean(given: Any) -> str:
    """Return the path *given*; raises ValueError unless it is absolute, and the only way to say it.

    Bytes that are no UTF-8 come as {"b64": ...}.
    """
    path = _text(given)
    parts = path.split("/")
    _must(parts[0] == "" and 1 < len(parts) <= _PARTS)
    for part in parts[1:]:
        _must(part not in ("", ".", "..") and len(raw(part)) <= _NAME)
    _must(len(raw(path)) <= _PATH)
    return path


def raw(text: str) -> bytes:
    """Return the bytes of a name."""
    return text.encode("utf-8", "surrogateescape")


def _text(given: Any) -> str:
    """Return a name's text; one spelling for the same bytes."""
    from binascii import a2b_base64

    data = a2b_base64(given["b64"]) if isinstance(given, dict) else raw(_word(given))
    _must(b"\0" not in data)
    return data.decode("utf-8", "surrogateescape")


def _shown(text: object) -> object:
    from binascii import b2a_base64

    assert isinstance(text, str)
    try:
        text.encode()
    except UnicodeEncodeError:
        return {"b64": b2a_base64(raw(text), newline=False).decode()}
    return text


def _number(given: Any, among: range) -> int:
    _must(type(given) is int and given in among)
    return int(given)


def _word(given: Any) -> str:
    _must(isinstance(given, str))
    return str(given)


def _must(holds: object) -> None:
    if not holds:
        raise ValueError
