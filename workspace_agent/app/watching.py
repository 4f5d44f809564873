"""The watcher: looks for what is written outside the volume, says so, and has it kept.

One thread, one loop. Whatever rings, the truth is what a scan finds; a doorbell only says where to
look first. PID 1 tells of the pod's end on standard input (supervise/keeper.py).
"""

from __future__ import annotations

import os
import select
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workspace_agent.app import private
from workspace_agent.app.canary import Canary
from workspace_agent.app.engine import open_boot
from workspace_agent.app.keeping import Keeping
from workspace_agent.app.notices import Notices
from workspace_agent.app.survey import Ground, ground
from workspace_agent.host import fanotify, mounts
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.watch import roots
from workspace_agent.watch.doorbell import Doorbell
from workspace_agent.watch.layer import ahead_ns, now_ns
from workspace_agent.watch.writers import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.model.atrisk import Entry

# Between two looks at the times of known folders, and two scans of everything, in seconds.
SIGNATURES, EVERYTHING, AT_MOST = 5.0, 60.0, 900.0

# What rang is looked at once it is quiet, or has rung for so long.
_QUIET, _LONGEST = 1.0, 3.0

# Of one core, what looking at everything, at times, and at what rang may take.
_SHARE, _SHARE_TIMES, _SHARE_RUNG = 0.005, 0.003, 0.03

# So often is the kernel asked for writers at once; each time it names up to 170.
_READS = 32

# Past so many folders a look at everything costs less.
_FOLDERS = 1000

# Twice a second is enough for everything that is not asked for by a sample of writers.
_SLICE = 0.5


@dataclass
class Due:
    """When something is to be done again, on the clock that only runs forward."""

    at: float = 0.0

    def __call__(self, now: float) -> bool:
        """Say whether it is time."""
        return now >= self.at

    def after(self, pause: float) -> None:
        """Do it again after *pause* seconds."""
        self.at = time.monotonic() + pause


class Watcher:
    """Watches the layer *here*; *say* writes a line into the pod's log."""

    def __init__(
        self, profile: Profile, facts: Facts, here: Ground, say: Callable[[str], None]
    ) -> None:
        self._profile, self._facts, self._here = profile, facts, here
        self._root = SafeRoot.at("/")
        self._inventory = here.inventory(self._took)
        self._sampler = Sampler(self._is_on_layer)
        self._keeping = Keeping(profile, facts, here, self._sampler.open_for_writing, say)
        self._notices = Notices(profile, facts, here, self._sampler.who, say)
        self._canary = Canary(self._root)
        self._doorbell = Doorbell(self._roots(), lambda _: None)
        self._witness, self._no_witness = fanotify.opened()
        self._times, self._all, self._rung = Due(), Due(), Due()
        self._dirty: dict[str, float] = {}
        self._unreadable = 0

    def run(self) -> int:
        """Watch until PID 1 says that the workload has ended; returns the exit code."""
        self._doorbell.start()
        self._everything()
        poll = select.poll()
        poll.register(0, select.POLLIN | select.POLLHUP)
        while True:
            if poll.poll(min(_SLICE, self._sampler.due()) * 1000):
                words = os.read(0, 1 << 12).split()
                if not words:
                    break
                self._stopping(float(words[words.index(b"stop") + 1]))
            self._tick(time.monotonic())
        self._keeping.last(self._scanned)
        self._doorbell.close()
        return 0

    def _stopping(self, secs: float) -> None:
        """Keep what there is now: the workload may need all of *secs* for its own end."""
        self._keeping.stop(secs, self._scanned)

    def _tick(self, now: float) -> None:
        if not self._sampler.due():
            self._sampler.sample()
        for folder in self._doorbell.take():
            self._dirty.setdefault(folder, now)
            self._sampler.ring()
        self._hear(now)
        if self._times(now):
            self._signatures()
        if self._all(now) or ("" in self._dirty and self._rung(now)):
            self._everything()
        elif self._dirty and self._rung(now):
            self._some(now)
        if self._keeping.on_time(now, self._inventory):
            self._dirty[""] = now
        self._notices.on_time(now, self._inventory, self._state)
        self._canary.on_time(now, self._inventory)

    def _hear(self, now: float) -> None:
        """Take what the kernel itself says of writers, where it does."""
        for _ in range(_READS if self._witness else 0):
            found = self._witness.read() if self._witness else []
            if not found:
                return
            for path, pid in found:
                self._dirty.setdefault(path.rpartition("/")[0], now)
                if path:
                    self._sampler.saw(path, pid)
            if len(self._dirty) > _FOLDERS:
                break
        if self._witness:
            self._dirty = {"": now}  # it is a storm: where it blows is found out by looking

    def _took(self, entry: Entry) -> None:
        if not self._canary.is_it(entry.path):
            self._keeping.take(entry)
            self._notices.take(entry)

    def _scanned(self, take: Callable[[Entry], None] | None = None) -> None:
        """Look at everything once more, for the last time perhaps; *take* hears of every file."""
        if take:
            inventory = self._here.inventory(take)
            self._here.scan(self._root, inventory).run()
        else:
            self._everything()

    def _everything(self) -> None:
        self._dirty.clear()
        self._inventory.at(self._inventory.layer.at(ahead_ns()))
        began, fresh = time.process_time(), now_ns()
        scan = self._here.scan(self._root, self._inventory)
        self._inventory.begin()
        scan.run()
        self._inventory.end()
        self._inventory.fresh = fresh
        self._unreadable = scan.unreadable
        self._doorbell.check()
        cost = time.process_time() - began
        self._all.after(min(AT_MOST, max(EVERYTHING, cost / _SHARE)))
        self._rung.after(cost / _SHARE_RUNG)
        self._enter_private()

    def _signatures(self) -> None:
        """Look at the times of every known folder, and again at files that would be missed."""
        began = time.process_time()
        changed = []
        for path, folder in self._inventory.folders.items():
            try:
                info = os.lstat(path or "/")
            except OSError:
                changed.append(path.rpartition("/")[0])
                continue
            if (info.st_mtime_ns, info.st_ctime_ns) != folder.times or folder.is_precious:
                changed.append(path)
        self._look(changed)
        cost = time.process_time() - began
        self._times.after(max(SIGNATURES, cost / _SHARE_TIMES))

    def _some(self, now: float) -> None:
        """Look where it rang, unless it still does."""
        newest, oldest = max(self._dirty.values()), min(self._dirty.values())
        if now - newest < _QUIET and now - oldest < _LONGEST:
            return
        began = time.process_time()
        known = [self._known(one) for one in self._dirty]
        self._dirty.clear()
        self._look(dict.fromkeys(known))
        self._rung.after((time.process_time() - began) / _SHARE_RUNG)

    def _known(self, path: str) -> str:
        """Return *path*, or the next folder above it that was met before."""
        while path and path not in self._inventory.folders:
            path = path.rpartition("/")[0]
        return path

    def _look(self, folders: Iterable[str]) -> None:
        wanted = [one for one in folders if one in self._inventory.folders]
        if wanted:
            self._here.scan(self._root, self._inventory).look(wanted, self._inventory.folders)

    def _roots(self) -> list[str]:
        facts = self._facts
        cwd = os.getcwd()
        wished = (*self._profile.watch.hot, facts.image_home, cwd, "/data", "/opt", "/tmp")
        return roots.choose(wished, self._is_on_layer, roots.folders)

    def _is_on_layer(self, path: str) -> bool:
        return roots.is_on_layer(path, self._here.mounts)

    def _state(self) -> dict[str, object]:
        """Return what status.json's neighbour says of the watcher itself."""
        bell = self._doorbell
        return {
            "mode": self._inventory.layer.mode, "why": self._inventory.layer.why,
            "doorbell": bell.state, "doorbell_why": bell.why, "unreadable": self._unreadable,
            "writers": "fanotify" if self._witness else f"samples: {self._no_witness}",
            "folders": len(self._inventory.folders), "kept": self._keeping.state(),
            "canary": self._canary.state(),
        }  # fmt: skip

    def _enter_private(self) -> None:
        """Go on in the private environment once that is made: it has watchdog and psutil."""
        root = self._facts.root
        if sys.prefix != f"{root}/venv" and private.is_whole(root):
            script = f"{root}/workspace_agent/watcher.py"
            argv = [private.interpreter(root), "-I", script, self._facts.runtime]
            os.set_inheritable(0, True)
            os.execv(argv[0], argv)


def watch(root: str, runtime: str) -> int:
    """Be the watcher of this container; returns the exit code."""
    os.nice(10)
    opening = open_boot(
        os.environ, mounts.read_mounts(), root=root, runtime=runtime, container=True
    )

    def say(line: str) -> None:
        try:
            os.write(2, os.fsencode(f"workspace-agent: {line}\n"))
        except OSError:
            return

    here = ground(opening.profile, opening.facts)
    return Watcher(opening.profile, opening.facts, here, say).run()
