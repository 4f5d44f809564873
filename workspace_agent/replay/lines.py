"""Requirement files as lines: what is asked for, in which file, on which line.

Nested files are followed, every other form becomes lines too, and paths become absolute: an
installer then gets one flat file, wherever that lies.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass, replace

from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.replay.redact import redacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Real ones have a few KiB, a lock with all hashes of 500 packages has 2 MiB.
_LIMIT = 8 << 20

# More nested files than anybody has; a file that names itself is read once in any case.
_FILES = 200

# Options of pip's command line that people also put into files. The first is of no use where
# nothing is installed into the system's Python, the second where nothing cached outlives a build.
NEEDLESS = ("--break-system-packages", "--no-cache-dir", "--user", "--upgrade", "-U")

_COMMENT = re.compile(r"(^|\s)#.*$")
_NAME = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*([@<>=!~;(]|$|--)"
)
_NESTED = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s*=?\s*)(\S.*)$")
_EDITABLE = re.compile(r"(-e|--editable)(?:\s+|=)(.+)$")
_FIND_LINKS = re.compile(r"(-f|--find-links)(?:\s+|=)(.+)$")
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class Line:
    """One requirement or option, without its comment; *number* is 0 where a file has no lines."""

    text: str
    file: str
    number: int = 0
    constraint: bool = False

    @property
    def is_option(self) -> bool:
        """Whether it says how to look, not what for."""
        return self.text.startswith("-") and not _EDITABLE.match(self.text)

    @property
    def name(self) -> str:
        """The normal form of the package's name; "" for an option, and where only a build tells."""
        if egg := _EGG.search(self.text):
            return normal(egg[1])
        found = None if self.text.startswith(("-", ".", "/")) else _NAME.match(self.text)
        return normal(found[1]) if found else ""

    @property
    def is_exact(self) -> bool:
        """Whether only the line itself says what is meant: a URL, a path, a hash."""
        is_url = "://" in self.text.partition("#")[0] or " @ " in self.text or "--hash" in self.text
        return is_url or self.text.startswith(("-e", "--editable", ".", "/"))

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        name = os.path.basename(self.file)
        return f"{name}:{self.number}" if self.number else name


def write(found: Sequence[Line], prefix: str) -> list[str]:
    """Write what is asked for as one flat file, and what bounds it as another, named by *prefix*;
    returns the options that name them to an installer. They may hold credentials.
    """
    named = []
    for option, bound in (("-r", False), ("-c", True)):
        text = "".join(f"{line.text}\n" for line in found if line.constraint is bound)
        if text or not bound:
            files.commit(f"{prefix}{option}.txt", text, 0o600)
            named += [option, f"{prefix}{option}.txt"]
    return named


def loose(found: Sequence[Line]) -> tuple[Line, ...]:
    """Return those of the lines that leave a version open, which no constraint settles."""
    bound = {line.name for line in found if line.constraint and _is_pinned(line.text)}
    return tuple(
        line
        for line in found
        if not (line.constraint or line.is_option or line.name in bound or _is_pinned(line.text))
    )


def _is_pinned(text: str) -> bool:
    asked = text.partition(";")[0]
    if "://" in asked or asked.startswith(("-e", "--e", ".", "/")):
        return bool(re.search(r"@[0-9a-f]{40}\b|#sha256=|--hash", text))
    return "--hash" in text or bool(re.search(r"^[^=<>!~,@]+={2,3}\s*[^=<>!~,*\s]+\s*$", asked))


def normal(name: str) -> str:
    """Return a package's *name* as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(
    paths: Sequence[str], extras: Sequence[str] = (), groups: Sequence[str] = ()
) -> tuple[Line, ...]:
    """Return what *paths* and the files they name ask for, in order.

    A path may be a requirements file, pyproject.toml (*extras* and *groups* of it), pylock.toml,
    or a script with inline metadata. Raises AgentError for what cannot be read.
    """
    seen: set[tuple[str, bool]] = set()
    found: list[Line] = []
    for path in paths:
        try:
            found += _of(os.path.abspath(path), extras, groups, seen, False)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            # People's own files, and locks from the volume: anything may stand anywhere in them.
            raise unreadable(path, f"something in it is not what it should be: {error}") from error
    return tuple(found)


def without_captured(found: Sequence[Line]) -> tuple[Line, ...]:
    """Return the lines *found* but for those by hand of packages that a person's file asks for;
    without any of those beside hashes, which installers want for all lines or none.
    """
    own = [line for line in found if os.path.basename(line.file) != layout.CAPTURED_LOCK]
    if any("--hash" in line.text for line in own):
        return tuple(own)
    asked = {line.name for line in own if not line.constraint} - {""}
    return tuple(line for line in found if line in own or line.name not in asked)


def _of(
    path: str,
    extras: Sequence[str],
    groups: Sequence[str],
    seen: set[tuple[str, bool]],
    bound: bool,
) -> Iterator[Line]:
    if (path, bound) in seen:
        return
    seen.add((path, bound))
    if len(seen) > _FILES:
        raise unreadable(path, f"more than {_FILES} files name each other")
    text = _text(path)
    name = os.path.basename(path)
    if name.endswith((".toml", ".py")):
        from workspace_agent.replay import forms

        if name.startswith("pylock."):
            yield from (Line(one, path) for one in forms.locked(text, os.path.dirname(path)))
            return
        is_script = name.endswith(".py")
        found = forms.script(text) if is_script else forms.project(text, extras, groups)
        yield from (Line(one, path, _number(text, one)) for one in found)
    else:
        for line in _plain(text, path, bound):
            nested = _NESTED.match(line.text)
            if nested is None or "://" in nested[1]:
                yield line
            else:
                below = line.text.startswith(("-c", "--c")) or bound
                inner = os.path.join(os.path.dirname(path), nested[1].strip().strip("'\""))
                yield from _of(os.path.abspath(inner), extras, groups, seen, below)


def _text(path: str) -> str:
    data = files.read(os.path.realpath(path), _LIMIT)
    if data is None:
        raise unreadable(path, "it is not there, not a regular file, or larger than 8 MiB")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")  # what `pip freeze >` writes in a shell of Windows
    return data.decode("utf-8-sig", "surrogateescape")


def _plain(text: str, path: str, bound: bool) -> Iterator[Line]:
    """Yield the lines of a requirements file, those that go on on the next one joined."""
    whole, first = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        first = first or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            whole += raw[:-1]
            continue
        one = " ".join(_COMMENT.sub("", whole + raw).split())
        if one and one not in NEEDLESS:
            yield _absolute(Line(one, path, first, bound))
        whole, first = "", 0


def _absolute(line: Line) -> Line:
    """Return *line* with a path in it that leads there from any folder."""
    folder = os.path.dirname(line.file)
    if found := _EDITABLE.match(line.text) or _FIND_LINKS.match(line.text):
        if "://" in found[2] or found[2].startswith("/"):
            return line
        return replace(line, text=f"{found[1]} {os.path.normpath(os.path.join(folder, found[2]))}")
    path, _, more = line.text.partition(" ")
    is_path = "/" in path or path.startswith(".") or path.endswith((".whl", ".tar.gz", ".zip"))
    if is_path and not path.startswith(("-", "$")) and "://" not in line.text and more[:2] != "@ ":
        whole = os.path.normpath(os.path.join(folder, path))
        return replace(line, text=f"{whole} {more}".rstrip())
    return line


def _number(text: str, one: str) -> int:
    return text.count("\n", 0, text.find(one)) + 1 if one in text else 0


def unreadable(path: str, why: str) -> AgentError:
    """Say that nobody can tell what the file *path* asks for."""
    what = f"{path} cannot be used as a list of packages"
    fix = "mend the file; the next boot reads it again"
    return AgentError(Problem("replay.unreadable", what, why, fix, path))


def not_pinned(loose: Sequence[Line]) -> Problem:
    """Say that the lines *loose* leave a version open, where that is not allowed."""
    return Problem(
        "replay.not-pinned",
        f"{loose[0].place} names no one version: {redacted(loose[0].text)}",
        "`replay.trust` is `pinned`" + (f"; so do {len(loose) - 1} more" if loose[1:] else ""),
        "write `==` and a version, or a hash, or set `replay.trust` to `always`",
        loose[0].file,
    )
