"""Safe mode: a boot that has died twice before it was ready does less the third time."""

from __future__ import annotations

import os
from dataclasses import replace

from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile

# The first death may be the node's; twice in a row is a pattern.
LIMIT = 2

# Only what runs the user's code or works for long can die in a way worth counting; the rest of
# a boot must not write on the volume at all.
_RISKY = ("home.seed", "scripts")

PROBLEM = Problem(
    "boot.safe-mode",
    "safe mode: no setup scripts, the image's home, the built-in profile",
    f"{LIMIT} boots in a row ended before they were ready",
    "look at setup.sh and setup.d on the volume; the next boot tries everything again",
)


def folder(facts: Facts) -> str:
    """Return where attempts are counted: on the volume, which the next pod sees."""
    state = layout.state(facts.volume.path)
    return state if os.path.isdir(state) else facts.runtime


def safe_mode(where: str) -> bool:
    """Say whether the last boots died."""
    return _count(where) >= LIMIT


def safe(profile: Profile) -> Profile:
    """Return *profile* without what may have killed the last boots."""
    return replace(
        profile,
        home=replace(profile.home, mode="off"),
        scripts=replace(profile.scripts, enabled=False),
    )


class Log:
    """Counts this boot as an attempt from its first risky step until it is done.

    *where* is asked when there is something to count: a first boot makes the folder on its way.
    """

    def __init__(self, where: Callable[[], str]) -> None:
        self._where = where
        self._counted = False

    def before(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """Return *tell*, which from now on also counts: a step says its name before it works."""

        def heard(text: str) -> None:
            if text.startswith("apply ") and text[6:] in _RISKY and not self._counted:
                self._counted = True
                _write(self._where())
            tell(text)

        return heard

    def done(self) -> None:
        """Forget the attempts: this boot came through."""
        where = self._where()
        if where and (self._counted or _count(where)):
            files.remove(f"{where}/{layout.ATTEMPTS_IN_STATE}")


def _write(where: str) -> None:
    if not where or not os.path.isdir(where):
        return
    try:
        text = f"{_count(where) + 1}\n"
        files.commit(f"{where}/{layout.ATTEMPTS_IN_STATE}", text, durable=True)
    except OSError:
        return  # a full volume: the boot is more important than its count


def _count(where: str) -> int:
    text = files.read(f"{where}/{layout.ATTEMPTS_IN_STATE}", 16) or b""
    return int(text) if text.strip().isdigit() else 0
