"""A private folder on the volume in which one boot prepares what it will publish by a rename.

Another pod may be at the same at this moment: a stage whose owner gives signs of life is never
touched. Both sides of the comparison are the volume's own clock.
"""

from __future__ import annotations

import os
import time

from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "stage-"

# An owner that works touches its stage this often; one that has not for so much longer is dead.
_PULSE, _DEAD = 10.0, 120.0

# For who knows that no stage has anything to publish any more.
AT_ONCE = float("-inf")


class Stage:
    """The stage of boot *boot_id* in the folder *state*; a context that leaves nothing behind.

    Stages of others that have been silent for *dead* seconds are removed.
    """

    def __init__(self, state: str, boot_id: str, dead: float = _DEAD) -> None:
        self.path = f"{state}/{PREFIX}{boot_id}"
        self.tree = f"{self.path}/tree"
        self._state = state
        self._dead = dead
        self._pulsed = time.monotonic()

    def __enter__(self) -> Stage:
        remove_tree(self.path)  # an earlier try of this very boot
        try:
            os.mkdir(self.path, 0o700)
            os.mkdir(self.tree, 0o700)
            self._clear_dead()
        except OSError:
            remove_tree(self.path)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        remove_tree(self.path)

    def alive(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """Return *tell*, which from now on also shows that we live."""

        def heard(text: str) -> None:
            now = time.monotonic()
            if now - self._pulsed >= _PULSE:
                self._pulsed = now
                os.utime(self.path)  # no time given: the server's clock
            tell(text)

        return heard

    def _clear_dead(self) -> None:
        """Remove what killed boots left; renamed first, so that no slow owner publishes a part."""
        now = os.lstat(self.path).st_mtime
        for name in os.listdir(self._state):
            other = f"{self._state}/{name}"
            if not name.startswith(PREFIX) or other == self.path:
                continue
            try:
                if now - os.lstat(other).st_mtime > self._dead:
                    os.rename(other, f"{self.path}/{name}")
            except FileNotFoundError:
                continue  # its owner is done, or another pod was faster
            remove_tree(f"{self.path}/{name}")


def remove_tree(path: str) -> None:
    """Remove *path*, whatever it is; what cannot be removed stays."""
    import shutil  # 4 ms; a warm boot removes nothing

    files.remove(path)
    shutil.rmtree(path, ignore_errors=True)
