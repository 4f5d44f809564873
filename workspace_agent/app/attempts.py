"""Safe mode: a boot that follows two that died before they were ready does less.

Each boot that does something risky has a file of its own while it does. A file whose boot is
gone is a death: its process was on this host and is no more, or it has given no sign of life for
long. Several pods may boot on one volume at once, and none of them takes another for dead.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile

# The first death may be the node's; twice is a pattern.
LIMIT = 2

# Only what runs the user's code or works for long can die in a way worth counting; the rest of
# a boot must not write on the volume at all.
_RISKY = ("home.seed", "scripts")

# A live boot of another host touches its file this often; one silent for so much longer is dead.
_PULSE, _DEAD = 10.0, 120.0

PROBLEM = Problem(
    "boot.safe-mode",
    "safe mode: no setup scripts, no profile from the volume, the image's home",
    f"{LIMIT} boots ended before they were ready",
    "look at setup.sh and setup.d on the volume; the next boot tries everything again",
)


def folder(facts: Facts) -> str:
    """Return where attempts are kept: on the volume, which the next pod sees."""
    state = layout.state(facts.volume.path)
    base = state if files.is_folder(state) else facts.runtime
    return f"{base}/{layout.ATTEMPTS_IN_STATE}" if base else ""


def safe_mode(where: str) -> bool:
    """Say whether the last boots died."""
    return len(_dead(where)) >= LIMIT


def safe(profile: Profile) -> Profile:
    """Return *profile* without what may have killed the last boots."""
    return replace(
        profile,
        home=replace(profile.home, mode="off"),
        scripts=replace(profile.scripts, enabled=False),
    )


class Log:
    """The attempt of this boot, from its first risky step until it is done.

    *where* is asked when there is something to keep: a first boot makes the folder on its way.
    """

    def __init__(self, where: Callable[[], str], boot_id: str) -> None:
        self._where, self._boot_id = where, boot_id
        self._path, self._pulsed = "", 0.0

    def before(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """Return *tell*, which from now on also counts: a step says its name before it works."""

        def heard(text: str) -> None:
            if text.startswith("apply ") and text[6:] in _RISKY and not self._path:
                self._begin(self._where())
            elif self._path and time.monotonic() - self._pulsed > _PULSE:
                self._pulse()
            tell(text)

        return heard

    def done(self) -> None:
        """Forget the attempts: this boot came through, and those that died are history."""
        where = self._where()
        over = [path for path in (self._path, *_dead(where)) if path]
        for path in over:
            files.remove(path)
        if over:
            _remove_empty(where)

    def dropped(self) -> None:
        """Forget this attempt alone: somebody stopped the boot, which is no death."""
        files.remove(self._path)

    def _begin(self, where: str) -> None:
        if not where:
            return
        try:
            os.makedirs(where, 0o700, exist_ok=True)
            if not files.is_folder(where):
                return  # a planted link
            path = f"{where}/{self._boot_id}"
            mine = f"{os.uname().nodename} {os.getpid()} {_born(os.getpid())}\n"
            files.commit(path, mine, durable=True)
        except OSError:
            return  # a full volume: the boot is more important than its count
        self._path, self._pulsed = path, time.monotonic()

    def _pulse(self) -> None:
        self._pulsed = time.monotonic()
        try:
            os.utime(self._path)  # the server's clock
        except OSError:
            return


def _dead(where: str) -> list[str]:
    """List the attempts in *where* whose boots are gone."""
    if not where or not files.is_folder(where):
        return []
    return [path for path in (f"{where}/{name}" for name in os.listdir(where)) if _is_dead(path)]


def _is_dead(path: str) -> bool:
    words = (files.read(path, 512) or b"").split()
    if len(words) != 3 or not words[1].isdigit():
        return False  # not one of ours
    if words[0] == os.fsencode(os.uname().nodename):
        return _born(int(words[1])) != words[2].decode("ascii", "replace")
    try:
        # Against this host's clock: skewed, it makes safe mode come late or early, no worse.
        return time.time() - os.lstat(path).st_mtime > _DEAD
    except OSError:
        return False


def _born(pid: int) -> str:
    """Return when process *pid* started, in ticks; an empty text if there is none alive."""
    fields = (files.read(f"/proc/{pid}/stat") or b"").rpartition(b")")[2].split()
    return fields[19].decode() if len(fields) > 19 and fields[0] not in (b"Z", b"X") else ""


def _remove_empty(where: str) -> None:
    try:
        os.rmdir(where)
    except OSError:
        return
