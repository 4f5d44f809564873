"""One writer at a time on a volume that several pods share.

The lease is the highest file `lease.N`; whoever comes to be next makes `lease.N+1`, which
succeeds for exactly one, and nothing is renamed or removed under a rival. Both sides of every
comparison are the volume's own clock. A lease can be lost, by a pod that is paused for long:
it saves work, and what it protects has to be right without it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress

from workspace_agent.host import alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.host.safe_root import SafeRoot

PREFIX = "lease."

# A holder of another node that dies is missed after so long. The measurements that this rests on
# had 60 s and 10 s; a first boot that was killed should not hold up the next one for a minute.
_TTL, _BEAT = 30.0, 5.0

# The time of a lease that was given back; a file system may round it down.
_OVER = 1

# A volume where nobody may set a time.
_NO_TIMES = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP})

RIVAL = "another pod is at this"


class Lease:
    """A lease in the folder *state*, taken by the boot *boot_id*.

    *token* is its number, 0 while it is not held: it only ever grows, from holder to holder.
    """

    def __init__(
        self,
        state: SafeRoot,
        boot_id: str,
        *,
        ttl: float = _TTL,
        beat: float = _BEAT,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.token = 0
        self._state, self._boot_id = state, boot_id
        self._ttl, self._every, self._wait = ttl, beat, wait
        self._beaten = 0.0
        self._sign: alive.Sign | None = None

    def take(self, done: Callable[[], bool], tell: Callable[[str], None]) -> bool:
        """Wait for the lease; False when *done* came true instead: somebody else did the work.

        *tell* hears of each look at a rival who lives. Raises OSError where no lease can be made.
        """
        while not done():
            now = self._now()
            last = self._last()
            if last and not self._is_over(last, now):
                tell(RIVAL)
            elif self._claim(last + 1):
                if not done():
                    return True
                self.release()
                break
            self._wait(0.2 + os.urandom(1)[0] / 320)  # to 1 s: rivals must not keep in step
        return False

    def beat(self) -> None:
        """Show that we live, if it is time to."""
        if self.token and time.monotonic() - self._beaten >= self._every:
            self._beaten = time.monotonic()
            with suppress(OSError):
                self._touch()

    def held(self) -> bool:
        """Say whether the lease is still ours; any doubt is a no."""
        try:
            self._touch()  # a successor removes our file, which no cache of names can hide
            return self.token > 0 and self._state.look(f"{PREFIX}{self.token + 1}") is None
        except OSError:
            return False

    def release(self) -> None:
        """Let the next one in at once."""
        with suppress(OSError):
            self._touch((_OVER, _OVER))
        self.token = 0
        if self._sign:
            self._sign.end()

    def _touch(self, times: tuple[int, int] | None = None) -> None:
        """Set the time of our file; without *times* it is the server's clock."""
        name = f"{PREFIX}{self.token}"
        os.utime(name, times, dir_fd=self._state.fd, follow_symlinks=False)

    def _now(self) -> float:
        """Return the volume's time.

        A name comes and goes for it, which also makes a file server's client forget the names
        that it remembers of this folder.
        """
        probe = f"{PREFIX}{self._boot_id}.probe"
        fd = self._state.open(probe, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            try:
                os.utime(fd)
            except OSError as error:
                if error.errno not in _NO_TIMES:
                    raise  # else the probe, which is new, has the time all the same
            return os.fstat(fd).st_mtime
        finally:
            os.close(fd)
            self._state.remove(probe)

    def _last(self) -> int:
        return max(map(_number, self._state.names()), default=0)

    def _is_over(self, number: int, now: float) -> bool:
        """Say whether the holder of *number* gave it back, is gone, or was silent for too long."""
        try:
            # To open a file asks the server; a mere look may be answered from memory.
            fd = self._state.open(f"{PREFIX}{number}", os.O_RDONLY)
        except FileNotFoundError:
            return False  # its successor is there: look again
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                return True  # a link or a socket: not one of ours
            raise
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return True
            text, beaten = os.read(fd, 512), os.fstat(fd).st_mtime
        finally:
            os.close(fd)
        if beaten <= _OVER or alive.is_gone(text.partition(b"\n")[0]):
            return True
        # A time in the future is forged, unless we were paused since *now* was asked for.
        return now - beaten > self._ttl or (
            beaten - now > self._ttl and beaten - self._now() > self._ttl
        )

    def _claim(self, number: int) -> bool:
        """Try to be the next holder; then remove what earlier ones left."""
        self._sign = alive.Sign()
        mine = f"{PREFIX}{number}"
        try:
            made = self._state.create(mine, f"{self._sign.text}\n{self._boot_id}\n")
        except FileNotFoundError:
            made = False  # a new holder has swept the claim away
        if made and self._last() == number:
            self.token, self._beaten = number, time.monotonic()
            for name in self._state.names():
                if name.startswith(PREFIX) and _number(name) < number:
                    self._state.remove(name)
            return True
        if made:  # a claim from long ago: others have come and gone meanwhile
            self._state.remove(mine)
        self._sign.end()
        return False


def _number(name: str) -> int:
    """Return the number of the lease *name*; 0 for a claim, a probe, or what is not ours."""
    digits = name.removeprefix(PREFIX)
    known = name != digits and digits.isascii() and digits.isdigit() and len(digits) < 16
    return int(digits) if known and digits[0] != "0" else 0
