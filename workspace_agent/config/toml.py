"""TOML text to a dict, with a bound on what a hostile text can cost."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

from workspace_agent.model.problem import AgentError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 64 * 1024

# No key of ours has more than four; the standard library's parser is quadratic in this number.
MAX_PARTS = 32

# Dots in what is quoted or a comment are no separators, even where a quote is not closed.
_QUOTED = re.compile(r"""\"(?:\\.|[^"\\])*\"?|'[^']*'?|#.*""")

# What ends a key; with two dots in a row the parser stops.
_BETWEEN = re.compile(r"[=,{}\[\]]|\.\.+")


def parse(text: str, name: str = "the profile") -> dict[str, Any]:
    """Return the tables of *text*; *name* is what a problem calls it."""
    check_size(len(text), name)
    if line := _line_of_long_key(text):
        raise not_toml(name, line, f"a key has more than {MAX_PARTS} dotted parts")
    loads = parser()
    try:
        return loads(text)
    except RecursionError as error:
        raise not_toml(name, None, "tables or lists are nested too deeply") from error
    except ValueError as error:
        raise not_toml(name, _line_of(error, text), _reason(error)) from error


def check_size(count: int, name: str) -> None:
    """Refuse more than MAX_BYTES."""
    if count > MAX_BYTES:
        raise AgentError(
            Problem(
                slug="profile.too-big",
                what="the profile is too big to be read",
                why=f"it has more than {MAX_BYTES // 1024} KiB",
                fix="move what is not configuration into a script",
                where=name,
            )
        )


def parser() -> Callable[[str], dict[str, Any]]:
    """Return the best parser there is: tomli, which bounds its own work, else the interpreter's."""
    try:
        import tomli
    except ImportError:
        _add_own_packages()
    try:
        import tomli

        return tomli.loads
    except ImportError:
        pass
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads
    raise AgentError(
        Problem(
            slug="profile.no-parser",
            what="the profile cannot be read",
            why=f"this Python {sys.version_info[0]}.{sys.version_info[1]} has no TOML parser",
            fix="install tomli 2.5 or newer beside the agent",
        )
    )


def _add_own_packages() -> None:
    """Let a virtual environment see its packages, which a boot under `-I -S` does not.

    Only its own: the packages of a system's Python may be anyone's. `sys.prefix` alone cannot
    tell, because before Python 3.14 it is `site` that sets it.
    """
    home = os.path.dirname(os.path.dirname(sys.executable))
    if sys.prefix == sys.base_prefix and not os.path.isfile(os.path.join(home, "pyvenv.cfg")):
        return
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = os.path.join(home, "lib", version, "site-packages")
    if packages not in sys.path:
        sys.path.append(packages)


def _line_of_long_key(text: str) -> int | None:
    for number, line in enumerate(text.split("\n"), 1):
        keys = _BETWEEN.split(_QUOTED.sub("q", line))
        if any(key.count(".") >= MAX_PARTS for key in keys):
            return number
    return None


def _line_of(error: ValueError, text: str) -> int | None:
    """Return the line that *error* names; only tomli, and newer interpreters, carry it apart."""
    line = getattr(error, "lineno", None)
    if isinstance(line, int):
        return line
    _, found, rest = str(error).partition("(at line ")
    digits = rest.partition(",")[0]
    if found and digits.isdecimal():
        return int(digits)
    return text.count("\n") + 1 if "(at end of document)" in str(error) else None


def _reason(error: ValueError) -> str:
    message = str(error).partition(" (at ")[0]
    return message[:1].lower() + message[1:]


def not_toml(name: str, line: int | None, why: str) -> AgentError:
    """Return the error for a text that no parser can read, *line* included where it is known."""
    return AgentError(
        Problem(
            slug="profile.not-toml",
            what="the profile is not TOML",
            why=why,
            fix="correct that line; `workspace-agent profile show` prints every key in its form",
            where=f"{name}:{line}" if line else name,
        )
    )
