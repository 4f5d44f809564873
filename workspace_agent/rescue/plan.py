"""What is saved when a container stops, in the time that is left. Pure."""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from workspace_agent.model.atrisk import Entry

# What one object costs beside its bytes: measured at 2 to 20 thousand a second.
_EACH = 0.0005


@dataclass(frozen=True)
class Plan:
    """*take* in this order; *left* are the others and why; all of it would take *needed* s."""

    take: tuple[Entry, ...]
    left: tuple[tuple[Entry, str], ...]
    needed: float


def plan(entries: Iterable[Entry], *, secs: float, rate: float, room: int) -> Plan:
    """Choose among *entries*: the dearest first, of those the newest, of those the smallest.

    *rate* is bytes a second, as measured; *room* the bytes that there is place for.
    """
    take: list[Entry] = []
    left: list[tuple[Entry, str]] = []
    needed = 0.0
    rate = max(rate, 1.0)
    for entry in sorted(entries, key=_order):
        size = min(entry.size, entry.blocks)  # holes are not copied
        cost = _EACH + size / rate
        needed += cost
        if cost > secs:
            left.append((entry, f"it takes {cost:.0f} s of the {max(secs, 0):.0f} s that are left"))
        elif size > room:
            left.append((entry, "there is no room left for what is saved"))
        else:
            take.append(entry)
            secs, room = secs - cost, room - size
    return Plan(tuple(take), tuple(left), needed)


def _order(entry: Entry) -> tuple[int, int, int, str]:
    return -entry.value, -entry.mtime_ns, entry.size, entry.path
