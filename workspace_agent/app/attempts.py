"""Safe mode: a boot that follows two that died before they were ready does less.

Each boot that does something risky has a file of its own while it does. A file whose boot is
gone is a death: its process has provably ended, or nobody here can know and it was silent for
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
    from workspace_agent.host.alive import Sign
    from workspace_agent.host.safe_root import SafeRoot

# The first death may be the node's; twice is a pattern.
LIMIT = 2

# Only what runs the user's code or works for long can die in a way worth counting; the rest of
# a boot must not write on the volume at all.
_RISKY = ("home.seed", "home.upgrade", "replay", "scripts")

# A live boot touches its file this often; one elsewhere, silent for so much longer, is dead.
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
        replay=replace(profile.replay, mode="off"),
        scripts=replace(profile.scripts, enabled=False),
    )


class Log:
    """The attempt of this boot, from its first risky step until it is done.

    *where* is asked when there is something to keep: a first boot makes the folder on its way.
    """

    def __init__(self, where: Callable[[], str], boot_id: str) -> None:
        self._where, self._boot_id = where, boot_id
        self._path, self._pulsed = "", 0.0
        self._sign: Sign | None = None  # as long as this log, or the process, lives

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
        over = [*_dead(where), *([self._boot_id] if self._path else [])]
        if over:
            _forget(where, over)

    def dropped(self) -> None:
        """Forget this attempt alone: somebody stopped the boot, which is no death."""
        if self._path:
            _forget(os.path.dirname(self._path), [self._boot_id])

    def _begin(self, where: str) -> None:
        if not where:
            return
        from workspace_agent.host.alive import Sign

        try:
            with _base(where) as base, base.folder(layout.ATTEMPTS_IN_STATE, 0o700) as folder:
                self._sign = Sign()
                folder.commit(self._boot_id, f"{self._sign.text}\n", durable=True)
        except OSError:
            return  # a full volume, or a planted link: the boot is more important than its count
        self._path, self._pulsed = f"{where}/{self._boot_id}", time.monotonic()

    def _pulse(self) -> None:
        self._pulsed = time.monotonic()
        try:
            os.utime(self._path, follow_symlinks=False)  # the server's clock
        except OSError:
            return


def _dead(where: str) -> list[str]:
    """List the attempts in *where* whose boots are gone."""
    if not where or not files.is_folder(where):
        return []
    return [name for name in os.listdir(where) if _is_dead(f"{where}/{name}")]


def _is_dead(path: str) -> bool:
    sign = files.read(path, 512) or b""
    if len(sign.split()) != 3:
        return False  # not one of ours
    from workspace_agent.host.alive import is_gone

    gone = is_gone(sign)
    if gone is not None:
        return gone
    try:
        # Against this host's clock: skewed, it makes safe mode come late or early, no worse.
        return time.time() - os.lstat(path).st_mtime > _DEAD
    except OSError:
        return False


def _base(where: str) -> SafeRoot:
    """Open what the folder *where* stands in; a link on the volume is not followed."""
    from workspace_agent.host.safe_root import SafeRoot  # a warm boot has no attempts

    above = os.path.dirname(where)
    if os.path.basename(above) != layout.STATE:
        return SafeRoot.at(above)
    with SafeRoot.at(os.path.dirname(above)) as volume:
        return volume.folder(layout.STATE)


def _forget(where: str, names: list[str]) -> None:
    try:
        with _base(where) as base:
            for name in names:
                base.remove(f"{layout.ATTEMPTS_IN_STATE}/{name}")
            os.rmdir(layout.ATTEMPTS_IN_STATE, dir_fd=base.fd)
    except OSError:
        return  # others are at work there
