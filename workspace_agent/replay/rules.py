"""Which files are for which cards. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from workspace_agent.config.forms import COMPARISON
from workspace_agent.model.words import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from workspace_agent.config.schema import WhenSection

# From which compute capability on an architecture goes; what is newer than the table has no name.
_ARCHES = (
    ((0, 0), ""), ((7, 0), "volta"), ((7, 5), "turing"), ((8, 0), "ampere"), ((8, 9), "ada"),
    ((9, 0), "hopper"), ((10, 0), "blackwell"), ((13, 0), ""),
)  # fmt: skip

# What people put after `requirements_` beside an architecture.
_ANY_CARD, _NO_CARD = ("gpu", "cuda"), ("cpu",)

_NAMED = re.compile(r"requirements[_-]([a-z]+)\.txt")


@dataclass(frozen=True)
class Card:
    """One GPU; *capability* is that of its instructions ("9.0"), "" where nobody knows."""

    name: str
    capability: str = ""

    @property
    def arch(self) -> str:
        """The name of its architecture; "" for one that is not in the table."""
        have = numbers(self.capability, 2)
        return [name for least, name in _ARCHES if least <= have][-1]


@dataclass(frozen=True)
class Cards:
    """The GPUs of a container, its driver, the newest CUDA that takes, and who said so."""

    cards: tuple[Card, ...] = ()
    driver: str = ""
    cuda: str = ""
    source: str = "none"

    def __str__(self) -> str:
        if not self.cards:
            return "no GPU"
        kinds = dict.fromkeys(card.arch or card.capability or card.name for card in self.cards)
        return f"{counted(len(self.cards), 'GPU')}, {' and '.join(kinds)}"


def numbers(version: str, count: int) -> tuple[int, ...]:
    """Return the first *count* numbers of *version*, zeros where it has fewer."""
    found = [int(one) for one in re.findall(r"\d+", version)[:count]]
    return (*found, *[0] * (count - len(found)))


def holds(comparison: str, version: str) -> bool:
    """Say whether *version* is as *comparison* wants: `>=570`, `8.6`, `>=8,<9`.

    As many of its numbers count as are written there: 570.86 is `570`, and not `>570`.
    """
    return bool(version) and all(_one(part.strip(), version) for part in comparison.split(","))


def _one(comparison: str, version: str) -> bool:
    found = COMPARISON.fullmatch(comparison)
    if found is None:
        return False
    count = found[2].count(".") + 1
    have, want = numbers(version, count), numbers(found[2], count)
    return {
        "": have == want,
        "==": have == want,
        "!=": have != want,
        ">=": have >= want,
        "<=": have <= want,
        ">": have > want,
        "<": have < want,
    }[found[1]]


def fits(when: WhenSection, cards: Cards) -> tuple[bool, bool]:
    """Say whether the machine is as *when* wants; and whether only some of its cards are."""
    count = str(len(cards.cards))
    machine = ((when.driver, cards.driver), (when.cuda, cards.cuda), (when.gpu_count, count))
    if not all(holds(wanted, have) for wanted, have in machine if wanted):
        return False, False
    asks = bool(when.arch or when.compute_capability or when.gpu_name)
    good = [_fits(when, card) for card in cards.cards]
    whole = all(good) and (bool(good) or not asks)
    return whole, any(good) and not whole


def _fits(when: WhenSection, card: Card) -> bool:
    name = card.name.lower()
    wanted = when.compute_capability
    return (
        (not when.arch or card.arch in when.arch)
        and (not wanted or holds(wanted, card.capability))
        and (not when.gpu_name or any(fnmatchcase(name, glob.lower()) for glob in when.gpu_name))
    )


def by_name(names: Collection[str], cards: Cards) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """Return the files among *names* that are for *cards*, what that is called, and the files that
    are for some of the cards only.

    `requirements_<arch>.txt` comes before `requirements_gpu.txt`, and that before
    `requirements.txt`. More than one file: nobody can tell which is meant.
    """
    arches = {card.arch for card in cards.cards}
    named = ((name, _NAMED.fullmatch(name)) for name in sorted(names))
    suffixes = {name: found[1] for name, found in named if found}
    partly = tuple(name for name, one in suffixes.items() if len(arches) > 1 and one in arches)
    for rank in [*([arches] if len(arches) == 1 else []), _ANY_CARD] if arches else [_NO_CARD]:
        if files := tuple(name for name, suffix in suffixes.items() if suffix in rank):
            return files, suffixes[files[0]], partly
    return (("requirements.txt",) if "requirements.txt" in names else ()), "", partly


def asks_for_cards(names: Collection[str]) -> bool:
    """Say whether it depends on the cards which of *names* are meant."""
    known = {*_ANY_CARD, *_NO_CARD, *(name for _, name in _ARCHES if name)}
    return any(found[1] in known for name in names if (found := _NAMED.fullmatch(name)))


def runs(arches: Sequence[str], capability: str) -> bool:
    """Say whether code built for *arches* (`sm_90`, `compute_90`) runs on a card.

    That of `sm_80` runs on 8.6 and not on 9.0; of `sm_90a` on 9.0 alone; `compute_80` is compiled
    for whatever is newer.
    """
    major, minor = numbers(capability, 2)
    for arch in arches:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", arch)
        if not found:
            continue
        kind, built, special = found[1], (int(found[2]), int(found[3])), found[4]
        if special == "a":
            good = built == (major, minor)
        elif kind == "sm" or special:
            good = built[0] == major and built[1] <= minor
        else:
            good = built <= (major, minor)
        if good:
            return True
    return False
