"""The lines of a run. They come from a volume: what is not exactly right is none. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from workspace_agent.model.jsontext import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
    """*path* is about to be put back: *how*, at *place* if it is another, instead of *old*."""

    path: str
    how: str
    place: str = ""
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
    from json import dumps

    found = {line.word: _plain(line.text)} if isinstance(line, Mark) else _fields(line)
    return dumps(found).encode() + b"\n"


def decode(text: bytes) -> Line | None:
    """Return what *text* says, or None; never raises."""
    if len(text) > LONGEST:
        return None
    found = table(text)
    try:
        for word in _MARKS.keys() & found.keys():
            return Mark(word, _MARKS[word](found[word]))
        for key, kind in _KEYS.items():
            if key in found:
                return _made(kind, key, found)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    return None


def _fields(line: Line) -> dict[str, object]:
    """Return what is not as usual, and always the field that the line is known by."""
    key, usual = _USUAL[type(line)]
    rest = {name: _plain(value) for name, one in usual.items()
            if (value := getattr(line, name)) != one or name == key}  # fmt: skip
    return {key: rest.pop("path"), **rest} if key not in usual else rest


def _made(kind: type[Any], key: str, found: Mapping[str, Any]) -> Line:
    given = {"path" if name == key != "schema" else name: value for name, value in found.items()}
    _must(given.keys() <= kind.__dataclass_fields__.keys())
    made: Line = kind(**{name: _CHECKS[name](value) for name, value in given.items()})
    return _sound(made) if isinstance(made, Saved) else made


def _sound(saved: Saved) -> Saved:
    """Return *saved*, whose fields have to fit each other; raises ValueError."""
    is_file, end = saved.type == FILE, 0
    _must((saved.type == LINK) == (0 < len(saved.to) < 4096))
    if saved.stored:
        _must(is_file and _DATA.fullmatch(saved.file) and _SHA256.fullmatch(saved.sha256))
    for start, length in saved.extents:
        _must(length > 0 and start >= end)
        end = start + length
    _must(end <= saved.size and len(saved.extents) <= MOST_EXTENTS)
    _must(sum(length for _, length in saved.parts) == saved.stored)
    # A file of which nothing is stored is one hole.
    _must(not is_file or saved.extents or saved.stored in (0, saved.size))
    # No set-id bits; the sticky bit is for folders.
    mode = saved.mode & (0o1777 if saved.type == FOLDER else 0o777)
    return saved if mode == saved.mode else replace(saved, mode=mode)


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


def _plain(value: object) -> object:
    """Return *value* as JSON can have it."""
    from binascii import b2a_base64

    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return {"b64": b2a_base64(raw(value), newline=False).decode()}
    return _fields(value) if isinstance(value, Saved) else value


def _word(given: Any) -> str:
    _must(isinstance(given, str))
    return str(given)


def _must(holds: object) -> None:
    if not holds:
        raise ValueError


def _among(*allowed: Any) -> Callable[[Any], Any]:
    """Return what lets *allowed* values pass; True and 1 are two things."""

    def checked(given: Any) -> Any:
        _must(any(type(given) is type(one) and given == one for one in allowed))
        return given

    return checked


def _within(numbers: range) -> Callable[[Any], int]:
    def checked(given: Any) -> int:
        _must(type(given) is int and given in numbers)
        return int(given)

    return checked


def _extents(given: Any) -> tuple[tuple[int, int], ...]:
    return tuple((_SIZE(start), _SIZE(length)) for start, length in given)


def _xattrs(given: Any) -> tuple[tuple[str, str], ...]:
    found = tuple((_word(name), _word(value)) for name, value in given)
    for name, _ in found:
        _must(name.startswith("user.") and len(name) <= _NAME and "\0" not in name)
    return found


_SIZE, _ID, _FLAG = _within(range(1 << 62)), _within(range((1 << 32) - 1)), _among(True, False)
_CHECKS: dict[str, Callable[[Any], Any]] = {
    "path": clean, "place": clean, "hard": clean, "to": _text, "how": _among(*HOWS),
    "type": _among(FILE, LINK, FOLDER), "mode": _within(range(1 << 16)), "uid": _ID, "gid": _ID,
    "size": _SIZE, "mtime_ns": _within(range(-(1 << 62), 1 << 62)), "at": _SIZE, "stored": _SIZE,
    "kind": _word, "why": _word, "sha256": _word, "file": _word, "image": _word, "host": _word,
    "began": _word, "schema": _SIZE, "added": _among(True, False, None), "torn": _FLAG,
    "backup": _FLAG, "extents": _extents, "xattrs": _xattrs,
    "old": lambda given: _made(Saved, "path", given),
}  # fmt: skip
_MARKS = {"gone": clean, "took": _word, "end": _word}
_KEYS: dict[str, type[Any]] = {"back": Back, "left": Left, "path": Saved, "schema": Header}
_USUAL = {
    kind: (key, {name: one.default for name, one in kind.__dataclass_fields__.items()})
    for key, kind in _KEYS.items()
}
