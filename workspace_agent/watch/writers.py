"""Who wrote a file, and how sure that is.

A process that was seen with the file open for writing is a fact; an installer that lived while the
file was made is a guess, and is called one.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from workspace_agent.host import open_files
from workspace_agent.model.words import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OBSERVED, INFERRED, UNKNOWN = "observed", "inferred", "unknown"

# The pause between two looks, and for a while after a ring: at 10 Hz a file that is open for 0.3 s
# is seen. Each is stretched to so many times what a look takes: half a percent of a core, and two.
_QUIET, _QUICK, _QUICK_FOR = (1.0, 200), (0.1, 50), 5.0

# What is remembered: files with their writers; installers that have lived, and environments.
_MOST_FILES, _MOST_SPANS = 10_000, 500

# An installer may live on for one quiet look after it was seen last; when it began is told from
# the machine's own start, which is known to the second.
_SLACK_NS = int(1.1e9)

# By an installer's name: the kinds of files that it makes.
MAKES = {
    "pip": {"pip"},
    "uv": {"pip"},
    "conda": {"conda", "pip"},
    "mamba": {"conda", "pip"},
    "micromamba": {"conda", "pip"},
    "apt": {"apt"},
    "apt-get": {"apt"},
    "dpkg": {"apt"},
    "git": {"git", "code", "config", "documents", "notebooks", "other"},
    "huggingface-cli": {"models", "datasets", "checkpoints"},
    "hf": {"models", "datasets", "checkpoints"},
    "npm": {"npm", "cache"},
    "wget": {"datasets", "models", "checkpoints", "documents", "other"},
    "jupyter": {"notebooks"},
}
MAKES |= dict.fromkeys(("curl", "aria2c"), MAKES["wget"])
MAKES |= dict.fromkeys(("jupyter-lab", "jupyter-notebook", "jupyter-server"), MAKES["jupyter"])

# What runs a program that is named after it.
_INTERPRETERS = ("python", "pypy", "node", "sh", "bash")

# A shell becomes the program that it starts: a command line counts when it was read this often.
_READS = 3


@dataclass(frozen=True)
class Writer:
    """Who wrote a file: *confidence* is `observed`, `inferred` or `unknown`."""

    confidence: str = UNKNOWN
    name: str = ""
    pid: int = 0

    def __str__(self) -> str:
        if self.confidence == OBSERVED:
            return f"written by {self.name} (pid {self.pid})"
        return f"probably by {self.name}" if self.confidence == INFERRED else ""


@dataclass
class _Span:
    """An installer, and from when to when it was there."""

    tool: str
    pid: int
    since_ns: int
    until_ns: int


class Sampler:
    """Looks which processes have files open for writing for which *is_on_layer* is true.

    The variables *keep* are remembered of each process that was seen to write, and no others.
    """

    def __init__(self, is_on_layer: Callable[[str], bool], keep: Sequence[str] = ()) -> None:
        self._wanted, self._keep = is_on_layer, keep
        self._seen: dict[str, tuple[Writer, int]] = {}
        self._environs: dict[int, dict[str, str] | None] = {}
        self._reads: dict[int, int] = {}
        self._alive: dict[int, _Span] = {}
        self._over: deque[_Span] = deque(maxlen=_MOST_SPANS)
        self._last_ns = time.time_ns()
        self._ended = self._cost = self._quick_until = 0.0

    def ring(self) -> None:
        """Look more often for a while: something is being written."""
        self._quick_until = time.monotonic() + _QUICK_FOR

    def due(self) -> float:
        """Return in how many seconds the next look is due."""
        now = time.monotonic()
        pause, times = _QUICK if now < self._quick_until else _QUIET
        return max(0.0, self._ended + max(pause, self._cost * times) - now)

    def sample(self) -> None:
        """Look once."""
        began, now_ns = time.monotonic(), time.time_ns()
        pids = open_files.processes()
        self._installers(pids, now_ns)
        for path, pid in open_files.writing(pids, self._wanted):
            self.saw(path, pid)
        self._last_ns, self._ended = now_ns, time.monotonic()
        self._cost = self._ended - began

    def saw(self, path: str, pid: int) -> None:
        """Remember that *pid* writes to *path*; fanotify knows it too."""
        before, _ = self._seen.pop(path, (Writer(), 0))
        # asked each time: a shell opens the file of a redirection, and becomes another program
        name = program(open_files.argv(pid)) or (before.name if before.pid == pid else "a process")
        self._remember(pid)
        self._seen[path] = Writer(OBSERVED, name, pid), time.time_ns()
        if len(self._seen) > _MOST_FILES:
            del self._seen[next(iter(self._seen))]

    def who(self, path: str, kind: str, born_ns: int, changed_ns: int) -> Writer:
        """Return who wrote the file *path* of that *kind*, made and changed at these times."""
        writer, seen_ns = self._seen.get(path, (Writer(), 0))
        if writer.pid and seen_ns >= born_ns:  # or it was another file of that name
            return writer
        spans = [
            span
            for span in (*self._over, *self._alive.values())
            if kind in MAKES[span.tool]
            and span.since_ns - _SLACK_NS <= born_ns
            and changed_ns <= span.until_ns + _SLACK_NS
        ]
        names = {span.tool for span in spans}
        return Writer(INFERRED, spans[0].tool, spans[0].pid) if len(names) == 1 else Writer()

    def open_for_writing(self) -> set[str]:
        """Return what is being written this moment, as far as we may see."""
        return {path for path, _ in open_files.writing(open_files.processes(), self._wanted)}

    def environ_of(self, pid: int, name: str) -> str | None:
        """Return the variable *name* of *pid*, one of those kept; None when that is not known."""
        environ = self._environs.get(pid)
        return None if environ is None else environ.get(name, "")

    def _remember(self, pid: int) -> None:
        if pid not in self._environs:
            _, environ = open_files.details(pid)
            kept = [name for name in self._keep if name in (environ or ())]
            self._environs[pid] = None if environ is None else {n: environ[n] for n in kept}
            if len(self._environs) > _MOST_SPANS:
                del self._environs[next(iter(self._environs))]

    def _installers(self, pids: Sequence[int], now_ns: int) -> None:
        """Note which of *pids* are installers, and which are no more."""
        for pid in self._reads.keys() - set(pids):
            del self._reads[pid]
            if span := self._alive.pop(pid, None):
                self._over.append(span)
        for pid in pids:
            reads = self._reads.get(pid, 0)
            if not reads:
                self._environs.pop(pid, None)  # another process had this number
            if reads < _READS:
                self._reads[pid] = reads + 1
                self._take_in(pid, now_ns)
            if pid in self._alive:
                self._alive[pid].until_ns = now_ns

    def _take_in(self, pid: int, now_ns: int) -> None:
        tool = installer(open_files.argv(pid))
        if tool and pid not in self._alive:
            since_ns, _ = open_files.details(pid)
            self._alive[pid] = _Span(tool, pid, since_ns or self._last_ns, now_ns)
            self._remember(pid)


def program(argv: Sequence[str]) -> str:
    """Return what a command line is called: `python train.py`; never more of its words. Pure."""
    names = [word.rpartition("/")[2] for word in argv[:4]]
    if not names or _bare(names[0]) not in _INTERPRETERS:
        return shown(names[0][:60]) if names else ""
    for n, word in enumerate(argv[1:4], 1):
        if word == "-c":
            break  # what follows is no name
        if not word.startswith("-"):
            return shown(f"{names[0]} {names[n]}"[:60])
    return shown(names[0][:60])


def installer(argv: Sequence[str]) -> str:
    """Return which installer a command line is; empty when it is none. Pure."""
    name = _bare(program(argv).rpartition(" ")[2])
    return name if name in MAKES else ""


def _bare(name: str) -> str:
    """Return `python` for `python3.11`."""
    return name.rstrip("0123456789.")
