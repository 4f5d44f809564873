"""Whether the torch that was added has code for the cards. Asked beside the workload."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace

from workspace_agent.host import command, files
from workspace_agent.model.problem import Problem
from workspace_agent.replay import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from workspace_agent.replay.mark import Mark
    from workspace_agent.replay.rules import Cards
    from workspace_agent.replay.step import Replay

_ASK = "import json, torch; print(json.dumps([torch.version.cuda, torch.cuda.get_arch_list()]))"

# A first import of torch on a slow disk; the workload runs meanwhile.
_LIMIT = 120.0


def problem(step: Replay, cards: Callable[[], Cards]) -> Problem | None:
    """Return what is wrong with the torch that *step* brought, on *cards*; None where there is
    none, or nobody knows.
    """
    mark = step.place.in_use()
    if mark is None or "torch" not in mark.dists:
        return None
    bad = [card for card in cards().cards if card.capability]
    arches = _built(step, mark) if bad else None
    if arches is None:
        return None
    bad = [card for card in bad if not rules.runs(arches, card.capability)]
    if not bad:
        return None
    said = " ".join(arches) if arches else "no GPU at all"
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
        f"{step.asked.why} brought one that was built for {said}",
        f"put a torch that was built for it into {file}",
        step.asked.files[0],
    )


def _built(step: Replay, mark: Mark) -> tuple[str, ...] | None:
    """Return the architectures that torch was built for; None when it does not say.

    The mark says it to those who restore it on other cards. Without a driver that it takes, a torch
    with CUDA names no architecture.
    """
    if mark.is_stored:
        return mark.torch
    with suppress(OSError, ValueError, TypeError):
        cuda, arches = json.loads(_asked(step))
        if arches or not cuda:
            found = (*map(str, arches),) if cuda else ()
            step.place.commit(replace(mark, torch=found))
            return found
    return None


def _asked(step: Replay) -> bytes:
    python = step.python.executable if step.policy.is_in_place else f"{step.place.env}/bin/python"
    out, log = f"{step.place.top}/torch.json", f"{step.logs}/replay.log"
    command.run([python, "-I", "-c", _ASK], log=log, env=step.env, timeout=_LIMIT, out=out,
                tell=step.alive(lambda _: None))  # fmt: skip
    said = files.read(out) or b""
    os.unlink(out)
    return b"".join(said.splitlines()[-1:])
