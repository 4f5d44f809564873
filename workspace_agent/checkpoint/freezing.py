"""What a checkpoint that is being made has done so far, and how all of it is taken back.

The one who makes it may be killed at any point; whoever waits for it reads the note, which was
written before each act, and lets the workload go on. Nothing here needs the volume.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass

from workspace_agent.checkpoint.tree import STOPPED, TRACED, ZOMBIE, is_same, task, tree
from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.checkpoint.tree import Task


@dataclass(frozen=True)
class Note:
    """A checkpoint of the tree of *root*, which *started* then, and how far it has come.

    *asleep* are the processes in it that somebody else had stopped before. *nonce* and
    *generation* are those that the workload was told, *version* is the checkpoint's name.
    """

    root: int
    started: int
    version: str
    nonce: str
    generation: int
    asleep: tuple[int, ...] = ()

    def write(self, runtime: str) -> None:
        """Say so; raises OSError."""
        files.commit(f"{runtime}/{layout.FREEZING}", dumps(self.__dict__) + "\n", 0o600)

    def is_there(self) -> bool:
        """Say whether the tree is still there."""
        return is_same(self.root, self.started)

    def is_stopped(self) -> bool:
        """Say whether its first process is stopped, by us or by CRIU."""
        now = task(self.root)
        return now is not None and now.state in (STOPPED, TRACED) and self.root not in self.asleep

    def wake(self) -> None:
        """Let the tree go on, all but those that were stopped before."""
        self._send(signal.SIGCONT, lambda one: one.state == STOPPED and one.pid not in self.asleep)

    def kill(self) -> None:
        """End the tree, stopped as it is: nobody in it runs again."""
        self._send(signal.SIGKILL, lambda one: one.state != ZOMBIE)

    def _send(self, number: int, to: Callable[[Task], bool]) -> None:
        for one in tree(self.root) if self.is_there() else ():
            if to(one):
                with suppress(OSError):
                    os.kill(one.pid, number)


def read(runtime: str) -> Note | None:
    """Return what is noted; None where no checkpoint is being made."""
    found = table(files.read(f"{runtime}/{layout.FREEZING}"))
    try:
        return Note(**{**found, "asleep": tuple(found["asleep"])})
    except (KeyError, TypeError):
        return None


def forget(runtime: str) -> None:
    """Say that none is being made any more."""
    files.remove(f"{runtime}/{layout.FREEZING}")
