"""Which packages a boot brings back: from the profile and the files on the volume to the step."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

from workspace_agent.model import layout
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.recipe import compose, path_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile, RequirementsRule
    from workspace_agent.model.outcome import Step
    from workspace_agent.model.recipe import Recipe
    from workspace_agent.replay.each_boot import PipEachBoot
    from workspace_agent.replay.rules import Cards
    from workspace_agent.replay.step import Replay

# Names at the place where files of packages are looked for that mean some are there.
PREFIXES = ("requirements", "pylock.")
NAMES = ("pyproject.toml", "uv.lock", "environment.yml")

# How long uv may take to write a lock down as lines; it neither builds nor downloads anything.
_EXPORT = 20.0


@dataclass(frozen=True)
class Choice:
    """The *files* that are meant, *why* in words, under which *rule*, and what is to be told."""

    files: tuple[str, ...] = ()
    why: str = "no file asks for packages"
    rule: str = ""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    notes: tuple[Problem, ...] = ()


def step_of(
    profile: Profile,
    facts: Facts,
    recipe: Recipe,
    note: Callable[[Problem], None] = lambda _: None,
) -> Replay | None:
    """Return the step, or None where nothing asks for packages. *note* hears what is not right.

    What it runs has the environment of the workload that *recipe* makes.
    """
    if profile.replay.mode in ("off", "pip-each-boot") or profile.replay.trust == "never":
        return None
    env = environ(facts, recipe)
    found = chosen(profile, facts, env)
    try:
        found = _as_lines(found, facts, env)
    except (AgentError, OSError) as error:
        problem = error.problem if isinstance(error, AgentError) else _no_export(str(error))
        found = replace(found, files=(), notes=(*found.notes, problem))
    for one in found.notes:
        note(one)
    if not found.files:
        return None
    from workspace_agent.replay import key, place, step  # most boots have no use for them

    token = {"daily": time.strftime("%Y-%m-%d", time.gmtime()), "boot": facts.boot_id}
    return step.Replay(
        files=found.files,
        place=place.find(facts.environ, facts.uid, facts.system, facts.runtime),
        volume=facts.volume.path,
        python=facts.python,
        policy=key.Policy(
            profile.replay.mode, profile.replay.on_conflict, profile.replay.protected
        ),
        env=env,
        logs=f"{facts.runtime}/logs",
        boot_id=facts.boot_id,
        rule=found.rule,
        extras=found.extras,
        groups=found.groups,
        why=found.why,
        only_pinned=profile.replay.trust == "pinned",
        refresh=token.get(profile.replay.refresh, ""),
    )


def environ(facts: Facts, recipe: Recipe) -> dict[str, str]:
    """Return what installers run with: no command of theirs may come from a slow volume."""
    env = compose(recipe, facts.environ)
    return {**env, "PATH": path_beside(env.get("PATH", os.defpath), facts.volume.path)}


def chosen(profile: Profile, facts: Facts, env: Mapping[str, str]) -> Choice:
    """Return the files that say which packages; raises nothing: a volume in trouble has none.

    *env* leads to the tools. The cards are asked for only where the choice depends on them.
    """
    folder = facts.fill(profile, profile.replay.dir)

    def cards() -> Cards:
        from workspace_agent.replay import gpu

        return gpu.known(facts.runtime, env)

    if profile.requirements:
        return _by_rule(profile, facts, folder, cards)
    try:
        names = os.listdir(folder)
    except OSError:
        return Choice()
    from shutil import which

    has_uv = "uv.lock" in names and bool(which("uv", path=env["PATH"]))
    found = by_convention(names, cards, has_uv)
    if found.files == ("pyproject.toml",) and not _names_packages(f"{folder}/pyproject.toml"):
        return Choice()  # settings of a tool
    return replace(found, files=tuple(f"{folder}/{name}" for name in found.files))


def _names_packages(path: str) -> bool:
    from workspace_agent.host import files

    return b"dependencies" in (files.read(os.path.realpath(path), 1 << 20) or b"")


def _by_rule(profile: Profile, facts: Facts, folder: str, cards: Callable[[], Cards]) -> Choice:
    from workspace_agent.config.schema import WhenSection
    from workspace_agent.replay import rules

    partly: list[str] = []
    for number, rule in enumerate(profile.requirements, 1):
        is_default = rule.when == WhenSection()
        whole, some = (True, False) if is_default else rules.fits(rule.when, cards())
        if some:
            partly.append(_called(rule) or f"rule {number}")
        if whole:
            name = rule.name if is_default else _called(rule)
            return Choice(
                files=tuple(os.path.join(folder, facts.fill(profile, one)) for one in rule.files),
                why=f"rule {name or number}" + ("" if is_default else f": {cards()}"),
                rule=name,
                extras=rule.extras,
                groups=rule.groups,
                notes=_mixed(partly, cards) if partly else (),
            )
    return Choice((), f"no rule is for {cards()}", notes=_mixed(partly, cards) if partly else ())


def _called(rule: RequirementsRule) -> str:
    return rule.name or os.path.splitext(os.path.basename(rule.files[0] if rule.files else ""))[0]


def by_convention(names: Collection[str], cards: Callable[[], Cards], has_uv: bool) -> Choice:
    """Return which of the *names* in a folder are meant when nobody says."""
    if "pylock.toml" in names:
        return Choice(("pylock.toml",), "pylock.toml comes first")
    if {"uv.lock", "pyproject.toml"} <= {*names} and has_uv:
        return Choice(("uv.lock",), "uv.lock, by the uv of the image")
    if any(name.startswith("requirements") for name in names):
        from workspace_agent.replay import rules

        found: Cards | None = cards() if rules.asks_for_cards(names) else None
        files, rule, mixed = rules.by_name(names, found or rules.Cards())
        notes = _mixed([*names], cards) if mixed else ()
        if len(files) > 1:
            return Choice((), f"{' and '.join(files)}: nobody can tell which", notes=(
                *notes, _ambiguous(files)))  # fmt: skip
        if files:
            return Choice(files, f"{files[0]}: {found}" if found else files[0], rule, notes=notes)
    if "pyproject.toml" in names:
        left = ": there is no uv for uv.lock" if "uv.lock" in names else ""
        return Choice(("pyproject.toml",), f"the dependencies of pyproject.toml{left}")
    return Choice()


def _mixed(names: Collection[str], cards: Callable[[], Cards]) -> tuple[Problem, ...]:
    return (
        Problem(
            "replay.mixed-cards",
            f"the cards are of several kinds: {cards()}",
            f"{', '.join(sorted(names))}: what is for some of them was left out",
            "write a file for all of them, with a `[[requirements]]` whose `when` fits each card",
        ),
    )


def _ambiguous(files: Collection[str]) -> Problem:
    return Problem(
        "replay.ambiguous",
        f"nobody can tell which file is meant: {' or '.join(files)}",
        "each of them is for this machine's cards, so that neither was followed",
        "keep one of them, or say which by `[[requirements]]` in the profile",
    )


def _as_lines(found: Choice, facts: Facts, env: Mapping[str, str]) -> Choice:
    """Return *found* with a uv.lock in it written down as lines; raises AgentError and OSError."""
    lock = next((path for path in found.files if os.path.basename(path) == "uv.lock"), "")
    if not lock:
        return found
    from shutil import which

    from workspace_agent.host import command, files
    from workspace_agent.replay.redact import redacted

    uv = which("uv", path=env["PATH"])
    if not uv:
        raise AgentError(_no_export("there is no uv on the image's PATH", lock))
    out, log = f"{facts.runtime}/{layout.UV_LOCK}", f"{facts.runtime}/{layout.LOGS}/replay.log"
    os.makedirs(os.path.dirname(log), 0o700, exist_ok=True)
    files.commit(out, "", 0o600)
    argv = [uv, "export", "--frozen", "--no-emit-project", "--no-annotate", "--no-header",
            "--no-cache", "--no-python-downloads", "--python", facts.python.executable,
            "--project", os.path.dirname(lock)]  # fmt: skip
    argv += [word for one in found.extras for word in ("--extra", one)]
    argv += [word for one in found.groups for word in ("--group", one)]
    for more in (("--emit-index-url",), ()):  # an older uv does not know it
        ended = command.run([*argv, *more], log=log, env=env, timeout=_EXPORT, out=out,
                            clean=redacted)  # fmt: skip
        if ended.code == 0:
            return replace(found, files=tuple(out if p == lock else p for p in found.files))
    raise AgentError(_no_export(ended.tail.splitlines()[-1] if ended.tail else "", lock))


def _no_export(why: str, where: str = "") -> Problem:
    fix = "mend it with `uv lock`, or write a requirements.txt; the next boot reads it again"
    return Problem("replay.unreadable", "uv.lock cannot be used as a list of packages", why, fix,
                   where)  # fmt: skip


def settle(facts: Facts, step: Replay | None) -> tuple[Problem, ...]:
    """Do what may be done beside the workload, and return what is not right: the environment is
    stored, and the torch in it is held against the cards.
    """
    if step is None:
        return ()
    from workspace_agent.replay import gpu, kernels

    wrong = None
    if kernels.is_added(step):
        wrong = kernels.problem(step, gpu.known(facts.runtime, step.env))
    return tuple(problem for problem in (wrong, step.settle()) if problem)


def each_boot(profile: Profile, facts: Facts, recipe: Recipe) -> PipEachBoot | None:
    """Return the step of mode `pip-each-boot`, where a file asks for packages."""
    env = environ(facts, recipe)
    if profile.replay.mode != "pip-each-boot" or profile.replay.trust == "never":
        return None
    found = chosen(profile, facts, env)
    if not found.files or not facts.python.executable:
        return None
    from workspace_agent.replay import each_boot, place

    top = place.find(facts.environ, facts.uid, facts.system, facts.runtime).top
    log = f"{facts.runtime}/{layout.LOGS}/replay.log"
    options = profile.replay.options
    return each_boot.PipEachBoot(
        found.files, facts.python.executable, options, env, log, f"{top}/each-boot"
    )


def kernel(facts: Facts, step: Replay | None) -> tuple[Step, ...]:
    """Return the step that tells Jupyter of the environment of *step*."""
    if step is None or step.is_in_place or not facts.system or facts.uid != 0:
        return ()
    from workspace_agent.replay.kernel import Kernel

    return (Kernel(step.place.env, step.has("ipykernel")),)


def told(profile: Profile, facts: Facts) -> list[str]:
    """Return the files that the profile itself names, and what was installed by hand."""
    if profile.replay.mode == "off":
        return []
    folder = facts.fill(profile, profile.replay.dir)
    named = [facts.fill(profile, one) for rule in profile.requirements for one in rule.files]
    lock = f"{layout.state(facts.volume.path)}/{layout.REPLAY_IN_STATE}/{layout.CAPTURED_LOCK}"
    own = [lock] if profile.replay.capture == "replay" else []
    return [*(os.path.join(folder, one) for one in named), *own]


def asks(profile: Profile, facts: Facts) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return where, and by which names and prefixes of names, files ask for packages."""
    is_looked_for = profile.replay.mode != "off" and not profile.requirements
    return (facts.fill(profile, profile.replay.dir) if is_looked_for else "", NAMES, PREFIXES)


def wired(recipe: Recipe, step: Replay | None) -> Recipe:
    """Return *recipe* leading to the environment of *step*, whatever is in it by then."""
    if step is None or step.is_in_place or not step.place.used():
        return recipe
    env = step.place.env
    paths = recipe["prepend"]
    return {
        **recipe,
        "set": {**recipe["set"], "VIRTUAL_ENV": env},
        "prepend": {**paths, "PATH": [*paths.get("PATH", []), f"{env}/bin"]},
    }
