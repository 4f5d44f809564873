"""Whatever the user's Python is told, ours does not hear it; the workload does, word for word."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# What a boot imports, and what an interpreter imports by itself.
MODULES = (
    "os", "sys", "json", "signal", "subprocess", "errno", "fcntl", "marshal", "select", "stat",
    "shutil", "dataclasses", "typing", "time", "re", "enum", "codecs", "encodings", "site",
    "sitecustomize", "usercustomize", "workspace_agent", "tomli", "contextlib", "hashlib",
)  # fmt: skip

VARIABLES = [
    {"PYTHONHOME": "/nowhere"},
    {"PYTHONSTARTUP": "{poison}/os.py"},
    {"PYTHONPLATLIBDIR": "nolib"},
    {"PYTHONUSERBASE": "{poison}", "PYTHONNOUSERSITE": ""},
    {"PYTHONINSPECT": "1", "PYTHONVERBOSE": "1", "PYTHONDEBUG": "3"},
    {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONDEVMODE": "1"},
    {"PYTHONIOENCODING": "no-such-codec", "PYTHONUTF8": "2", "PYTHONHASHSEED": "soon"},
    {"PYTHONMALLOC": "none", "PYTHONPYCACHEPREFIX": "/proc", "PYTHONCASEOK": "1"},
    {"PYTHONEXECUTABLE": "/nowhere", "PYTHONBREAKPOINT": "os.abort", "PYTHONCOERCECLOCALE": "warn"},
    {"VIRTUAL_ENV": "{poison}", "CONDA_PREFIX": "{poison}", "PIP_TARGET": "{poison}"},
]


@pytest.fixture
def poison(tmp_path: Path) -> Path:
    """Return a folder of modules that leave a file called `bitten` when one of them is loaded."""
    folder = tmp_path / "poison"
    folder.mkdir()
    for name in MODULES:
        bite(folder / f"{name}.py", folder)
    return folder


def bite(path: Path, poison: Path, line: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"import io; io.open({str(poison / 'bitten')!r}, 'w').close(){line}\n")


def assert_calm(running, poison: Path) -> None:
    code = running.wait()
    calm = (0, 1, 1, False)

    assert calm == (
        code,
        running.err.count("workspace ready in"),
        len([line for line in running.err.splitlines() if ": working: " not in line]),
        (poison / "bitten").exists(),
    ), running.err


def variables(running) -> dict[str, str]:
    return dict(line.split("=", 1) for line in running.out.splitlines())


@pytest.fixture(params=["checkout", "copy"])
def start(request: pytest.FixtureRequest, agent):
    """Start an agent with its private environment, if it was made, and one without."""
    if request.param == "checkout":
        return agent
    install = request.getfixturevalue("install")
    return lambda *argv, **more: agent(*argv, entrypoint=f"{install}/entrypoint.sh", **more)


def test_a_poisoned_pythonpath_is_the_workloads_alone(start, place, poison: Path) -> None:
    running = start("env", env=place.environ(PYTHONPATH=str(poison)))
    assert_calm(running, poison)
    ours, *rest = variables(running)["PYTHONPATH"].split(":")

    assert ours.startswith(f"{place.volume}/pip-packages/cp")
    assert [str(poison)] == rest


@pytest.mark.parametrize("given", VARIABLES, ids=lambda given: next(iter(given)))
def test_a_variable_of_pythons_is_the_workloads_alone(start, place, poison: Path, given) -> None:
    given = {name: value.format(poison=poison) for name, value in given.items()}
    running = start("env", env=place.environ(**given))
    assert_calm(running, poison)
    got = variables(running)

    assert given == {name: got.get(name) for name in given}


def test_modules_in_the_working_folder_are_not_ours(start, poison: Path) -> None:
    assert_calm(start("true", cwd=poison), poison)


@pytest.mark.parametrize(
    "version", [f"{sys.version_info[0]}.{sys.version_info[1]}", "3.11", "3.13"]
)
def test_a_users_packages_are_not_ours(start, place, poison: Path, version: str) -> None:
    site = place.home / f".local/lib/python{version}/site-packages"
    bite(site / "evil.pth", poison, "; import no_such_module")
    bite(site / "usercustomize.py", poison)

    assert_calm(start("true"), poison)


def test_packages_on_the_volume_are_not_ours(start, place, poison: Path) -> None:
    assert_calm(start("true"), poison)
    folder = next((place.volume / "pip-packages").iterdir())
    for name in MODULES:
        bite(folder / f"{name}.py", poison)
    running = start("env")

    assert 0 == running.wait()
    assert "(python.shadows-stdlib)" in running.err
    assert (False, False) == ((poison / "bitten").exists(), "PYTHONPATH" in variables(running))


@pytest.mark.parametrize("name", ["python3", "python3.12", "readlink"])
def test_a_command_on_the_volume_does_not_run_as_us(start, place, poison: Path, name: str) -> None:
    fake = place.volume / "bin" / name
    fake.parent.mkdir(parents=True)
    fake.write_text(f"#!/bin/sh\n: > {poison}/bitten\nexit 0\n")
    fake.chmod(0o755)
    env = place.environ(PATH=f"{place.volume}/bin:{os.environ['PATH']}")

    assert_calm(start("true", env=env), poison)


def test_the_poison_bites_whoever_takes_it(agent, place, poison: Path) -> None:
    env = place.environ(PYTHONPATH=str(poison))
    agent("sh", "-c", f"{sys.executable} -c 'import json' 2>/dev/null; true", env=env).wait()

    assert (poison / "bitten").exists()
