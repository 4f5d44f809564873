"""Packages that somebody installed, by the folders that describe them, on both disks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from workspace_agent.replay import offers
from workspace_agent.replay.capture import Look, look
from workspace_agent.replay.lines import Line

BOOT = 1_000 * 10**9

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def site(root: Path) -> Path:
    folder = root / "site-packages"
    folder.mkdir()
    return folder


def install(site: Path, name: str, version: str = "1.0", at: int = BOOT, **more: object) -> Path:
    """Lay a package as installers do; *more* are files of its description, None leaves one out."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (site / f"{name}.py").write_text("")
    content = {
        "INSTALLER": "uv",
        "METADATA": f"Name: {name}\nVersion: {version}\n",
        "RECORD": f"{name}.py,sha256=x,0\n__pycache__/{name}.pyc,,\n{info.name}/RECORD,,\n",
        **more,
    }
    for file, text in content.items():
        if text is not None:
            (info / file).write_text(str(text))
    os.utime(info, ns=(at, at))
    return info


def found(site: Path, root: Path, known: Mapping[str, str] | None = None,
          seen: Mapping[str, int] | None = None) -> Look:  # fmt: skip
    volume = os.path.realpath(root / "volume")
    return look(str(site), BOOT, known=known or {}, seen=seen or {}, volume=volume)


def pins(site: Path, root: Path) -> list[str]:
    return sorted(one.pin for one in found(site, root).fresh.values())


def from_url(**fields: object) -> str:
    return json.dumps(fields)


def test_what_is_older_than_the_boot_is_the_images(site: Path, root: Path) -> None:
    install(site, "old", at=BOOT - 1)
    install(site, "new")

    assert ["new==1.0"] == pins(site, root)


def test_what_the_files_asked_for_is_not_by_hand_unless_it_is_another_version(
    site: Path, root: Path
) -> None:
    install(site, "same")
    install(site, "other", "2.0")

    assert ["other"] == list(found(site, root, {"same": "1.0", "other": "1.0"}).fresh)


def test_what_was_seen_is_not_read_again(site: Path, root: Path) -> None:
    info = install(site, "a")
    first = found(site, root)
    (info / "RECORD").unlink()
    os.utime(info, ns=(BOOT, BOOT))
    again = found(site, root, seen=first.times)
    os.utime(info, ns=(BOOT + 1, BOOT + 1))
    changed = found(site, root, seen=first.times)

    assert ({"a": BOOT}, {}, ()) == (again.times, again.fresh, again.torn)
    assert ("a",) == changed.torn


def test_an_earlier_life_of_the_container_counts_where_it_was_seen(site: Path, root: Path) -> None:
    install(site, "a", at=BOOT - 5)

    assert {"a": BOOT - 5} == dict(found(site, root, seen={"a": BOOT - 5}).times)


TORN: dict[str, Callable[[Path], object]] = {
    "no list of its files": lambda site: (site / "a-1.0.dist-info/RECORD").unlink(),
    "an empty one": lambda site: (site / "a-1.0.dist-info/RECORD").write_text(""),
    "one that is a folder": lambda site: (
        (site / "a-1.0.dist-info/RECORD").unlink(),
        (site / "a-1.0.dist-info/RECORD").mkdir(),
    ),
    "a link": lambda site: (
        (site / "a-1.0.dist-info/RECORD").unlink(),
        (site / "a-1.0.dist-info/RECORD").symlink_to(site / "a.py"),
    ),
    "a file is missing": lambda site: (site / "a.py").unlink(),
    "a folder is missing": lambda site: (site / "a-1.0.dist-info/RECORD").write_text("b/c.py,,\n"),
    "no text": lambda site: (site / "a-1.0.dist-info/RECORD").write_bytes(b"\0\xff\n" * 9),
    "no end of a quote": lambda site: (site / "a-1.0.dist-info/RECORD").write_text(
        '"' + "x" * 200_000
    ),
}


@pytest.mark.parametrize("tear", TORN.values(), ids=TORN)
def test_an_install_that_is_not_whole_is_named_and_not_captured(
    tear: Callable[[Path], object], site: Path, root: Path
) -> None:
    info = install(site, "a")
    install(site, "b")
    tear(site)
    os.utime(info, ns=(BOOT, BOOT))
    here = found(site, root)

    assert (["b"], ["b"], ("a",)) == (list(here.fresh), list(here.times), here.torn)


def test_bytecode_may_be_missing_and_scripts_lie_elsewhere(site: Path, root: Path) -> None:
    (root / "bin").mkdir()
    (root / "bin/a").write_text("")
    install(site, "a", RECORD="a.py,,\n__pycache__/a.cpython-311.pyc,,\n../bin/a,,\n")

    assert ["a==1.0"] == pins(site, root)


def test_names_versions_and_needs_are_read_from_the_description(site: Path, root: Path) -> None:
    install(site, "Foo.Bar_baz", "1!2.0+cu128", INSTALLER="pip\n", REQUESTED="", METADATA=(
        "Metadata-Version: 2.1\r\nRequires-Dist: A_b (>=2) ; python_version < '4'\r\n"
        "Requires-Dist: c[x]>=1\r\nRequires-Dist: d ; extra == 'y'\r\n"
        "Requires-Dist: e; os_name=='z' and extra=='y'\r\n\r\nRequires-Dist: not-this\n"
    ))  # fmt: skip
    (one,) = found(site, root).fresh.values()

    assert ("foo-bar-baz>=1!2.0", "foo-bar-baz==1!2.0  # here 1!2.0+cu128") == (one.line, one.pin)
    assert (("a-b", "c"), ("d", "e"), True) == (one.needs, one.extras, one.asked)


@pytest.mark.parametrize(("installer", "asked"), [("pip", False), ("uv", None), ("x", None)])
def test_only_pip_says_what_it_was_asked_for(
    installer: str, asked: bool | None, site: Path, root: Path
) -> None:
    info = install(site, "a", INSTALLER=installer)
    if asked is None:
        (info / "REQUESTED").write_text("")
        os.utime(info, ns=(BOOT, BOOT))

    assert asked is found(site, root).fresh["a"].asked


def test_what_conda_installed_is_condas(site: Path, root: Path) -> None:
    install(site, "a", INSTALLER="conda")

    assert ({}, {}) == (found(site, root).fresh, found(site, root).times)


ORIGINS = {
    "a commit": (
        from_url(url="https://x:y@example.org/a.git",
                 vcs_info={"vcs": "git", "commit_id": COMMIT, "requested_revision": "main"}),
        f"a @ git+https://example.org/a.git@{COMMIT}"),
    "a folder of a repository": (
        from_url(url="ssh://git@example.org/a.git", subdirectory="py/a",
                 vcs_info={"vcs": "git", "commit_id": COMMIT}),
        f"a @ git+ssh://git@example.org/a.git@{COMMIT}#subdirectory=py/a"),
    "a token as user": (
        from_url(url="https://ghp_secret@example.org/a.git",
                 vcs_info={"vcs": "git", "commit_id": COMMIT}),
        f"a @ git+https://example.org/a.git@{COMMIT}"),
    "a token as password of git": (
        from_url(url="https://git:ghp_secret@example.org/a.git",
                 vcs_info={"vcs": "git", "commit_id": COMMIT}),
        f"a @ git+https://example.org/a.git@{COMMIT}"),
    "an archive": (
        from_url(url="https://example.org/a-1.0.whl?token=secret1", archive_info={}),
        "a @ https://example.org/a-1.0.whl?token="),
    "no commit": (from_url(url="https://example.org/a", vcs_info={"vcs": "git"}), ""),
    "another commit": (
        from_url(url="https://example.org/a", vcs_info={"vcs": "git", "commit_id": "-r x"}), ""),
    "another tool": (
        from_url(url="https://example.org/a", vcs_info={"vcs": "sh", "commit_id": COMMIT}), ""),
    "a line break": (from_url(url="https://example.org/a\n-r /etc/x", archive_info={}), ""),
    "a blank": (from_url(url="https://example.org/a --pre", archive_info={}), ""),
    "no text": ("\udcff{", ""),
    "not an object": ("[]", ""),
    "a deep one": ("[" * 100_000, ""),
    "no url": (from_url(url=5), ""),
    "a wheel off the volume": (from_url(url="file:///root/a-1.0.whl", archive_info={}), ""),
    "an editable off the volume": (from_url(url="file:///root/a", dir_info={"editable": True}), ""),
    "out of the volume": (from_url(url="file://{volume}/../a.whl", archive_info={}), ""),
    "a wheel": (
        from_url(url="file://{volume}/a%201.whl", archive_info={}), "a @ file://{volume}/a%201.whl"),
    "an editable": (
        from_url(url="file://{volume}/a", dir_info={"editable": True}), "-e {volume}/a"),
    "an editable with a blank": (
        from_url(url="file://{volume}/a%20b", dir_info={"editable": True}), ""),
    "a folder": (from_url(url="file://{volume}/a", dir_info={}), "a @ file://{volume}/a"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "pin"), ORIGINS.values(), ids=ORIGINS)
def test_where_a_package_came_from_is_kept_without_credentials(
    data: str, pin: str, site: Path, root: Path
) -> None:
    volume = os.path.realpath(root / "volume")
    info = install(site, "a")
    text = data.replace("{volume}", volume).encode("utf-8", "surrogateescape")
    (info / "direct_url.json").write_bytes(text)
    os.utime(info, ns=(BOOT, BOOT))
    (one,) = found(site, root).fresh.values()

    assert pin.replace("{volume}", volume) == one.pin
    assert one.line == (one.pin or "# a 1.0 is not on the volume")


@pytest.mark.parametrize(
    "name",
    [
        "a b-1.0.dist-info", "-r x-1.0.dist-info", "a;b-1.0.dist-info", "a\n-r x-1.0.dist-info",
        "a-1.0\n-r x.dist-info", "a-1.0 --pre.dist-info", "-1.0.dist-info", "a-.dist-info",
        "a-1.0 x.dist-info", "a-1.0\nx.dist-info", "a-1;x.dist-info", f"a-{'1' * 99}.dist-info",
        ".dist-info", "a.dist-info", "é-1.0.dist-info", f"{'x' * 200}-1.0.dist-info",
        "a-1.0.egg-info", "a-1.0.dist-info.bak", "~-1.0.dist-info",
    ],
)  # fmt: skip
def test_a_folder_that_is_named_like_no_package_is_none(name: str, site: Path, root: Path) -> None:
    info = site / name
    info.mkdir()
    (site / "a.py").write_text("")
    (info / "RECORD").write_text("a.py,,\n")
    os.utime(info, ns=(BOOT, BOOT))

    assert {} == found(site, root).fresh


def test_a_description_without_end_costs_only_the_knowledge_of_its_needs(
    site: Path, root: Path
) -> None:
    install(site, "a", METADATA="Requires-Dist: b\n" * 400_000)
    install(site, "c", METADATA="Requires-Dist: b\n" + "x" * 3_000_000)
    here = found(site, root)

    assert ((), ("b",)) == (here.fresh["a"].needs, here.fresh["c"].needs)


def test_every_pin_is_one_line_that_names_its_package(site: Path, root: Path) -> None:
    for name in ("a", "B.c", "d_e"):
        install(site, name, "1.0.post1+local.2")

    lines = [Line(pin.partition("  #")[0], "") for pin in pins(site, root)]
    assert ["a", "b-c", "d-e"] == [line.name for line in lines]


# Other installers


def test_what_other_installers_added_since_the_boot_is_named(root: Path, plant: Callable) -> None:
    plant(root, {
        "dpkg/old.list": "", "dpkg/htop.list": "", "dpkg/libx:amd64.list": "", "dpkg/htop.md5": "",
        "states": "Package: libx\nArchitecture: amd64\nAuto-Installed: 1\n",
        "conda/conda-meta/zlib-1.3-h1_0.json": "", "conda/conda-meta/history": "",
        "conda/lib/node_modules/typescript/": None, "conda/lib/node_modules/@a/b/": None,
        "conda/lib/node_modules/.bin/": None, "conda/lib/node_modules/npm/": None,
    })  # fmt: skip
    for folder, names, leaves in os.walk(str(root)):
        for name in [*names, *leaves]:
            when = BOOT - 1 if name in ("old.list", "npm") else BOOT
            os.utime(f"{folder}/{name}", ns=(when, when))
    where = (f"{root}/conda", f"{root}/dpkg", f"{root}/states", ())
    found, later = (offers.found(since, *where) for since in (BOOT, BOOT + 1))

    assert {"apt": {"htop"}, "npm": {"typescript", "@a/b"}, "conda": {"zlib"}} == found
    assert {"apt": set(), "npm": set(), "conda": set()} == later
