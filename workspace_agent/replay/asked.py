"""Which files say which packages: by the rules of the profile, or by their names in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass

from workspace_agent.host import files
from workspace_agent.model.problem import AgentError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from workspace_agent.config.schema import RequirementsRule
    from workspace_agent.replay.lines import Line
    from workspace_agent.replay.rules import Cards


@dataclass(frozen=True)
class Asked:
    """The *files* that are meant, *why* in words, under which *rule*, and what is to be told."""

    files: tuple[str, ...] = ()
    why: str = ""
    rule: str = ""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    notes: tuple[Problem, ...] = ()
    only_pinned: bool = False

    def lines(self) -> tuple[Line, ...]:
        """Return what the files ask for; raises AgentError, too, for an open version where
        *only_pinned* ones are trusted.
        """
        from workspace_agent.replay import lines

        found = lines.without_captured(lines.read(self.files, self.extras, self.groups))
        if self.only_pinned and (loose := lines.loose(found)):
            raise AgentError(lines.not_pinned(loose))
        return found


def by_rule(given: Sequence[RequirementsRule], cards: Callable[[], Cards]) -> Asked:
    """Return what the first of the rules says that fits; *cards* looks for them."""
    from workspace_agent.config.schema import WhenSection
    from workspace_agent.replay import rules

    partly: list[str] = []
    for rule in given:
        name, why = rule.name, "the rule without `when`"
        if rule.when != WhenSection():
            name = name or os.path.splitext(os.path.basename("".join(rule.files[:1])))[0]
            whole, some = rules.fits(rule.when, cards())
            partly += [name] * some
            if not whole:
                continue
            why = f"rule {name}: {cards()}"
        notes = _mixed(partly, cards)
        return Asked(rule.files, why, name, rule.extras, rule.groups, notes)
    return Asked(notes=_mixed(partly, cards))


def in_folder(folder: str, cards: Callable[[], Cards], has_uv: Callable[[], bool]) -> Asked:
    """Return what the names of the files in *folder* say; a volume in trouble has none."""
    try:
        names = os.listdir(folder)
    except OSError:
        return Asked()
    if "pylock.toml" in names:
        return Asked(("pylock.toml",), "pylock.toml")
    if {"uv.lock", "pyproject.toml"} <= {*names} and has_uv():
        return Asked(("uv.lock",), "uv.lock")
    found = _by_name(names, cards)
    if found.files or found.notes or "pyproject.toml" not in names:
        return found
    text = files.read(os.path.realpath(f"{folder}/pyproject.toml")) or b""
    # Without that word it has settings of tools.
    return Asked(("pyproject.toml",), "pyproject.toml") if b"dependencies" in text else Asked()


def _by_name(names: Collection[str], cards: Callable[[], Cards]) -> Asked:
    if not any(name.startswith("requirements") for name in names):
        return Asked()
    from workspace_agent.replay import rules

    here = cards() if rules.asks_for_cards(names) else None
    found, rule, partly = rules.by_name(names, here or rules.Cards())
    notes = _mixed(partly, cards)
    if len(found) > 1:
        return Asked(notes=(*notes, _ambiguous(found)))
    why = "".join(found) + (f": {here}" if here else "")
    return Asked(found, why, rule, notes=notes)


def _mixed(partly: Sequence[str], cards: Callable[[], Cards]) -> tuple[Problem, ...]:
    if not partly:
        return ()
    what = f"the GPUs are of several kinds: {cards()}"
    why = f"for some of them only: {', '.join(partly)}"
    fix = "write a file for all of them, with a `[[requirements]]` whose `when` fits each"
    return (Problem("replay.mixed-cards", what, why, fix),)


def _ambiguous(files: Sequence[str]) -> Problem:
    what = f"nobody can tell which file is meant: {' or '.join(files)}"
    why = "each of them is for this machine, so that none was followed"
    fix = "keep one of them, or say which by `[[requirements]]` in the profile"
    return Problem("replay.ambiguous", what, why, fix)
