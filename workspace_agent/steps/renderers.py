"""One environment, the forms of the programs that read none of the shell's files. Pure.

A value that a form cannot carry is left out of it: a shell then still gets it from env.sh.
"""

from __future__ import annotations

from workspace_agent.model import layout
from workspace_agent.model.recipe import compose, is_name, published

TYPE_CHECKING = False  # `typing` costs 4 ms, and the fast path of an image with fish comes here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workspace_agent.model.recipe import Recipe

# pam_env knows no escape, cuts at `#`, and drops quotes; sudo and sshd are near enough.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+,=~^-")

BEGIN = "# >>> workspace-agent >>>"
END = "# <<< workspace-agent <<<"


def own_values(recipe: Recipe, env: Mapping[str, str]) -> dict[str, str]:
    """Return what the recipe itself sets, as it is in *env*: nothing secret.

    These stand in world-readable files that an image may carry.
    """
    secret = {name for name, _, _, hidden in published({**recipe, "allow": []}, env) if hidden}
    names = [*recipe["set"], *recipe["default"], *recipe["prepend"]]
    return {n: env[n] for n in names if n in env and is_name(n) and n not in secret}


def is_plain(value: str) -> bool:
    """Say whether every reader takes *value* for what it is, unquoted."""
    return bool(value) and set(value) <= _PLAIN


def pam(values: Mapping[str, str]) -> list[str]:
    """Return lines of /etc/environment."""
    return [f"{name}={value}" for name, value in values.items() if is_plain(value)]


def sshd(values: Mapping[str, str]) -> list[str]:
    """Return one SetEnv line: sshd takes only the first it meets."""
    words = [f"{name}={value}" for name, value in values.items() if is_plain(value)]
    return [f"SetEnv {' '.join(words)}"] if words else []


def sudoers(path: str, names: Sequence[str]) -> list[str]:
    """Return Defaults lines: the search path, and what `sudo` lets through when its caller has it.

    A wrong line here would lock everybody out of sudo: whatever is not plain is left out.
    """
    keep = " ".join(name for name in names if set(name) <= _PLAIN | {"*"})
    lines = [f'Defaults env_keep += "{keep}"'] if keep else []
    entries = [e for e in path.split(":") if e.startswith("/") and is_plain(e) and "=" not in e]
    return [f'Defaults secure_path="{":".join(entries)}"', *lines] if entries else lines


def fish_files(recipe: Recipe, base: Mapping[str, str], runtime: str) -> list[tuple[str, str, int]]:
    """List what a boot leaves for fish, as `model.recipe.shell_files` does for the others."""
    plain, secret = fish(recipe, base, runtime)
    return [
        (f"{runtime}/{layout.SECRETS_FISH}", secret, 0o600),
        (f"{runtime}/{layout.ENV_FISH}", plain, 0o644),
    ]


def fish(recipe: Recipe, base: Mapping[str, str], runtime: str) -> tuple[str, str]:
    """Return the texts of (env.fish, secrets.fish); the first reads the second."""
    env = compose(recipe, base)
    head = "# Written by workspace-agent at every boot; edits are lost."
    lines: dict[bool, list[str]] = {False: [head], True: [head]}
    for name, value, original, secret in published(recipe, base):
        old = "" if original is None else f'; or test "${name}" = {_fish_word(original)}'
        lines[secret].append(f"if not set -q {name}{old}; set -gx {name} {_fish_word(value)}; end")
    for name in recipe["prepend"]:
        for entry in reversed(env.get(name, "").split(":")):
            word = _fish_word(entry)
            lines[False].append(
                f"contains -- {word} ${name}; or set -gx --path {name} {word} ${name}"
            )
    if recipe["home"] and recipe["image_home"] not in ("", "/"):
        old, new = _fish_word(recipe["image_home"]), _fish_word(recipe["home"])
        lines[False].append(f'if test "$HOME" = {old}; and test -d {new}; set -gx HOME {new}; end')
    word = _fish_word(f"{runtime}/{layout.SECRETS_FISH}")
    lines[False].append(f"if test -r {word}; source {word}; end")
    return "\n".join([*lines[False], ""]), "\n".join([*lines[True], ""])


def with_block(text: str, lines: Sequence[str], *, top: bool) -> str:
    """Return *text* with our block replaced, at the *top* or the end; no lines remove it."""
    kept = _without_block(text)
    if not lines:
        return kept
    block = "\n".join([BEGIN, *lines, END, ""])
    gap = "" if top or not kept or kept.endswith("\n") else "\n"
    return block + kept if top else kept + gap + block


def _without_block(text: str) -> str:
    # From the last BEGIN before an END: the one whose END was deleted takes nothing with it.
    before, end, tail = text.partition(END + "\n")
    head, begin, _ = before.rpartition(BEGIN + "\n")
    return head + tail if begin and end else text


def _fish_word(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
