"""The scan of a layer: what it finds, what it passes over, what it cannot read."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from workspace_agent.host import safe_root
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.watch import layer as layers
from workspace_agent.watch.classify import Classifier
from workspace_agent.watch.inventory import Inventory
from workspace_agent.watch.layer import Layer
from workspace_agent.watch.scan import Scan


@pytest.fixture(params=["openat2", "by parts"], autouse=True)
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with the kernel's own way to stay below a folder, and with ours."""
    if request.param == "by parts":
        monkeypatch.setattr(safe_root, "_call", [None])


class World:
    """A folder that stands for a container's root; `born` is when its layer was made."""

    def __init__(self, top: Path) -> None:
        self.top = top
        (top / "image/deep").mkdir(parents=True)
        (top / "image/deep/file").write_text("image")
        self.born = self._tick(top)
        self.passed: set[str] = set()
        self.seen: list[str] = []
        self.listed: list[str] = []

    @staticmethod
    def _tick(top: Path) -> int:
        """Return a time that all that was made before is older than."""
        newest = max(os.lstat(path).st_ctime_ns for path in (top, *top.rglob("*")))
        until = time.monotonic() + 30
        while (now := layers.now_ns()) <= newest:
            assert time.monotonic() < until
        return now

    def layer(self, *, pruned: bool = True) -> Layer:
        return Layer("exact", self.born, self.born, pruned)

    def scan(self, *, pruned: bool = True, tops: Iterable[str] = ("",)) -> Scan:
        self.seen, self.listed = [], []

        def visit(path: str, _: object, found: list, below: list) -> None:
            self.listed.append(path)
            self.seen += [f"{path}/{name}" for name, _ in found]

        with SafeRoot.at(str(self.top)) as root:
            scan = Scan(root, self.layer(pruned=pruned), self.passed, visit)
            scan.run(tops)
        return scan


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_new_is_found_by_listing_one_folder(world: World) -> None:
    scan = world.scan()

    assert [""] == world.listed
    assert [] == world.seen
    assert 1 == scan.listed


def test_what_was_made_or_changed_is_found_and_nothing_else(world: World) -> None:
    (world.top / "new/deep").mkdir(parents=True)
    (world.top / "new/deep/file").write_text("x")
    os.utime(world.top / "new/deep/file", (0, 0))
    (world.top / "new/link").symlink_to("/etc")
    os.mkfifo(world.top / "new/fifo")
    (world.top / "image").chmod(0o700)  # as an overlay copies up what is above a change
    (world.top / "image/other").write_text("x")

    world.scan()

    assert {"/new/deep/file", "/new/link", "/new/fifo", "/image/other"} == set(world.seen)
    assert "/image/deep" not in world.listed


def test_without_pruning_every_folder_is_read(world: World) -> None:
    world.scan(pruned=False)

    assert {"", "/image", "/image/deep"} == set(world.listed)
    assert [] == world.seen


def test_names_of_any_bytes_and_paths_of_any_length_are_found(world: World) -> None:
    names = [b"new\nline", b"\xff\xfe", b"e\x1b[31m", b"x" * 255]
    for name in names:
        os.close(os.open(os.path.join(os.fsencode(world.top), name), os.O_CREAT | os.O_WRONLY))
    fd = os.open(world.top, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("end", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)

    world.scan()

    deep = "/" + "/".join(["d" * 200] * 30) + "/end"
    assert {deep, *(f"/{os.fsdecode(name)}" for name in names)} == set(world.seen)


def test_a_folder_is_opened_from_the_one_it_is_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a tree of 5,000 folders in each other costs seconds at every look."""
    (world.top / "a/b/c/d").mkdir(parents=True)
    opened: list[str] = []
    real = SafeRoot.open

    def watched(self: SafeRoot, below: str, *more: int) -> int:
        opened.append(below)
        return real(self, below, *more)

    monkeypatch.setattr(SafeRoot, "open", watched)
    world.scan()

    assert ["", "a", "b", "c", "d"] == opened


def test_what_is_passed_over_is_not_looked_at(world: World) -> None:
    for name in ("own", "other"):
        (world.top / name).mkdir()
        (world.top / name / "file").write_text("x")
    (world.top / "other/mounted").write_text("x")
    world.passed = {"/own", "/other/mounted"}

    world.scan()

    assert ["/other/file"] == world.seen


def test_no_link_is_followed(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_text("x")
    (world.top / "link").symlink_to(outside)

    world.scan(tops=["/link"])

    assert [] == world.seen


def test_a_folder_that_is_gone_is_no_trouble(world: World) -> None:
    scan = world.scan(tops=["/never/was"])

    assert 0 == scan.listed
    assert 0 == scan.unreadable


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_may_not_be_read_is_counted(world: World) -> None:
    (world.top / "private").mkdir(0o700)
    for above in (world.top, *world.top.parents):
        if above != Path("/tmp"):
            above.chmod(above.stat().st_mode | 0o055)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.setuid(65534)
        os.write(writer, b"%d" % world.scan().unreadable)
        os._exit(0)
    os.waitpid(child, 0)

    assert b"1" == os.read(reader, 10)


def inventory(world: World, took: list) -> Inventory:
    return Inventory(world.layer(), Classifier({"/root"}), took.append)


def whole(world: World, into: Inventory) -> None:
    with SafeRoot.at(str(world.top)) as root:
        into.begin()
        Scan(root, into.layer, world.passed, into.visit).run()
        into.end()


def test_an_inventory_sums_kinds_and_forgets_what_is_gone(world: World) -> None:
    took: list = []
    found = inventory(world, took)
    (world.top / "a").mkdir()
    (world.top / "a/x.py").write_text("x")
    (world.top / "a/y.ipynb").write_text("x")
    whole(world, found)
    assert {"code": 1, "notebooks": 1} == {k: one[0] for k, one in found.sums.items()}
    assert {"/a/x.py", "/a/y.ipynb"} == {one.path for one in took}

    (world.top / "a/x.py").unlink()
    (world.top / "a/y.ipynb").unlink()
    (world.top / "a").rmdir()
    whole(world, found)

    assert {0} == {count for count, _ in found.sums.values()}
    assert "/a" not in found.folders


def test_only_what_is_new_since_the_last_look_is_told_again(world: World) -> None:
    took: list = []
    found = inventory(world, took)
    (world.top / "old.py").write_text("x")
    whole(world, found)
    found.fresh = world._tick(world.top)
    took.clear()
    (world.top / "new.py").write_text("x")

    whole(world, found)

    assert ["/new.py"] == [one.path for one in took]
    assert 2 == found.sums["code"][0]


def test_a_folder_of_very_many_files_is_told_of_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million results of stat at once are 800 MB."""
    monkeypatch.setattr("workspace_agent.watch.scan._PART", 2)
    took: list = []
    found = inventory(world, took)
    for n in range(5):
        (world.top / f"{n}.py").write_text("x")
    parts: list = []
    with SafeRoot.at(str(world.top)) as root:
        Scan(root, found.layer, (), lambda *given: parts.append(len(given[2]))).run()

    for _ in range(2):
        whole(world, found)

        assert 5 == found.sums["code"][0]
    assert 10 == len(took)
    assert max(parts) <= 2


def test_one_folder_can_be_looked_at_again(world: World) -> None:
    found = inventory(world, [])
    (world.top / "a").mkdir()
    (world.top / "b").mkdir()
    whole(world, found)
    (world.top / "a/new").mkdir()
    (world.top / "a/new/x.py").write_text("x")
    (world.top / "b/y.py").write_text("x")

    with SafeRoot.at(str(world.top)) as root:
        Scan(root, found.layer, (), found.visit).look(["/a"], found.folders)

    assert 1 == found.sums["code"][0]
    assert "/a/new" in found.folders


def test_what_the_boot_wrote_before_the_start_is_not_told(world: World) -> None:
    took: list = []
    (world.top / "setup.py").write_text("by a setup script")
    since = world._tick(world.top)
    found = Inventory(Layer("exact", world.born, since), Classifier(), took.append)
    (world.top / "train.py").write_text("x")

    whole(world, found)

    assert ["/train.py"] == [one.path for one in took]
    assert found.used >= 8192, "what it takes on the disk counts all the same"


def test_a_socket_is_hidden(world: World) -> None:
    found = inventory(world, [])
    here = os.getcwd()
    os.chdir(world.top)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s")
    finally:
        os.chdir(here)

    whole(world, found)

    assert {"hidden": 1} == {kind: one[0] for kind, one in found.sums.items()}
