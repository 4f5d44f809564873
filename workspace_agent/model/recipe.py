"""The recipe of an environment, and what follows from it for a process and for a shell.

A recipe is a plain dict of builtins, so that `marshal` carries it from the engine, or from the
image's bake, to PID 1 without a single import. Everything here is pure; strings may hold
undecodable bytes as surrogate escapes.
"""

from __future__ import annotations

from workspace_agent.model import layout

TYPE_CHECKING = False  # `typing` costs 4 ms and only the type checker needs it
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypedDict

    class Recipe(TypedDict):
        """What the workspace adds to the container's environment."""

        set: dict[str, str]  # wins over the container's value
        default: dict[str, str]  # only where the container has none
        prepend: dict[str, list[str]]  # search paths, first entry first
        python: list[str]  # folders of packages that the image's Python sees
        home: str  # HOME of the workload; empty: as it is
        image_home: str  # HOME of the image, which shells switch away from
        allow: list[str]  # globs: the container's variables that every shell gets
        secret: list[str]  # globs: of those, the ones only a 0600 file may hold


_HEAD = "# Written by workspace-agent at every boot; edits are lost.\n"

# The kernel hands these to each pod by name; a shell that inherits an old value would be wrong.
_NEVER = ("NVIDIA_VISIBLE_DEVICES",)


def compose(recipe: Recipe, base: Mapping[str, str]) -> dict[str, str]:
    """Return the workload's environment: *base* (the container's) and the recipe over it."""
    env = {**recipe["default"], **base, **recipe["set"]}
    for name, entries in recipe["prepend"].items():
        env[name] = _joined(entries, env.get(name, ""))
    if recipe["home"]:
        env["HOME"] = recipe["home"]
    return env


def inside(
    caller: Mapping[str, str], workload: Mapping[str, str], container: Mapping[str, str]
) -> dict[str, str]:
    """Return *caller*'s environment brought into the workspace of a running *workload*.

    What the caller has changed from the *container*'s value stays the caller's; a PATH of its own,
    as cron has, gets the entries that it lacks.
    """
    env = dict(caller) | {
        name: value
        for name, value in workload.items()
        if caller.get(name) in (None, container.get(name))
    }
    if "PATH" in workload and "PATH" in env:
        env["PATH"] = _joined(workload["PATH"].split(":"), env["PATH"])
    return env


def published(recipe: Recipe, base: Mapping[str, str]) -> list[tuple[str, str, str | None, bool]]:
    """List what shells are told, as (name, value, the container's value or None, secret)."""
    env = compose(recipe, base)
    names = {**recipe["default"], **recipe["set"]}
    passed = (n for n in base if any(matches(n, glob) for glob in recipe["allow"]))
    return [
        (name, env[name], base.get(name), any(matches(name, g) for g in recipe["secret"]))
        for name in sorted({*names, *passed})
        if is_name(name) and name not in _NEVER and name not in recipe["prepend"]
    ]


def render_sh(recipe: Recipe, base: Mapping[str, str], runtime: str) -> tuple[str, str]:
    """Return the texts of (env.sh, secrets.sh) for any POSIX shell; without secrets, an empty one.

    Sourcing them twice changes nothing, a value that the user changed stays, and no value is
    ever expanded: everything stands in single quotes.
    """
    rows = published(recipe, base)
    plain = "".join(_assign(*row[:3]) for row in rows if not row[3])
    secret = "".join(_assign(*row[:3]) for row in rows if row[3])
    paths = "".join(_prepend(name, base, recipe) for name in recipe["prepend"])
    inner = quoted(f"{runtime}/{layout.SECRETS_SH}")
    return (
        f"{_HEAD}{plain}{paths}{_home(recipe)}if [ -r {inner} ]; then . {inner}; fi\n"
        + _banner(quoted(f"{runtime}/{layout.BANNER}")),
        f"{_HEAD}{secret}" if secret else "",
    )


def shell_files(
    recipe: Recipe, base: Mapping[str, str], runtime: str
) -> list[tuple[str, str, int]]:
    """List what a boot leaves for shells and verbs, as (path, text, mode); secrets come first."""
    plain, secret = render_sh(recipe, base, runtime)
    block = "".join(f"{name}={value}\0" for name, value in compose(recipe, base).items())
    return [
        (f"{runtime}/{layout.SECRETS_SH}", secret, 0o600),
        (f"{runtime}/{layout.ENVIRON}", block, 0o600),
        (f"{runtime}/{layout.ENV_SH}", plain, 0o644),
    ]


def path_beside(path: str, volume: str) -> str:
    """Return *path* (a PATH) without the entries on *volume*: whoever looks there may hang."""
    return ":".join(e for e in path.split(":") if e != volume and not e.startswith(f"{volume}/"))


def quoted(text: str) -> str:
    """Return *text* as one word of a POSIX shell in which nothing is expanded."""
    return "'" + text.replace("'", "'\\''") + "'"


def is_name(name: str) -> bool:
    """Say whether *name* can be a variable of a shell."""
    return name.isascii() and name.isidentifier()


def matches(name: str, glob: str) -> bool:
    """Say whether *name* fits *glob*, in which only `*` is special."""
    first, *rest = glob.split("*")
    if not rest:
        return name == glob
    if not name.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(name) - at >= len(rest[-1]) and name.endswith(rest[-1])


def _joined(entries: Sequence[str], old: str) -> str:
    present = old.split(":") if old else []
    return ":".join([*(e for e in entries if e not in present), *present])


def _assign(name: str, value: str, original: str | None) -> str:
    same = (
        "" if original is None or original == value else f' || [ "${name}" = {quoted(original)} ]'
    )
    return f'if [ -z "${{{name}+x}}" ]{same}; then {name}={quoted(value)}; export {name}; fi\n'


def _prepend(name: str, base: Mapping[str, str], recipe: Recipe) -> str:
    # The container's own entries too: login shells start from a PATH of their own.
    wanted = _joined(recipe["prepend"][name], base.get(name, "")).split(":")
    lines = [
        f'case ":${{{name}-}}:" in *:{quoted(e)}:*) ;; '
        f'*) {name}={quoted(e)}"${{{name}:+:${name}}}";; esac\n'
        for e in reversed(dict.fromkeys(wanted))
        if e
    ]
    return "".join([*lines, f"export {name}\n"]) if lines else ""


def _home(recipe: Recipe) -> str:
    if not recipe["home"] or recipe["image_home"] in ("", "/"):
        return ""
    old, new = quoted(recipe["image_home"]), quoted(recipe["home"])
    # Some shells start without HOME (`env -i`), some take it from passwd and do not export it.
    # Whoever may not write there is another user, whose home this is not.
    ours = f'{{ [ "${{HOME-}}" = {old} ] || [ -z "${{HOME+x}}" ]; }}'
    switch = f"{ours} && [ -d {new} ] && [ -w {new} ]"
    exported = f'if [ "${{HOME-}}" = {new} ]; then export HOME; fi'
    return f"if {switch}; then HOME={new}; fi\n{exported}\n"


def _banner(path: str) -> str:
    return (
        'case "$-" in *i*) if [ -z "${WORKSPACE_AGENT_BANNER-}" ] && '
        f"[ -s {path} ]; then WORKSPACE_AGENT_BANNER=1; export WORKSPACE_AGENT_BANNER; "
        f"cat {path} >&2; fi;; esac\n"
    )
