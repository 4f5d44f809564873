"""What an installer says when it fails, for people: whose fault it was, and in which line."""

from __future__ import annotations

import re

from workspace_agent.model.problem import Problem
from workspace_agent.replay.pack import no_room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from workspace_agent.host.command import Finished
    from workspace_agent.replay.lines import Line

# What uv and pip say when the network, or the index behind it, is to blame.
_NETWORK = (
    "error sending request", "connection", "timed out", "timeout", "dns error", "temporary failure",
    "name or service not known", "newconnectionerror", "502", "503", "504", "failed to fetch",
    "network is unreachable",
)  # fmt: skip

# What they say when the container's disk is.
_FULL = ("no space left", "quota exceeded", "os error 28")

FIX = "the last good environment, or the image's packages, are in use until it is mended"


_NO_PIP = "put uv, or pip (Debian: python3-pip), into the image; then `workspace-agent replay run`"


def problem(doing: str, ended: Finished, lines: Sequence[Line], log: str) -> Problem:
    """Return why *doing* something with *lines* did not succeed, as it *ended*."""
    said = [line.strip() for line in ended.tail.splitlines() if line.strip()]
    first = [one for one in said if one.lower().startswith("error")][:1]
    why = "; ".join(dict.fromkeys((*first, *said[-1:])))
    if ended.timed_out:
        why = f"it took too long, {ended.secs:.0f} s, or did nothing for a while"
    why, what = _placed(why, lines)[:400], f"{doing} the packages did not succeed"
    if is_network(ended.tail):
        return Problem("replay.no-network", what, why, f"see {log}; {FIX}")
    if any(word in ended.tail.lower() for word in _FULL):
        return no_room(why)
    fix = _NO_PIP if said and said[-1].endswith("No module named pip") else f"see {log}; {FIX}"
    return Problem("replay.build-failed", what, why, fix)


def is_network(said: str) -> bool:
    """Say whether an installer that *said* this failed for the network's sake."""
    lowered = said.lower()
    if "certificate" in lowered:
        return False  # it answers, and will not be another one in eight seconds
    return any(word in lowered for word in _NETWORK)


def _placed(said: str, lines: Sequence[Line]) -> str:
    """Return what an installer *said* with the person's own file in the place of ours."""
    asked = [line for line in lines if not line.constraint]
    found = re.search(
        r"`?[^\s`]*asked-r\.txt`?(?: \(line| at line) (?P<n>\d+)\)?"
        r"|line (?P<m>\d+) of \S*asked-r\.txt",
        said,
    )
    number = int(found["n"] or found["m"]) if found else 0
    if not found or not 0 < number <= len(asked):
        return said
    return said.replace(found[0], asked[number - 1].place)


def conflict(sentences: Sequence[str]) -> Problem:
    """Say that nothing is built while what is asked for is at odds with the image."""
    return Problem(
        "replay.conflict",
        sentences[0],
        "; ".join(sentences[1:6]) or "`replay.on_conflict` is `fail`",
        "take the pin out, or set `replay.on_conflict` to `shadow` or `keep-base`",
    )
