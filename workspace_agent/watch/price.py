"""What it costs to make it again, in seconds of somebody's time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from workspace_agent.model import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    # Bytes, when it was begun (0: nobody knows) and when it last changed, in ns.
    File = tuple[int, int, int]

_WORK = {"checkpoints": "training"}
_WORK |= dict.fromkeys(("datasets", "models"), "downloads")
_WORK |= dict.fromkeys(("apt", "conda", "npm", "pip"), "installs")

_SECOND = 10**9

# Between two files of one installation it resolves, unpacks and compiles.
_PAUSE = 60 * _SECOND

# A longer time without a checkpoint was no training.
_GAP = 24 * 3600 * _SECOND


@dataclass(frozen=True)
class Price:
    """So many seconds of `training`, `downloads` or `installs`."""

    secs: float
    work: str

    def __str__(self) -> str:
        about = "" if self.work == "training" else "about "
        return f"{about}{words.duration(self.secs)} of {self.work}"


def price(kind: str, files: Sequence[File], started_ns: int, rate: float = 0.0) -> Price | None:
    """Return what all *files* of a *kind* cost; None where that cannot be told, or is under 1 s.

    *started_ns* is when the workload began, *rate* the bytes a second of downloads seen elsewhere.
    """
    work = _WORK.get(kind, "")
    if not work or not files:
        return None
    if work == "training":
        secs = trained((changed for _, _, changed in files), started_ns)
    else:
        secs = fetched(files, rate if work == "downloads" else 0.0)
    return Price(secs, work) if secs >= 1 else None


def busy(spans: Iterable[tuple[int, int]]) -> float:
    """Return the seconds in the union of (begun, changed) *spans*; short pauses are part of it."""
    total, since, until = 0, 0, 0
    for begun, changed in sorted(spans):
        if begun > until + _PAUSE or not until:
            total += until - since
            since, until = begun, begun
        until = max(until, changed)
    return (total + until - since) / _SECOND


def fetched(files: Iterable[File], rate: float) -> float:
    """Return how long *files* took; those of which no beginning is known by their bytes.

    The bytes a second are those of the others; *rate* where there are none.
    """
    known, size, unknown = [], 0, 0
    for count, begun, changed in files:
        if 0 < begun <= changed:
            known.append((begun, changed))
            size += count
        else:
            unknown += count
    secs = busy(known)
    speed = size / secs if secs >= 1 and size else rate
    return secs + (unknown / speed if speed > 0 else 0.0)


def trained(changes: Iterable[int], started_ns: int) -> float:
    """Return the seconds of training up to the newest checkpoint, back to the start or a long gap.

    What is older than the workload was brought along, and is not its work.
    """
    times = sorted((at for at in changes if at >= started_ns), reverse=True)
    since = times[0] if times else 0
    for at in (*times[1:], started_ns):
        if not times or since - at > _GAP:
            break
        since = at
    return (times[0] - since) / _SECOND if times else 0.0
