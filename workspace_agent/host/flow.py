"""Commands joined by pipes, with our own bytes at one end of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

# Enough to say why.
_TAIL = 2000


class Flow:
    """Commands joined by pipes: read from the last, or with *writes* write to the first.

    A context; who leaves it early ends them. Raises OSError when one cannot be started.
    """

    def __init__(self, argvs: Sequence[Sequence[str]], *, writes: bool = False) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the context
        self._children: list[subprocess.Popen[bytes]] = []
        feed: IO[bytes] | int | None = subprocess.PIPE if writes else subprocess.DEVNULL
        for number, argv in enumerate(argvs, 1):
            out = subprocess.DEVNULL if writes and number == len(argvs) else subprocess.PIPE
            child = subprocess.Popen(argv, stdin=feed, stdout=out, stderr=self._said)
            if self._children and (pipe := self._children[-1].stdout):
                pipe.close()  # or nobody would see the end of who comes after it
            feed = child.stdout
            self._children.append(child)

    def __enter__(self) -> Flow:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
            child.wait()
        self._said.close()

    def read(self, size: int) -> bytes:
        """Return the next bytes; none at the end."""
        pipe = self._children[-1].stdout
        return pipe.read(size) if pipe else b""

    def write(self, data: bytes) -> None:
        """Hand *data* to the first; one that has ended is noticed by `ended_well`."""
        pipe = self._children[0].stdin
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.write(data)

    def ended_well(self) -> bool:
        """Wait for all of them, and say whether each did its work."""
        pipe = self._children[0].stdin
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        codes = [child.wait() for child in self._children]
        return not any(codes)

    @property
    def why(self) -> str:
        """The end of what they said on standard error."""
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TAIL))
        return self._said.read().decode("utf-8", "replace").strip()
