"""Imports point down only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "workspace_agent"

# Floor 0 to 4; the features of one floor do not know each other.
FLOORS = (
    ("model",),
    ("config", "host"),
    ("checkpoint", "replay", "rescue", "steps", "supervise", "watch"),
    ("app",),
    ("cli",),
)

# These stand beside the floors: PID 1's own few modules, and what they may see of the package.
BESIDE = {
    "__init__": set(),
    "__main__": {"app", "cli", "model"},
    "bundle": set(),
    "consult": {"app", "host", "model", "supervise", "start"},
    "fastpath": {"host", "model"},
    "pid1": {"bundle", "start"},
    "watcher": {"app", "host", "model", "watch"},
    "workload": set(),  # goes alone into other people's programs
    "start": {"bundle", "consult", "fastpath", "host", "model", "steps", "supervise"},
}
# What the floors may see of them, beside `__version__`.
SEEN = {
    "app": {"bundle", "consult", "fastpath", "start"},
    "cli": {"start"},
}
LAZY = {"psutil", "watchdog", "asyncio", "importlib.metadata", "logging", "ctypes", "tomli"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, *, top: bool = False) -> Iterator[str]:
    """Yield the full name of whatever *path* imports; with *top* only what it does when loaded."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_typing(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if top and id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def parts_of(path: Path) -> set[str]:
    """Return the first names below the package that *path* imports from."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("workspace_agent.")}
    return names - {"__version__"}


def allowed(part: str) -> set[str]:
    if part in BESIDE:
        return BESIDE[part]
    (floor,) = (n for n, parts in enumerate(FLOORS) if part in parts)
    below = {name for parts in FLOORS[:floor] for name in parts}
    return below | {part} | SEEN.get(part, set())


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")

    assert set() == parts_of(path) - allowed(part)


def test_click_lives_in_cli_and_nowhere_else() -> None:
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in MODULES
        for name in imports(path)
        if name.split(".")[0] == "click"
    }

    assert {"cli"} == users


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_is_dear_is_imported_where_it_is_needed(path: Path) -> None:
    assert set() == {name for name in imports(path, top=True) if name in LAZY}


def test_only_two_modules_use_subprocess() -> None:
    users = {str(p.relative_to(PACKAGE)) for p in MODULES if "subprocess" in set(imports(p))}

    assert {"host/command.py", "host/flow.py"} == users


def test_only_host_room_and_the_fast_path_ask_for_room() -> None:
    users = {str(p.relative_to(PACKAGE)) for p in MODULES if "os.statvfs(" in p.read_text()}

    assert {"host/room.py", "fastpath.py"} == users
