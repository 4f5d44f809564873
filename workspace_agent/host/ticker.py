"""Signs of life during one long call that cannot give any itself."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A sync of gigabytes to a slow volume takes minutes; one that takes longer hangs.
_LIMIT = 120.0

_EVERY = 0.5


class Ticker:
    """Call *tell* with *text* twice a second while the block runs, but not for ever."""

    def __init__(self, tell: Callable[[str], None], text: str) -> None:
        self._tell, self._text = tell, text
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        for _ in range(int(_LIMIT / _EVERY)):
            if self._over.wait(_EVERY):
                return
            self._tell(self._text)
