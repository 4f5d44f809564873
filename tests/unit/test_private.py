"""The agent's own environment: whole or not used."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.app import private
from workspace_agent.host.command import Finished

ROOT = Path(__file__).parents[2]

PYPROJECT = """\
[project]
dependencies = [
    "click>=8.1",
    # a comment
    "tomli>=2.5",
]
other = ["no"]
"""


class Installer:
    """Stands for subprocesses: makes what venv and pip would, or ends as told."""

    def __init__(self) -> None:
        self.argvs: list[list[str]] = []
        self.envs: list[dict[str, str]] = []
        self.codes: dict[str, int] = {}
        self.tail = ""

    def __call__(self, argv: list[str], *, env: dict[str, str], **_: object) -> Finished:
        self.argvs.append(list(argv))
        self.envs.append(dict(env))
        kind = "venv" if "venv" in argv else "install"
        if kind == "venv" and not self.codes.get(kind):
            version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
            Path(argv[-1], "lib", version, "site-packages").mkdir(parents=True)
            Path(argv[-1], "bin").mkdir()
            Path(argv[-1], "bin/python").symlink_to(sys.executable)
        return Finished(self.codes.get(kind, 0), 0.1, self.tail)


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> Installer:
    found = Installer()
    monkeypatch.setattr(private.command, "run", found)
    return found


@pytest.fixture
def install(tmp_path: Path, plant: Callable) -> str:
    plant(tmp_path, {"root/pyproject.toml": PYPROJECT, "run/": None})
    return str(tmp_path / "root")


def make(install: str, tmp_path: Path) -> object:
    return private.make(install, str(tmp_path / "run"), lambda _: None)


def state(tmp_path: Path) -> dict[str, object]:
    return json.loads((tmp_path / "run/private.json").read_text())


def test_the_dependencies_are_those_of_the_project() -> None:
    names = {one.split(">")[0] for one in private.requirements(str(ROOT))}

    assert {"click", "packaging", "psutil", "tomli", "watchdog"} == names


def test_only_the_list_of_dependencies_is_read(install: str) -> None:
    assert ["click>=8.1", "tomli>=2.5"] == private.requirements(install)


def test_an_environment_that_was_made_is_whole(
    install: str, installer: Installer, tmp_path: Path
) -> None:
    problem = make(install, tmp_path)

    assert problem is None
    assert private.is_whole(install)
    assert ("ready", "") == (state(tmp_path)["phase"], state(tmp_path)["why"])
    assert "--without-pip" in installer.argvs[0]
    assert ["click>=8.1", "tomli>=2.5"] == installer.argvs[1][-2:]


def test_a_whole_one_is_not_made_again(install: str, installer: Installer, tmp_path: Path) -> None:
    make(install, tmp_path)
    before = len(installer.argvs)
    make(install, tmp_path)

    assert before == len(installer.argvs)


@pytest.mark.parametrize("change", ["dependency", "version", "marker"])
def test_one_that_was_made_for_something_else_is_not_whole(
    change: str, install: str, installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(install, tmp_path)
    if change == "dependency":
        Path(install, "pyproject.toml").write_text(PYPROJECT.replace("2.5", "2.6"))
    elif change == "version":
        monkeypatch.setattr(private, "__version__", "99.9")
    else:
        Path(install, "venv/complete").write_text("")

    assert not private.is_whole(install)


def test_the_marker_goes_first_and_comes_last(
    install: str, installer: Installer, tmp_path: Path
) -> None:
    make(install, tmp_path)
    Path(install, "pyproject.toml").write_text(PYPROJECT.replace("2.5", "2.6"))
    installer.codes = {"install": 1}
    installer.tail = "noise\nno route to host"
    problem = make(install, tmp_path)

    assert problem is not None
    assert "agent.no-private-environment" == problem.slug
    assert "no route to host" in problem.why
    assert not os.path.exists(f"{install}/venv/complete")
    assert "failed" == state(tmp_path)["phase"]


def test_without_venv_the_remedy_is_named(
    install: str, installer: Installer, tmp_path: Path
) -> None:
    installer.codes = {"venv": 1}
    problem = make(install, tmp_path)

    assert problem is not None
    assert "apt-get install python3-venv" == problem.fix


def test_the_users_own_settings_do_not_reach_the_installer(
    install: str, installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_TARGET", "PYTHONPATH", "PYTHONHOME", "PIP_USER"):
        monkeypatch.setenv(name, "/poison")
    make(install, tmp_path)

    assert [] == [env for env in installer.envs if "/poison" in env.values()]


def test_a_root_that_cannot_be_written_is_told(installer: Installer, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    problem = private.make(str(tmp_path / "root"), "", lambda _: None)

    assert problem is not None
    assert "agent.no-private-environment" == problem.slug


def test_the_command_is_isolated_from_its_caller() -> None:
    assert '#!/bin/sh\nexec "/opt/x/venv/bin/python" -I -m workspace_agent "$@"\n' == (
        private.launcher("/opt/x")
    )
