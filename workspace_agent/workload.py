"""What a program does before it is frozen, and after: the workload's side of a checkpoint.

    import workload  # a copy of this file; nothing but the standard library is needed

    @workload.before_checkpoint
    def let_go() -> None: pool.close()

    @workload.after_restore
    def go_on() -> None: random.seed(workload.identity()["seed"])

Callbacks run in a thread of this module. All of it does nothing where no agent is.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[[], object])

# Where we and the agent meet; a folder of this container.
_FOLDER = "WORKSPACE_CHECKPOINT_DIR"

# How often to look, in seconds. Looking is one stat: no descriptor for a checkpoint to carry.
_PERIOD = 0.2

_BEFORE, _AFTER, _RESTORE = "before", "after", "restore"

READY = "ready-for-snapshot"
_RESULTS = {"complete": "snapshot-complete", "failed": "snapshot-failed",
            "restored": "restore-complete"}  # fmt: skip


# When identity.json was written, and what it says.
_known: list[Any] = [(), {}]


def before_checkpoint(function: Function) -> Function:
    """Have *function* called before a checkpoint; the last registered is the first to be called.

    An exception keeps the processes from being frozen; the others are called all the same.
    """
    return _add(_BEFORE, function)


def after_checkpoint(function: Function) -> Function:
    """Have *function* called after one, in order: here, and in each container that goes on."""
    return _add(_AFTER, function)


def after_restore(function: Function) -> Function:
    """Have *function* called, in the same order, only where another container goes on."""
    return _add(_RESTORE, function)


def generation() -> int:
    """Return how many times this process was restored: 0 in the container that started it."""
    return int(identity().get("generation", 0))


def identity() -> dict[str, Any]:
    """Return what is another in this container, and a fresh random `seed`; {} before a restore.

    All processes of a workload get the same seed: mix the process number into it.
    """
    folder = os.environ.get(_FOLDER, "")
    now = _times(f"{folder}/identity.json") if folder else ()
    if now != _known[0]:  # read once only: a checkpoint must not meet the file open
        _known[:] = [now, _read(f"{folder}/identity.json")]
    return dict(_known[1])


def ready(timeout: float | None = None) -> str:
    """Say that this is a good moment, and wait for what comes of it.

    Returns `complete` (frozen, and it goes on here), `restored` (it goes on in another
    container), `failed`, or "" when nobody came for *timeout* seconds, or there is no agent.
    """
    folder = os.environ.get(_FOLDER, "")
    if not folder:
        return ""
    for name in _RESULTS.values():
        _remove(f"{folder}/{name}")
    try:
        _write(f"{folder}/{READY}", {"pid": os.getpid()})
    except OSError:  # another user's
        return ""
    # Looks are counted: the clock is another one after a restore.
    looks = 0
    while timeout is None or looks * _PERIOD < timeout:
        for result, name in _RESULTS.items():
            if os.path.exists(f"{folder}/{name}"):
                return result
        _pause()
        looks += 1
    _remove(f"{folder}/{READY}")
    return ""


class _Client:
    """This process's part; *paused* from its first callback before to its last one after."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.callbacks: list[tuple[str, Callable[[], object]]] = []
        self.paused = False
        self.seen = _times(f"{folder}/request")

    def start(self) -> None:
        self._register()
        threading.Thread(target=self._serve, name="workspace-checkpoint", daemon=True).start()

    def _register(self) -> None:
        """Tell who we are; a restored process has another starting time."""
        with open("/proc/self/stat", "rb") as handle:
            started = int(handle.read().rpartition(b")")[2].split()[19])
        _write(f"{self.folder}/client-{os.getpid()}", {"pid": os.getpid(), "started": started})

    def _serve(self) -> None:
        while True:
            _pause()
            now = _times(f"{self.folder}/request")
            if now == self.seen:
                continue
            self.seen = now
            try:
                self._answer(_read(f"{self.folder}/request"))
            except OSError:
                traceback.print_exc()  # the agent hears nothing, and gives up

    def _answer(self, request: dict[str, Any]) -> None:
        want, errors = request.get("want"), []
        if want not in (_BEFORE, _AFTER):
            return
        if self.paused:  # also when we were too slow to see the last attempt end
            self.paused = False
            restored = request.get("outcome") == "restored"
            if restored:
                self._register()
            errors = self._call(self.callbacks, {_AFTER, _RESTORE} if restored else {_AFTER})
        if want == _BEFORE:
            self.paused = True
            errors = self._call(reversed(self.callbacks), {_BEFORE})
        answer = {"nonce": request.get("nonce"), "want": want, "errors": errors}
        _write(f"{self.folder}/answer-{os.getpid()}", answer)

    def _call(
        self, callbacks: Iterable[tuple[str, Callable[[], object]]], kinds: set[str]
    ) -> list[str]:
        """Call every one; returns who failed with what, without the words: they may be secret."""
        failed = []
        for kind, function in list(callbacks):
            if kind in kinds:
                try:
                    function()
                except BaseException as error:
                    traceback.print_exc()
                    name = getattr(function, "__qualname__", type(function).__name__)
                    failed.append(f"{name}: {type(error).__name__}")
        return failed


_clients: list[_Client] = []
_lock = threading.Lock()


def _add(kind: str, function: Function) -> Function:
    folder = os.environ.get(_FOLDER, "")
    if folder and os.path.isdir(folder):
        with _lock:
            new = not _clients
            if new:
                _clients.append(_Client(folder))
            _clients[0].callbacks.append((kind, function))
            if new:
                with contextlib.suppress(OSError):  # another user's
                    _clients[0].start()
    return function


def _forked() -> None:
    """Begin anew: threads stay behind at a fork, and what the parent registered is the parent's."""
    global _lock
    _lock = threading.Lock()
    _clients.clear()


os.register_at_fork(after_in_child=_forked)


@functools.lru_cache(None)
def _usleep() -> Callable[[int], object]:
    """Return the C library's wait, which a restore breaks off and nobody takes up again.

    Python's own waits go on until a point of the monotonic clock, and where a restore sets that
    back, the point may be weeks ahead.
    """
    try:
        import ctypes

        found: Callable[[int], object] = ctypes.CDLL(None).usleep
    except (ImportError, OSError, AttributeError):
        return lambda micros: time.sleep(micros / 1e6)
    return found


def _pause() -> None:
    _usleep()(int(_PERIOD * 1e6))


def _times(path: str) -> tuple[int, ...]:
    try:
        info = os.stat(path)
    except OSError:
        return ()
    return (info.st_ino, info.st_mtime_ns, info.st_ctime_ns)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as handle:
            found = json.load(handle)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: str, value: dict[str, Any]) -> None:
    """Replace *path* in one step."""
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.new"
    with open(temporary, "w", encoding="utf-8") as handle:
        json.dump(value, handle)
    os.replace(temporary, path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
