"""Whether the torch that was added has code for the cards. Asked beside the workload."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from workspace_agent.host import command, files
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.problem import Problem
from workspace_agent.replay import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workspace_agent.replay.rules import Cards
    from workspace_agent.replay.step import Replay

# In the environment, and packed with it: an environment that was built on another card comes with
# what its torch was built for.
_NOTE = ".workspace-agent-torch.json"

_ASK = "import json, torch; print(json.dumps([torch.version.cuda, torch.cuda.get_arch_list()]))"

# A first import of torch on a slow disk; the workload runs meanwhile.
_LIMIT = 120.0


def is_added(step: Replay) -> bool:
    """Say whether *step* brought a torch, or another one than the image's."""
    mark = step.place.mark(step.place.used())
    return mark is not None and "torch" in mark.dists


def problem(step: Replay, cards: Cards) -> Problem | None:
    """Return what is wrong with its torch on *cards*; None where that is not known."""
    bad = [card for card in cards.cards if card.capability]
    built = _built(step) if bad else None
    if built is None:
        return None
    cuda, arches = built
    bad = [card for card in bad if not rules.runs(arches, card.capability)]
    if not bad:
        return None
    said = " ".join(arches) if cuda and arches else "no GPU at all"
    names = dict.fromkeys(f"{card.name or 'a card'} ({card.capability})" for card in bad)
    arch = bad[0].arch
    file = (
        f"requirements_{arch}.txt, which is chosen where there is {arch}"
        if arch
        else f'a file with `when = {{ compute_capability = ">={bad[0].capability}" }}`'
    )
    return Problem(
        "replay.wrong-arch",
        f"torch has no code for {', '.join(names)}",
        f"{step.why} brought one that was built for {said}",
        f"put a torch that was built for it into {file}",
        step.files[0],
    )


def _built(step: Replay) -> tuple[str, list[str]] | None:
    """Return the CUDA and the architectures that torch was built for; None when it does not say.

    Without a driver that it takes, a torch with CUDA names no architecture.
    """
    top = step.place.at(step.place.used())
    mark = step.place.mark(step.place.used())
    note = f"{top}/{_NOTE}"
    is_new = mark is not None and not mark.is_stored
    with suppress(OSError, ValueError, TypeError):
        said = _asked(step, top) if is_new else files.read(note)
        cuda, arches = json.loads(said or b"")
        if arches or not cuda:
            if is_new:
                files.commit(note, dumps([cuda, arches]))
            return cuda or "", [str(one) for one in arches]
    return None


def _asked(step: Replay, top: str) -> bytes:
    def alive(_: str) -> None:
        for lease in step.leases:  # nobody else is to build meanwhile
            lease.beat()

    python = step.python.executable if step.is_in_place else f"{top}/bin/python"
    out, log = f"{step.place.top}/torch.json", f"{step.logs}/replay.log"
    command.run([python, "-I", "-c", _ASK], log=log, env=step.env, timeout=_LIMIT, out=out,
                tell=alive)  # fmt: skip
    said = files.read(out) or b""
    os.unlink(out)
    return b"".join(said.splitlines()[-1:])
