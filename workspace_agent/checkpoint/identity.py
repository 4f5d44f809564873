"""Who a workload is in its container, and what of that is another in the next one."""

from __future__ import annotations

import os
import time

from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGE = 1 << 26  # a node's own network may have a hundred thousand routes
_LOCAL = "LOCAL"  # the word for an address of our own in fib_trie


def observe() -> dict[str, object]:
    """Return what a manifest records of here; nothing in it is secret."""
    return {
        "hostname": os.uname().nodename,
        "addresses": addresses(_text("/proc/net/fib_trie"), _text("/proc/net/if_inet6")),
        "wall": time.time(),
        "monotonic": time.clock_gettime(time.CLOCK_MONOTONIC),
    }


def renewed(
    then: Mapping[str, object], attempt: str, generation: int, environ: Mapping[str, str | None]
) -> dict[str, object]:
    """Return what the restored processes are told, given what was recorded *then*.

    *environ* are the variables that differ (see `delta`). Never for a log.
    """
    now = observe()
    return {
        "schema": 1,
        "attempt": attempt,
        "generation": generation,
        "hostname": now["hostname"],
        "addresses": now["addresses"],
        "changed": [name for name in ("hostname", "addresses") if now[name] != then.get(name)],
        "wall_jump": _jump(now, then, "wall"),
        "monotonic_jump": _jump(now, then, "monotonic"),
        "seed": os.urandom(16).hex(),
        "environ": dict(environ),
    }


def delta(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables of *new* that *old* has not, or otherwise; None is for one that went."""
    gone: dict[str, str | None] = dict.fromkeys(sorted(old.keys() - new.keys()))
    return {**gone, **{name: new[name] for name in sorted(new) if old.get(name) != new[name]}}


def addresses(trie: str, inet6: str) -> list[str]:
    """Return the addresses in these two texts of /proc/net, without those of the loopback."""
    import ipaddress

    found, last = set(), ""
    for line in trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words[-1:] == [_LOCAL] and "host" in words:
            found.add(last)
    found |= {str(ipaddress.ip_address(bytes.fromhex(line.split()[0])))
              for line in inet6.splitlines() if line}  # fmt: skip
    return sorted(one for one in found if not ipaddress.ip_address(one).is_loopback)


def _jump(now: Mapping[str, object], then: Mapping[str, object], name: str) -> float | None:
    """Return by how many seconds a clock is ahead of where it was; None where that is not known."""
    one, other = now[name], then.get(name)
    if not isinstance(one, float) or not isinstance(other, int | float):
        return None
    return round(one - other, 3)


def _text(path: str) -> str:
    return (files.read(path, _LARGE) or b"").decode("ascii", "replace")
