"""Commands joined by pipes, with our own bytes, or a file of ours, at one end of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

# Enough to say why.
_TAIL = 2000

# What an unprivileged process may have; each end then works for longer before it waits.
_PIPE = 1 << 20


class Flow:
    """Commands joined by pipes: the first reads *stdin* if it is given, and the last writes to us,
    or to nobody then.

    They speak English, and what they make is for everybody to read. A context; who leaves it early
    ends them. Raises OSError when one cannot be started.
    """

    def __init__(self, argvs: Sequence[Sequence[str]], *, stdin: int = subprocess.DEVNULL) -> None:
        # In memory: there may be no folder for temporary files that can be written to.
        self._said = open(os.memfd_create("said"), "w+b")  # noqa: SIM115  # closed with the context
        self._children: list[subprocess.Popen[bytes]] = []
        feed: IO[bytes] | int | None = stdin
        for number, argv in enumerate(argvs, 1):
            to_nobody = stdin != subprocess.DEVNULL and number == len(argvs)
            out = subprocess.DEVNULL if to_nobody else subprocess.PIPE
            child = subprocess.Popen(
                argv, stdin=feed, stdout=out, stderr=self._said, umask=0o022,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
            if self._children and (pipe := self._children[-1].stdout):
                pipe.close()  # or nobody would see the end of who comes after it
            self._children.append(child)
            if feed := child.stdout:
                with contextlib.suppress(OSError):
                    fcntl.fcntl(feed, fcntl.F_SETPIPE_SZ, _PIPE)

    def __enter__(self) -> Flow:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
            if child.stdout:
                child.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1)  # one that reads from a dead volume ends when that comes back
        self._said.close()

    def read(self, size: int) -> bytes:
        """Return the next bytes of the last; none at the end."""
        pipe = self._children[-1].stdout
        return pipe.read(size) if pipe else b""

    def is_alive(self) -> bool:
        """Say whether one of them still runs."""
        return any(child.poll() is None for child in self._children)

    def ended_well(self) -> bool:
        """Wait for all of them, and say whether each did its work."""
        codes = [child.wait() for child in self._children]
        return not any(codes)

    @property
    def why(self) -> str:
        """The end of what they said on standard error."""
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TAIL))
        return self._said.read().decode("utf-8", "replace").strip()
