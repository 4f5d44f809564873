"""The reference says what the code does: no more, no less.

`GOLDEN=write pytest tests/unit/test_docs.py` writes `docs/reference/cli.md` anew.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from workspace_agent import fastpath
from workspace_agent.app import private
from workspace_agent.cli import lazy, main
from workspace_agent.config import schema
from workspace_agent.model import layout
from workspace_agent.steps import trouble
from workspace_agent.supervise import exitcode

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"

HEAD = """\
# The command line

<!-- Written by `GOLDEN=write pytest tests/unit/test_docs.py`; change the verbs, not this page. -->

Flags of the root go before the verb: `workspace-agent --json status`.
What each exit code means is on [its own page](exit-codes.md).
"""


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def commands(
    command: click.Command, ctx: click.Context
) -> Iterator[tuple[click.Context, click.Command]]:
    """Yield *command* and whatever is below it."""
    yield ctx, command
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from commands(inner, click.Context(inner, info_name=name, parent=ctx))


def cli_page() -> str:
    # With the group's own settings: click keeps the help option that it is first asked for.
    root = click.Context(main.cli, info_name="workspace-agent", **main.cli.context_settings)
    return HEAD + "".join(_section(ctx, command) for ctx, command in commands(main.cli, root))


def _section(ctx: click.Context, command: click.Command) -> str:
    words = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    lines = [f"\n## `{ctx.command_path}`\n", f"```\n{words}\n```\n", f"```text\n{text}\n```\n"]
    rows = [_row(one) for one in command.params if isinstance(one, click.Option)]
    if rows:
        lines.append("| flag | variable | what |\n|---|---|---|\n" + "".join(rows))
    return "\n".join(lines)


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = option.metavar or "|".join(getattr(option.type, "choices", ()))
    shown = f"{names} {value}".rstrip().replace("|", "\\|")
    return f"| {shown} | {f'`{option.envvar}`' if option.envvar else ''} | {option.help or ''} |\n"


def slugs_in_code() -> set[str]:
    """Return every slug that the package can print."""
    found = {slug for slug, *_ in trouble._KNOWN.values()}
    for path in (ROOT / "workspace_agent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
                given = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "slug")]
            elif isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                given = [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == "slug"]
            else:
                continue
            found |= {one.value for one in given if isinstance(one, ast.Constant)}
    return found


def test_every_slug_has_its_section_and_no_section_is_left_over() -> None:
    documented = re.findall(r"^## `(\S+)`$", page("problems"), re.M)

    assert sorted(slugs_in_code()) == documented


def test_every_section_of_a_problem_says_what_why_and_fix() -> None:
    sections = page("problems").split("\n## ")[1:]

    assert [] == [
        section.split("\n")[0]
        for section in sections
        if not re.fullmatch(r"`\S+`\n\n\S.*?\n\nWhy: \S.*?\n\nFix: \S.*?\n*", section, re.S)
    ]


def test_the_page_of_the_command_line_is_that_of_the_verbs() -> None:
    if os.environ.get("GOLDEN") == "write":
        (REFERENCE / "cli.md").write_text(cli_page())

    assert cli_page() == page("cli")


def test_every_verb_is_on_that_page() -> None:
    documented = set(re.findall(r"^## `workspace-agent ([\w-]+)`$", page("cli"), re.M))

    assert set(lazy.VERBS) == documented


def test_every_exit_code_is_on_its_page() -> None:
    ours = {0, 3, main.FAILED, main.USAGE, main.INTERRUPTED}
    wrapper = {exitcode.AGENT_FAILED, exitcode.CANNOT_EXECUTE, exitcode.NOT_FOUND, 143}
    verbs, run = page("exit-codes").split("\n## `run`")

    assert ours | {4, 5} == {int(n) for n in re.findall(r"^\| (\d+) \|", verbs, re.M)}
    assert wrapper == {int(n) for n in re.findall(r"^\| (\d+) \|", run, re.M)}


@pytest.mark.parametrize("code", ["0", "1", "2", "3", "4", "5"])
def test_the_codes_of_the_root_help_are_those_of_the_page(code: str) -> None:
    help_text = main.cli.help or ""
    said = re.search(rf"(?:^|\s){code}  (\w+)", help_text)
    (row,) = re.findall(rf"^\| {code} \| (\w+)", page("exit-codes"), re.M)

    assert said is not None
    assert row == said[1]


# Names in `layout` that are no files.
_NO_FILES = {
    "CONTROL_NAMES",
    "ENVIRONMENTS",
    "KERNELS",
    "RUNTIME",
    "STATE",
    "TERMINATION_LOG_BYTES",
    "TYPE_CHECKING",
}


def test_every_state_file_is_on_its_page_and_no_other() -> None:
    names = {
        str(value)
        for name, value in vars(layout).items()
        if name.isupper() and name not in _NO_FILES
    }
    others = {
        private.STATE,
        "private.log",
        fastpath.BAKED,
        "bundle.*",
        "backup",
        "stage-*",
        "lease.*",
        "/dev/termination-log",
        f"home/{schema.Profile().home.marker}",
    }
    documented = {
        name.rstrip("/").removeprefix("venv/")
        for name in re.findall(r"^\| `([^`]+)` \|", page("state-files"), re.M)
    }

    assert names | others == documented


def test_every_step_is_in_the_list_of_a_boot() -> None:
    modules = [
        p
        for part in ("steps", "replay", "rescue")
        for p in (ROOT / "workspace_agent" / part).iterdir()
    ]
    modules.append(ROOT / "workspace_agent/app/reviving.py")
    text = "".join(path.read_text() for path in modules if path.suffix == ".py")
    named = set(re.findall(r'^    name: str = "([^"]+)"$', text, re.M))
    documented = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/concepts.md").read_text(), re.M)

    assert (len(named), named) == (len(documented), set(documented))


@pytest.mark.parametrize("name", ["cli", "exit-codes", "problems", "profile", "state-files"])
def test_every_link_of_a_page_leads_to_a_page(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page(name))

    assert [] == [link for link in links if not (REFERENCE / link).exists()]
