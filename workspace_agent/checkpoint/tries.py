"""Whether a version is tried again, by what the ledger says of it. Pure, but for signs of life."""

from __future__ import annotations

import time

from workspace_agent.host import alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

# A pod that dies while it restores mostly dies of something else; so often it is a pattern.
DEATHS = 3

# Somebody of whom nothing can be known has died after so long.
_LONG = 3600.0

# Reasons that are gone another time.
_PASSING = ("Address already in use", "No space left on device", "not there in time")


def against(
    ledger: Iterable[Mapping[str, Any]],
    version: str,
    host: str,
    is_gone: Callable[[bytes], bool | None] = alive.is_gone,
) -> str:
    """Say why *version* is not to be restored on machines like *host*; "" where nothing is against.

    Once it has failed there for a reason that stays, or when too many have died of it.
    """
    lines = [
        one for one in ledger if one.get("what") == "restore" and one.get("version") == version
    ]
    failed = [str(one.get("why", "")) for one in lines
              if one.get("host") == host and one.get("state") == "failed"]  # fmt: skip
    lasting = [why for why in failed if not any(word in why for word in _PASSING)]
    if lasting:
        return f"on a machine like this it failed: {lasting[-1]}"
    ended = {one.get("nonce") for one in lines if one.get("state") != "claimed"}
    deaths = sum(
        one.get("nonce") not in ended and _has_died(one, is_gone)
        for one in lines
        if one.get("state") == "claimed"
    )
    if deaths + len(failed) >= DEATHS:
        return f"{deaths + len(failed)} pods that tried it came to no end"
    return ""


def under_way(
    ledger: Iterable[Mapping[str, Any]],
    is_gone: Callable[[bytes], bool | None] = alive.is_gone,
) -> set[str]:
    """Return the versions that somebody restores at this moment."""
    lines = [one for one in ledger if one.get("what") == "restore"]
    ended = {one.get("nonce") for one in lines if one.get("state") != "claimed"}
    return {str(one.get("version")) for one in lines
            if one.get("nonce") not in ended and not _has_died(one, is_gone)}  # fmt: skip


def _has_died(claim: Mapping[str, Any], is_gone: Callable[[bytes], bool | None]) -> bool:
    gone = is_gone(str(claim.get("sign", "")).encode())
    at = claim.get("at", 0.0)
    return gone if gone is not None else time.time() - float(at) > _LONG
