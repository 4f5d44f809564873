"""The passwd line of one user: read, and led to another home.

`usermod -d` refuses while the user runs a process, and root always does; `os` only, since the
fast path calls it.
"""

from __future__ import annotations

from workspace_agent.host import files
from workspace_agent.host.chalf import os


def entry(text: str, uid: int) -> tuple[str, str]:
    """Return (user name, home) of the first line for *uid*, or two empty strings."""
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) == 7 and fields[2] == str(uid):
            return fields[0], fields[5]
    return "", ""


def with_home(text: str, user: str, home: str) -> str:
    """Return *text* with the home field of *user* replaced; everything else stays to the byte."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        fields = line.split(":")
        if len(fields) == 7 and fields[0] == user:
            lines[at] = ":".join([*fields[:5], home, fields[6]])
            break
    return "\n".join(lines)


def read(path: str = "/etc/passwd") -> str:
    """Return the passwd file, or an empty text where there is none."""
    return os.fsdecode(files.read(path) or b"")


def move_home(path: str, user: str, home: str) -> bool:
    """Make *home* the home of *user* in the file at *path*; says whether it now is.

    A home with `:` or a newline has no form in that file.
    """
    if ":" in home or "\n" in home:
        return False
    old = read(path)
    new = with_home(old, user, home)
    if new == old:  # as it should be, or there is no such user
        return with_home(old, user, "") != old
    try:
        files.commit(path, new, 0o644)
    except OSError:
        try:
            files.write_in_place(path, new)  # a bind mount cannot be renamed over
        except OSError:
            return False
    return True
