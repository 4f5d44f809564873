"""Who put a file there, by what the installers noted."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.real.agents import wait_until
from workspace_agent.watch.owners import Owners

SITE = "/usr/lib/python3.11/site-packages"


def put(root: Path, path: str, text: str = "x = 1\n") -> Path:
    at = root / path[1:]
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(text)
    return at


def record(root: Path, dist: str, *paths: str) -> None:
    lines = []
    for path in paths:
        at = Path(os.path.normpath(f"{root}{SITE}/{path}"))
        data = at.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}")
    put(root, f"{SITE}/{dist}/RECORD", "\n".join([*lines, f"{dist}/RECORD,,", ""]))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    put(tmp_path, f"{SITE}/demo/__init__.py")
    put(tmp_path, f"{SITE}/demo/core.py", "y = 2\n")
    put(tmp_path, f"{SITE}/single.py")
    put(tmp_path, "/usr/bin/demo", "#!/bin/sh\n")
    names = ("demo/__init__.py", "demo/core.py", "single.py", "../../../bin/demo")
    record(tmp_path, "demo-1.0.dist-info", *names)
    return tmp_path


def who(root: Path, path: str, since: int = 0) -> str:
    return Owners(since, str(root))(path, os.lstat(f"{root}{path}"))


@pytest.mark.parametrize(
    "path",
    [f"{SITE}/demo/__init__.py", f"{SITE}/single.py", f"{SITE}/demo-1.0.dist-info/RECORD",
     "/usr/bin/demo"],
)  # fmt: skip
def test_what_a_record_names_is_of_pip(world: Path, path: str) -> None:
    assert "pip" == who(world, path)


def test_a_file_beside_those_of_a_package_is_nobodys(world: Path) -> None:
    put(world, f"{SITE}/demo/mine.py")
    put(world, f"{SITE}/mine.py")
    put(world, "/usr/bin/mine")

    assert ["", "", ""] == [
        who(world, path) for path in (f"{SITE}/demo/mine.py", f"{SITE}/mine.py", "/usr/bin/mine")
    ]


@pytest.mark.parametrize("text", ["y = 3\n", "y = 2\nz = 3\n"])
def test_a_file_of_a_package_that_somebody_edited_is_edited(world: Path, text: str) -> None:
    put(world, f"{SITE}/demo/core.py", text)

    assert "edited" == who(world, f"{SITE}/demo/core.py")


def test_a_package_that_is_installed_later_is_seen(world: Path) -> None:
    owners = Owners(0, str(world))
    path = put(world, f"{SITE}/later/a.py")
    assert "" == owners(f"{SITE}/later/a.py", os.lstat(path))

    record(world, "later-1.dist-info", "later/a.py")

    assert "pip" == owners(f"{SITE}/later/a.py", os.lstat(path))


def test_what_dpkg_and_conda_list_is_theirs(world: Path) -> None:
    put(world, "/usr/bin/htop")
    put(world, "/var/lib/dpkg/info/htop.list", "/.\n/usr\n/usr/bin/htop\n")
    put(world, "/opt/conda/bin/tool")
    put(world, "/opt/conda/lib/mine.py")
    put(world, "/opt/conda/conda-meta/tool-1-0.json", json.dumps({"files": ["bin/tool"]}))

    assert "apt" == who(world, "/usr/bin/htop")
    assert "conda" == who(world, "/opt/conda/bin/tool")
    assert "" == who(world, "/opt/conda/lib/mine.py")


def test_what_a_person_writes_after_an_install_is_a_persons(world: Path) -> None:
    put(world, "/var/lib/dpkg/info/nginx.list", "/usr/sbin/nginx\n")
    put(world, "/etc/nginx/made.conf")
    end = put(world, "/var/lib/dpkg/status", "all\n")
    wait_until(lambda: put(world, "/etc/nginx/mine.conf").stat().st_mtime_ns
               > end.stat().st_mtime_ns, "the clock ticks")  # fmt: skip

    assert "hidden" == who(world, "/etc/nginx/made.conf")
    assert "" == who(world, "/etc/nginx/mine.conf")


def test_what_a_service_keeps_is_not_the_installers(world: Path) -> None:
    put(world, "/var/lib/mysql/ibdata1")

    assert "" == who(world, "/var/lib/mysql/ibdata1")


def test_a_list_of_millions_is_read_in_part(world: Path) -> None:
    put(world, f"{SITE}/odd/a.py")
    put(world, f"{SITE}/odd-1.dist-info/RECORD", "odd/b.py,,\n" * 100_000 + "odd/a.py,,\n")

    assert "" == who(world, f"{SITE}/odd/a.py")


def test_lists_from_before_the_start_are_the_images(world: Path) -> None:
    put(world, "/usr/bin/htop")
    at = put(world, "/var/lib/dpkg/info/htop.list", "/usr/bin/htop\n")

    assert "" == who(world, "/usr/bin/htop", since=os.lstat(at).st_ctime_ns + 1)


@pytest.mark.parametrize(
    "text", ["", ",", ",,", '"a,b",sha256=x,1\n', "\0,x,y\n", "../../../../etc/passwd,,\n" * 3]
)
def test_a_record_of_any_form_is_no_trouble(world: Path, text: str) -> None:
    put(world, f"{SITE}/odd/a.py")
    put(world, f"{SITE}/odd-1.dist-info/RECORD", text)

    assert "" == who(world, f"{SITE}/odd/a.py")
