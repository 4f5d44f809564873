from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from workspace_agent.host import interpreter

MACHINE = os.uname().machine
OWN = f"cp{sys.version_info[0]}{sys.version_info[1]}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def installed(prefix: Path, version: str) -> None:
    executable(prefix / f"bin/python{version}")
    (prefix / "bin/python3").symlink_to(f"python{version}")
    (prefix / f"lib/python{version}/site-packages").mkdir(parents=True)


def environment(folder: Path, base: Path, cfg: str, version: str) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python3").symlink_to(base)
    (folder / f"lib/python{version}/site-packages").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(cfg)


def found(path: str, root: Path) -> tuple[str, str, str]:
    """Return what was found: paths without *root*, the abi without the machine."""
    one = interpreter.find(path, str(root))
    return (
        one.executable.removeprefix(str(root)),
        one.site.removeprefix(str(root)),
        one.abi.partition(f"-{MACHINE}")[0],
    )


def test_debians_python_reads_the_local_packages(root: Path) -> None:
    installed(root / "usr", "3.11")
    (root / "usr/lib/python3/dist-packages").mkdir(parents=True)
    expected = ("/usr/bin/python3", "/usr/local/lib/python3.11/dist-packages", "cp311")

    assert expected == found("/usr/bin", root)


def test_another_python_under_usr_reads_its_site_packages(root: Path) -> None:
    installed(root / "usr", "3.12")
    expected = ("/usr/bin/python3", "/usr/lib/python3.12/site-packages", "cp312")

    assert expected == found("/usr/bin", root)


def test_an_images_own_python_under_local_is_not_debians(root: Path) -> None:
    installed(root / "usr/local", "3.13")
    installed(root / "usr", "3.11")
    (root / "usr/lib/python3/dist-packages").mkdir(parents=True)
    expected = ("/usr/local/bin/python3", "/usr/local/lib/python3.13/site-packages", "cp313")

    assert expected == found("/usr/local/bin:/usr/bin", root)


def test_a_conda_prefix_has_its_own_packages(root: Path) -> None:
    installed(root / "opt/conda", "3.10")
    expected = ("/opt/conda/bin/python3", "/opt/conda/lib/python3.10/site-packages", "cp310")

    assert expected == found("/opt/conda/bin", root)


@pytest.mark.parametrize(
    "cfg",
    [
        "home = /usr/bin\nversion = 3.11.7\n",
        "home = /usr/bin\nversion_info = 3.11.7.final.0\n",
        "home=/usr/bin\nversion=3.11\n",
    ],
    ids=["venv", "virtualenv", "without spaces"],
)
def test_a_venv_goes_before_the_python_that_it_links_to(root: Path, cfg: str) -> None:
    installed(root / "usr", "3.11")
    environment(root / "venv", root / "usr/bin/python3", cfg, "3.11")
    expected = ("/venv/bin/python3", "/venv/lib/python3.11/site-packages", "cp311")

    assert expected == found("/venv/bin:/usr/bin", root)


def test_a_venv_file_without_a_version_is_judged_by_its_link(root: Path) -> None:
    installed(root / "usr", "3.11")
    environment(root / "venv", root / "usr/bin/python3", "home = /usr/bin\n", "3.11")

    assert ("/venv/bin/python3", "/usr/lib/python3.11/site-packages", "cp311") == found(
        "/venv/bin", root
    )


def test_a_shim_is_not_guessed_about(root: Path) -> None:
    executable(root / "root/.pyenv/shims/python3")
    expected = ("/root/.pyenv/shims/python3", "", OWN)

    assert expected == found("/root/.pyenv/shims:/usr/bin", root)


def test_without_a_python_names_on_the_volume_are_still_stable(root: Path) -> None:
    assert ("", "", OWN) == found("/usr/bin:/bin", root)


def test_a_free_threaded_python_has_packages_of_its_own(root: Path) -> None:
    installed(root / "usr/local", "3.13t")

    assert "cp313t" == found("/usr/local/bin", root)[2]


def test_a_site_folder_that_is_not_there_is_not_named(root: Path) -> None:
    executable(root / "opt/odd/bin/python3.12")
    (root / "opt/odd/bin/python3").symlink_to("python3.12")

    assert ("/opt/odd/bin/python3", "", "cp312") == found("/opt/odd/bin", root)


def test_the_first_python_that_can_be_executed_counts(root: Path) -> None:
    executable(root / "a/python3").chmod(0o644)
    (root / "b/python3").mkdir(parents=True)
    installed(root / "usr", "3.12")

    assert "/usr/bin/python3" == found("/a::/b:/nowhere:/usr/bin", root)[0]


def test_the_key_of_packages_names_version_and_machine() -> None:
    assert f"cp313-{MACHINE}" == interpreter.abi("3.13").removesuffix("-musl")
