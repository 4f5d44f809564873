"""A private folder on the volume in which one boot prepares what it will publish by a rename."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from workspace_agent.host import files
from workspace_agent.host.lease import Lease
from workspace_agent.host.ticker import Ticker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.host.safe_root import SafeRoot

PREFIX = "stage-"

# What is about to become a file, and after how many seconds nobody is at it any more. A new holder
# of the lease removes what was left of the lease itself.
_DRAFTS, _PROBES, _SILENT = ".new", ".probe", 3600

# Beside the tree in the stage: what it is a copy of, and what is about to go into it.
_KEY, _DRAFT = "key", "draft"


class Stage:
    """The stage of boot *boot_id* in the folder *state*; a context that leaves nothing behind.

    A stage that a killed boot left with the same *key* is taken up, and *resumed* says so; one
    that is told to end, by SystemExit, leaves it as well. An empty key is like no other. A lock
    on the key shows that its owner lives: one who was only held up still has the tree's folders
    open, and would go on in what somebody else publishes.
    *tell* hears of a long removal at the end.
    """

    tree: SafeRoot

    def __init__(
        self,
        state: SafeRoot,
        boot_id: str,
        key: str = "",
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = f"{PREFIX}{boot_id}"
        self.resumed = False
        self._state, self._key, self._tell = state, key, tell
        self._lock = -1

    def __enter__(self) -> Stage:
        try:
            self.resumed = self._take_up()
            if not self.resumed:
                self._state.remove_tree(self.name)  # an earlier try of this very boot
                with self._state.folder(self.name, make=0o700) as stage:
                    with stage.folder("tree", make=0o700):
                        pass
                    if self._key:
                        stage.commit(_KEY, self._key)
                        self._lock = _locked(self._state, self.name)
                        if self._lock < 0:
                            stage.remove(_KEY)
            self.tree = self._state.folder(f"{self.name}/tree")
        except OSError:
            self._state.remove_tree(self.name)
            self._unlock()
            raise
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        os.close(self.tree.fd)
        if self._key and error is SystemExit:
            self._unlock()  # told to end: the next boot takes it up, as that of a killed one
            return
        # First of all: after an error, what cannot be removed must not be taken up either.
        self._state.remove(f"{self.name}/{_KEY}")
        self._unlock()  # before the rest: NFS and FUSE keep a file that is open, by another name
        with Ticker(self._tell, "removing what is left of a copy"):
            self._state.remove_tree(self.name)

    def put(self, name: str, text: str) -> None:
        """Write the file *name* in the tree, where a killed boot leaves no draft of it: who takes
        up the stage would publish that.
        """
        with self._state.folder(self.name) as stage:
            stage.commit(_DRAFT, text, 0o644)
            stage.rename(_DRAFT, name, self.tree)

    def _take_up(self) -> bool:
        for other in _stages(self._state) if self._key else ():
            if self._state.read(f"{other}/{_KEY}") == os.fsencode(self._key):
                self._lock = _locked(self._state, other)
                with suppress(OSError):  # gone, or another pod was faster
                    if self._lock >= 0:
                        self._state.rename(other, self.name)
                        return True
                self._unlock()
        return False

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked(state: SafeRoot, stage: str) -> int:
    """Lock the key of *stage*, which the kernel gives back with its process; -1 where it is held,
    or where there are no locks. A key is of one kernel alone, so a lock that is local will do.
    """
    try:
        fd = state.open(f"{stage}/{_KEY}", os.O_RDWR)  # NFS locks what can be written
    except OSError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return -1
    return fd


def tidy(state: SafeRoot, boot_id: str) -> bool:
    """Remove what killed boots left in *state*; says whether nobody else was at it meanwhile.

    Only for who knows that the home is made. Under the lease no other stage is in use, and one by
    another name and without a key will never be: so what takes long is done without the lease.
    """
    names = state.names()
    for name in _old_drafts(state, names):
        state.remove(name)
    if not any(name.startswith(PREFIX) or name.endswith(_PROBES) for name in names):
        return True
    rivals: list[str] = []
    lease = Lease(state, boot_id)
    try:
        if not lease.take(lambda: bool(rivals), rivals.append):
            return False
        dead = [_buried(state, name) for name in _stages(state)]
    finally:
        lease.release()
    for name in dead:
        state.remove_tree(name)
    return True


def _old_drafts(state: SafeRoot, names: list[str]) -> list[str]:
    """Return the drafts that are much older than what was written last, by the volume's clock."""
    if not any(name.endswith(_DRAFTS) for name in names):
        return []
    times = {name: info.st_mtime for name in names if (info := state.look(name))}
    last = max(times.values(), default=0)
    return [n for n, at in times.items() if n.endswith(_DRAFTS) and last - at > _SILENT]


def _buried(state: SafeRoot, stage: str) -> str:
    """Return the name that *stage* has from now on, which nobody takes it up by."""
    name = f"{PREFIX}{os.urandom(8).hex()}"
    state.remove(f"{stage}/{_KEY}")
    with suppress(OSError):  # gone: its owner was held up, and has noticed
        state.rename(stage, name)
    return name


def key_of(source: str, image: str, *more: object) -> str:
    """Return what a half-made copy of *source* has to agree in to be taken up; "" when unknown.

    *image* names the image, if somebody has told. Else a layered root is known by its layers,
    whose names mean something on this node alone. And only as long as the node runs: what a
    killed process wrote is safe in its kernel, what a node lost with its power is not.
    """
    kernel = (files.read("/proc/sys/kernel/random/boot_id") or b"").strip().decode()
    layers = image or _layers(source)
    return repr((1, kernel, layers, source, more)) if kernel and layers else ""


def _layers(source: str) -> str:
    """Return the lower layers of the root, where *source* lies in them."""
    try:
        if os.stat(source).st_dev != os.stat("/").st_dev:
            return ""
    except OSError:
        return ""
    for line in (files.read("/proc/self/mountinfo") or b"").decode("utf-8", "replace").split("\n"):
        fields = line.split(" ")
        if len(fields) > 9 and fields[4] == "/":
            options = fields[-1].split(",")
            return next((one for one in options if one.startswith("lowerdir=")), "")
    return ""


def _stages(state: SafeRoot) -> list[str]:
    return [name for name in state.names() if name.startswith(PREFIX)]
