"""How much of the disk the container's own layer takes, and when there is no room left. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from workspace_agent.model import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEVELS = (70, 85, 95)

# Kubernetes' suffixes; `m` are thousandths, which a sum of quantities may come in.
_SUFFIXES = {"m": 0.001, "": 1.0} | {
    unit: float(base**power)
    for base, units in ((1000, "k M G T P E"), (1024, "Ki Mi Gi Ti Pi Ei"))
    for power, unit in enumerate(units.split(), 1)
}

# A disk of which this layer is all that is used is ours alone: a project quota.
_QUOTA = 0.05

# What lies further ahead is no news, and the rate will not hold.
_HORIZON = 24 * 3600.0


@dataclass(frozen=True)
class Limit:
    """So many bytes are there for what the layer and its neighbours use; *name* is for a line."""

    name: str
    size: int
    used: int


@dataclass(frozen=True)
class Forecast:
    """How full a limit is, and in how many seconds it will be full; None when that is not near."""

    limit: Limit
    full_in_secs: float | None

    @property
    def share(self) -> float:
        """The part of the limit that is used."""
        return self.limit.used / self.limit.size if self.limit.size else 1.0

    @property
    def level(self) -> int:
        """The highest of the levels that is reached; 0 below the first."""
        return max((level for level in LEVELS if self.share * 100 >= level), default=0)

    @property
    def line(self) -> str:
        """For a person: `the 20 GiB disk is full in 6 min`."""
        name = f"the {words.size(self.limit.size)} {self.limit.name} is"
        if self.share >= 1:
            return f"{name} full"
        if self.full_in_secs is None:
            return f"{name} {int(self.share * 100)} % full"
        return f"{name} full in {words.duration(self.full_in_secs)}"


def quantity(text: str) -> int | None:
    """Return the bytes in a quantity of Kubernetes', such as `20Gi`; None when it is not one."""
    number = text.strip()
    suffix = number.lstrip("0123456789.")
    try:
        count = float(number.removesuffix(suffix)) * _SUFFIXES[suffix]
    except (KeyError, ValueError):
        return None
    return int(count) if count >= 1 else None


def limits(declared: str, layer: int, size: int, used: int, free: int) -> list[Limit]:
    """Return what limits a *layer* of so many bytes.

    *declared* is the pod's own limit, empty where nobody said; the rest is what statvfs says of the
    disk. Where that is shared, a layer can have what it has and what is free.
    """
    found = []
    if pod := quantity(declared):
        found.append(Limit("limit of this pod", pod, layer))
    if abs(used - layer) <= _QUOTA * used:
        return [*found, Limit("disk", size, used)]
    return [*found, Limit("disk", layer + free, layer)]


def rate(samples: Sequence[tuple[float, int]]) -> float:
    """Return the bytes a second of (time, bytes) *samples*, without the fastest and slowest step.

    One tree that appears at once, or that is deleted, is no trend.
    """
    steps = [
        (after - before, until - since)
        for (since, before), (until, after) in pairwise(samples)
        if until > since
    ]
    rest = sorted(steps, key=lambda step: step[0] / step[1])[1:-1]
    return sum(grown for grown, _ in rest) / sum(secs for _, secs in rest) if rest else 0.0


def forecast(samples: Sequence[tuple[float, int]], given: Iterable[Limit]) -> Forecast:
    """Return the forecast of whichever of the *given* limits is reached first."""
    speed = rate(samples)
    found = []
    for limit in given:
        secs = max(0, limit.size - limit.used) / speed if speed > 0 else _HORIZON
        found.append(Forecast(limit, secs if secs < _HORIZON else None))
    return min(found, key=lambda one: (_HORIZON if one.full_in_secs is None else one.full_in_secs,
                                       -one.share))  # fmt: skip
