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
class Gone:
    """The user removed *path*: it must not come back."""

    path: str


@dataclass(frozen=True)
class Took:
    """Everything of the runs before has been looked at."""


@dataclass(frozen=True)
class End:
    """The run was ended in good order."""

    reason: str


@dataclass(frozen=True)
class Header:
    """The first line of a run: when it *began*, in which *image*, on which *host*."""

    began: str = ""
    image: str = ""
    host: str = ""
    schema: int = SCHEMA


Line = Saved | Back | Left | Gone | Took | End | Header


def encode(line: Line) -> bytes:
    """Return the text of *line*, with its end."""
    if isinstance(line, Gone):
        found: object = {"gone": _shown(line.path)}
    elif isinstance(line, Took):
        found = {"took": []}
    elif isinstance(line, End):
        found = {"end": line.reason}
    elif isinstance(line, Header):
        found = {name: getattr(line, name) for name in ("schema", "began", "image", "host")}
    elif isinstance(line, Left):
        words = {"kind": line.kind, "size": line.size, "why": line.why}
        found = {"left": _shown(line.path), **words}
    elif isinstance(line, Back):
        old = {"old": _fields(line.old)} if line.old else {}
        at = {"at": _shown(line.at)} if line.at else {}
        found = {"back": _shown(line.path), "how": line.how, **at, **old}
    else:
        found = _fields(line)
    return dumps(found).encode() + b"\n"


def decode(text: bytes) -> Line | None:
    """Return what *text* says, or None; never raises."""
    if len(text) > LONGEST:
        return None
    found = table(text)
    try:
        return _decoded(found)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _decoded(found: dict[str, Any]) -> Line:
    if "path" in found:
        return _saved(found)
    if "gone" in found:
        return Gone(clean(found["gone"]))
    if "took" in found:
        return Took()
    if "left" in found:
        words = (_word(found["kind"]), _number(found["size"], _SIZES), _word(found["why"]))
        return Left(clean(found["left"]), *words)
    if "back" in found:
        _must(found["how"] in HOWS)
        old, at = found.get("old"), found.get("at")
        places = clean(found["back"]), found["how"], clean(at) if at else ""
        return Back(*places, _saved(old) if old else None)
    if "end" in found:
        return End(_word(found["end"]))
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
    kind = found["type"]
    _must(kind in (FILE, LINK, FOLDER))
    hard, to = found.get("hard", ""), found.get("to", "")
    made = Saved(
        clean(found["path"]), kind,
        # No set-id bits; the sticky bit is for folders.
        _number(found["mode"], range(1 << 16)) & (0o1777 if kind == FOLDER else 0o777),
        _number(found["uid"], _IDS), _number(found["gid"], _IDS),
        _number(found["size"], _SIZES), _number(found["mtime_ns"], _TIMES),
        _word(found.get("kind", "")), _flag(found.get("added")), _word(found.get("sha256", "")),
        _word(found.get("file", "")), _number(found.get("at", 0), _SIZES),
        _number(found.get("stored", 0), _SIZES), _extents(found), _text(to) if to else "",
        clean(hard) if hard else "", _xattrs(found.get("xattrs", ())),
        _flag(found.get("torn", False)) is True, _flag(found.get("backup", False)) is True,
        _word(found.get("image", "")),
    )  # fmt: skip
    if kind == LINK:
        _must(0 < len(made.to) < 4096)
    if made.stored:
        _must(kind == FILE and _DATA.fullmatch(made.file) and _SHA256.fullmatch(made.sha256))
    _must(sum(length for _, length in made.parts) == made.stored)
    # A file of which nothing is stored is one hole.
    _must(kind != FILE or made.extents or made.stored in (0, made.size))
    return made


def _extents(found: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    given = found.get("extents", ())
    _must(isinstance(given, list | tuple) and len(given) <= MOST_EXTENTS)
    made = tuple((_number(start, _SIZES), _number(length, _SIZES)) for start, length in given)
    end = 0
    for start, length in made:
        _must(length > 0 and start >= end)
        end = start + length
    _must(end <= found["size"])
    return made


def _xattrs(given: Any) -> tuple[tuple[str, str], ...]:
    return tuple((_user(name), _word(value)) for name, value in given)


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


def _flag(given: Any) -> bool | None:
    _must(given is None or isinstance(given, bool))
    return None if given is None else bool(given)


def _must(holds: object) -> None:
    if not holds:
        raise ValueError
