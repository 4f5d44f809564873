"""What PID 1 loads before the workload runs. Each of the names below costs milliseconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DEAR = {
    "click",
    "collections",
    "contextlib",
    "ctypes",
    "dataclasses",
    "enum",
    "functools",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "re",
    "shutil",
    "signal",
    "subprocess",
    "tempfile",
    "threading",
    "tomli",
    "tomllib",
    "traceback",
    "types",
    "typing",
}


def loaded(*modules: str) -> set[str]:
    """Return what an isolated interpreter has loaded after importing *modules*."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(modules)};"
        " print('\\n'.join(sys.modules))"
    )
    argv = [sys.executable, "-I", "-S", "-c", code]
    return set(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split())


@pytest.fixture(scope="module")
def fast_path() -> set[str]:
    return loaded("workspace_agent.start", "workspace_agent.fastpath")


def test_the_fast_path_loads_nothing_dear(fast_path: set[str]) -> None:
    found = sorted(DEAR & fast_path)

    assert [] == found, f"loaded: {', '.join(sorted(fast_path))}"


def test_the_fast_path_loads_no_other_part_of_the_agent(fast_path: set[str]) -> None:
    parts = {n.split(".")[1] for n in fast_path if n.startswith("workspace_agent.")}

    assert {"fastpath", "host", "model", "start", "supervise"} == parts


def test_asking_the_engine_costs_pid_1_nothing_dear_either() -> None:
    assert set() == DEAR & loaded("workspace_agent.consult")


@pytest.mark.parametrize(
    "name", ["click", "tomli", "tomllib", "json", "subprocess", "shutil", "logging", "ctypes"]
)
def test_a_boot_that_finds_all_done_loads_no(name: str) -> None:
    assert name not in loaded("workspace_agent.app.engine")


WARM = """
import sys
at, agent = sys.argv[1:]
sys.path.insert(0, agent)
from workspace_agent.app import plans, records
from workspace_agent.app.engine import open_boot
from workspace_agent.app.perform import Performance
environ = {"HOME": f"{at}/home", "PATH": "/nowhere", "WORKSPACE_VOLUME": f"{at}/volume",
           "WORKSPACE_AGENT_SYSTEM": "0"}
opening = open_boot(environ, {}, root=f"{at}/install", runtime=f"{at}/run", container=False)
performance = Performance(opening)
report, recipe = performance.all(), performance.recipe
records.write(opening.facts, opening.profile, report, recipe)
records.keep(opening.facts, opening.profile, report)
plans.stamp(opening.facts, report, recipe)
print(report.status, *sys.modules)
"""


def test_a_warm_boot_loads_nothing_that_only_writers_need(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "run").mkdir()
    argv = [sys.executable, "-I", "-S", "-c", WARM, str(tmp_path), str(ROOT)]
    cold, warm = (
        subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    )
    writers = {"_socket", "ctypes", "json", "threading", "uuid", "workspace_agent.host.safe_root"}

    assert (["ok"], ["ok"]) == (cold[:1], warm[:1])
    assert "workspace_agent.host.safe_root" in cold
    assert set() == writers & set(warm)


def test_root_help_loads_no_verb() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from workspace_agent.cli.main import cli;"
        " CliRunner().invoke(cli, ['--help']);"
        " print(*(n for n in sys.modules if n.startswith('workspace_agent.cli.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    expected = [f"workspace_agent.cli.{name}" for name in ("lazy", "main", "render")]

    assert expected == sorted(done.stdout.split())
