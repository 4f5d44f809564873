"""What an environment is: written down in it, and stored with it."""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


@dataclass(frozen=True)
class Mark:
    """What is in the environment *key*: the packages *dists*; *said* is the report of its
    conflicts, *removed* what it took away in place, *torch* for which GPUs that was built, None
    where nobody knows. *secs* is what it took here, *built_secs* what its build took.
    """

    key: str
    dists: dict[str, str]
    said: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    torch: tuple[str, ...] | None = None
    secs: float = 0.0
    built_secs: float = 0.0
    is_stored: bool = False

    @classmethod
    def parsed(cls, found: Mapping[str, Any]) -> Mark:
        """Return what *found* says; raises ValueError, TypeError, KeyError for what is none."""
        lists = {name: (*map(str, found[name]),) for name in ("said", "removed")}
        torch = found.get("torch")
        mark = cls(**{**found, **lists, "torch": torch if torch is None else (*map(str, torch),)})
        if not all(map(is_sane, (mark.secs, mark.built_secs))) or not all(
            isinstance(one, str) for one in (mark.key, *mark.dists, *mark.dists.values())
        ):
            raise ValueError
        return mark


def is_sane(number: float) -> bool:
    """Say whether *number* can be a size or a time; JSON also has infinite ones, and huge ones."""
    return type(number) in (int, float) and 0 <= number < 1 << 60
