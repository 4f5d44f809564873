"""Packages on the volume: seen by Python, and never in front of its library."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.model.outcome import Ok, Skip, Todo
from workspace_agent.steps.python import PTH, PythonPath, shadow_problem, shadowed


def _tell(_: str) -> None: ...


@pytest.mark.parametrize(
    ("names", "hidden"),
    [
        ([], []),
        (["numpy", "torch", "bin", "six.py"], []),
        (["json", "typing.py", "enum.pyc", "_socket.so"], ["_socket", "enum", "json", "typing"]),
        (["math.cpython-311-x86_64-linux-gnu.so"], ["math"]),
        (["json-1.0.dist-info", "typing.md", "json.txt", "enum34-1.dist-info"], []),
        (["typing", "typing.py"], ["typing"]),
    ],
)
def test_what_a_folder_would_hide_of_the_library(names: list[str], hidden: list[str]) -> None:
    assert hidden == shadowed(names)


def test_a_folder_that_hides_the_library_is_told_by_name(root: Path, plant: Callable) -> None:
    plant(root / "bad", {"typing.py": "", "dataclasses.py": "", "numpy/": None})
    plant(root / "good", {"numpy/": None})
    problem = shadow_problem(str(root / "bad"))

    assert problem is not None
    assert ("python.shadows-stdlib", str(root / "bad")) == (problem.slug, problem.where)
    assert "dataclasses, typing" in problem.why
    assert [None, None] == [shadow_problem(str(root / n)) for n in ("good", "absent")]


def test_only_absolute_paths_stand_in_the_pth_file(root: Path) -> None:
    """`site` executes lines that begin with `import`."""
    folders = ["/a", "import os; os.system('x')", "relative", "/two\nimport os", "/b \udcff"]
    PythonPath(str(root / "site"), folders).apply(_tell)

    assert b"/a\n/b \xff\n" == (root / "site" / PTH).read_bytes()


def test_a_stale_line_is_replaced_and_other_files_stay(root: Path, plant: Callable) -> None:
    plant(root / "site", {PTH: "/old\n", "other.pth": "/x\n"})
    step = PythonPath(str(root / "site"), ["/new"])
    before = step.check()
    step.apply(_tell)

    assert Todo("the .pth line is missing or stale", ("/new",)) == before
    assert isinstance(step.check(), Ok)
    assert ("/new\n", "/x\n") == tuple((root / "site" / n).read_text() for n in (PTH, "other.pth"))


def test_without_a_python_that_we_know_it_is_skipped() -> None:
    assert isinstance(PythonPath("", ["/a"]).check(), Skip)


def test_a_site_folder_that_cannot_be_written_is_skipped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert isinstance(PythonPath(str(root / "a/b/site"), ["/a"]).check(), Skip)


@pytest.mark.parametrize("root", ["real"], indirect=True)
def test_a_real_python_finds_the_packages_after_its_own_library(
    root: Path, plant: Callable
) -> None:
    plant(root / "packages", {"mine.py": "X = 1", "typing.py": "raise SystemExit('shadowed')"})
    PythonPath(str(root / "site"), [str(root / "packages")]).apply(_tell)
    code = (
        f"import site; site.addsitedir({str(root / 'site')!r}); import typing, mine; print(mine.X)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)

    assert ("1\n", "") == (done.stdout, done.stderr)
