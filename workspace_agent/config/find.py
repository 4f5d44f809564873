"""Profile files: found by name or path, read with care, followed along `extends`."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any

from workspace_agent.config import forms, toml
from workspace_agent.config.load import DEFAULT_NAME, names
from workspace_agent.config.units import quoted
from workspace_agent.model.problem import AgentError, Problem

# How many times a profile may extend one that extends one.
MAX_DEPTH = 8


@dataclass(frozen=True)
class File:
    """A profile file as it was read."""

    path: str
    text: str
    table: dict[str, Any]


def path_of(selector: str, builtin: str, folder: str = "", asker: str = "") -> str | None:
    """Return the path that *selector* means, a relative one from *folder*; None is the defaults."""
    if selector == DEFAULT_NAME:
        return None
    if "/" in selector or selector.endswith(".toml"):
        path = os.path.join(folder, selector)
    else:
        path = os.path.join(builtin, f"{selector}.toml")
    if os.path.exists(path):
        return path
    known = names(builtin)
    raise AgentError(
        Problem(
            slug="profile.not-found",
            what=f"there is no profile {quoted(selector)}",
            why=f"{path} does not exist",
            fix=forms.guess(selector, known) or f"name one of {', '.join(known)}, or a file",
            where=asker,
        )
    )


def chain(
    path: str, builtin: str, above: tuple[str, ...] = (), seen: set[str] | None = None
) -> list[File]:
    """Return what the file at *path* extends, in order of rising precedence, and last the file.

    A file that is reached twice counts at its first place, so that a lattice of files costs one
    read each.
    """
    seen = set() if seen is None else seen
    real = os.path.realpath(path)
    _check_loop(path, real, above)
    if real in seen:
        return []
    seen.add(real)
    file = read(path)
    files: list[File] = []
    for parent in _parents(file):
        if found := path_of(parent, builtin, os.path.dirname(path), path):
            files += chain(found, builtin, (*above, real), seen)
    return [*files, file]


def read(path: str, *, follow: bool = True) -> File:
    """Read one file; without *follow* a symbolic link is refused."""
    try:
        text = _text(path, follow)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    return File(path, text, toml.parse(text, path))


def _text(path: str, follow: bool) -> str:
    # Without blocking: opening a pipe that nobody writes to would hold the boot.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _unreadable(path, "it is not a regular file")
        content = _up_to(descriptor, toml.MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    toml.check_size(len(content), path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise toml.not_toml(path, line, "it is not UTF-8") from error


def _up_to(descriptor: int, count: int) -> bytes:
    content = b""
    while len(content) < count and (more := os.read(descriptor, count - len(content))):
        content += more
    return content


def _parents(file: File) -> list[str]:
    """Return what *file* extends; what is no name there is the decoder's to report."""
    parents = file.table.get("extends", ())
    return [one for one in parents if isinstance(one, str)] if isinstance(parents, list) else []


def _check_loop(path: str, real: str, above: tuple[str, ...]) -> None:
    if real in above:
        what, links = "the profile extends itself", (*above[above.index(real) :], real)
    elif len(above) > MAX_DEPTH:
        what, links = f"profiles extend each other more than {MAX_DEPTH} times", (*above, real)
    else:
        return
    raise AgentError(
        Problem(
            slug="profile.cycle",
            what=what,
            why=" extends ".join(links),
            fix="take one of them out of the `extends` that names it",
            where=path,
        )
    )


def _unreadable(path: str, why: str) -> AgentError:
    return AgentError(
        Problem(
            slug="profile.not-found",
            what=f"the profile {quoted(path)} cannot be read",
            why=why[:1].lower() + why[1:],
            fix="give a regular file that the agent may read",
            where=path,
        )
    )
