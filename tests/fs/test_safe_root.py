"""Nothing below a safe root leads out of it: on the fake disk, and on the real one both ways."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workspace_agent.host import files, safe_root
from workspace_agent.host.openat2 import bound
from workspace_agent.host.safe_root import FOLDER, SafeRoot

OUT = (errno.ELOOP, errno.ENOTDIR, errno.EXDEV)

# Every operation, on a name whose way or end leads out.
ACTS: dict[str, Callable[[SafeRoot, str], object]] = {
    "open": lambda safe, below: os.close(safe.open(below, os.O_RDONLY)),
    "open to write": lambda safe, below: os.close(safe.open(below, os.O_WRONLY | os.O_CREAT)),
    "open as a folder": lambda safe, below: safe.open(below, FOLDER),
    "folder": lambda safe, below: safe.folder(below),
    "make folder": lambda safe, below: safe.folder(below, 0o755),
    "look": lambda safe, below: safe.look(below),
    "read": lambda safe, below: safe.read(below),
    "commit": lambda safe, below: safe.commit(below, "ours"),
    "create": lambda safe, below: safe.create(below, "ours"),
    "rename from": lambda safe, below: safe.rename(below, "here"),
    "rename to": lambda safe, below: safe.rename("own", below),
    "remove": lambda safe, below: safe.remove(below),
    "remove_tree": lambda safe, below: safe.remove_tree(below),
}
NEVER_RAISE = ("read", "remove", "remove_tree")

# How the way to `x` leads out of the root, one link at each depth.
WAYS = {
    "link/x": {"link": "."},
    "link/deep/x": {"link": "."},
    "a/link/x": {"a/link": "."},
    "a/b/link/x": {"a/b/link": "."},
    "a/b/link/deep/x": {"a/b/link": "."},
    "inner/x": {"inner": "a"},  # inside, but the next moment it may be elsewhere
    "../elsewhere/x": {},
    "a/../../elsewhere/x": {},
    "..": {},
    "a/..": {},
}


@pytest.fixture(params=["fake", "fallback", "openat2"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with `root` and `elsewhere` in it, for each way of opening names."""
    if request.param == "fake":
        request.getfixturevalue("fs")
        folder = Path("/twin")
    else:
        folder = request.getfixturevalue("tmp_path")
    call = bound() if request.param == "openat2" else None
    if request.param == "openat2" and call is None:
        pytest.skip("this kernel has no openat2")
    monkeypatch.setattr(safe_root, "_call", [call])
    (folder / "root/a/b").mkdir(parents=True)
    (folder / "elsewhere/deep").mkdir(parents=True)
    (folder / "elsewhere/x").write_text("precious")
    (folder / "elsewhere/deep/x").write_text("precious")
    (folder / "root/own").write_text("own")
    return folder


@pytest.fixture
def safe(place: Path) -> Iterator[SafeRoot]:
    with SafeRoot.at(str(place / "root")) as opened:
        yield opened


def lead(place: Path, links: dict[str, str]) -> None:
    for name, to in links.items():
        target = place / "elsewhere" if to == "." else place / "root" / to
        (place / "root" / name).symlink_to(target)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("below", [*WAYS, "/elsewhere/x"])
def test_no_way_leads_out(
    place: Path, safe: SafeRoot, tree: Callable, below: str, act: str
) -> None:
    lead(place, WAYS.get(below, {}))
    (place / "root/a/x").write_text("inside")
    below = f"{place}{below}" if below.startswith("/") else below
    before = tree(place)
    raised = None
    try:
        ACTS[act](safe, below)
    except OSError as error:
        raised = error.errno

    assert before == tree(place)
    assert (raised is None) == (act in NEVER_RAISE), raised
    assert raised in (None, *OUT)


@pytest.mark.parametrize("act", [name for name in ACTS if name.startswith(("open", "folder"))])
def test_a_link_at_the_end_is_not_opened(
    place: Path, safe: SafeRoot, tree: Callable, act: str
) -> None:
    (place / "root/file").symlink_to(place / "elsewhere/x")
    (place / "root/folder").symlink_to(place / "elsewhere")
    (place / "root/a/new").symlink_to(place / "elsewhere/new")
    before = tree(place)
    for below in ("file", "folder", "a/new"):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory") as raised:
            ACTS[act](safe, below)
        assert f"{place}/root/{below}" == raised.value.filename

    assert before == tree(place)


def test_a_link_at_the_end_is_replaced_renamed_and_removed_itself(
    place: Path, safe: SafeRoot, tree: Callable
) -> None:
    for name in ("committed", "renamed", "replaced", "removed", "felled"):
        (place / "root" / name).symlink_to(place / "elsewhere/x")
    before = tree(place / "elsewhere")
    safe.commit("committed", "ours")
    safe.rename("renamed", "a/b/link")
    safe.rename("own", "replaced")
    safe.remove("removed")
    safe.remove_tree("felled")

    assert before == tree(place / "elsewhere")
    assert {
        "a": "drwxr-xr-x",
        "a/b": "drwxr-xr-x",
        "a/b/link": f"-> {place}/elsewhere/x",
        "committed": (0o600, b"ours"),
        "replaced": (0o644, b"own"),
    } == tree(place / "root")


def test_a_link_at_the_end_is_looked_at_itself_and_not_read(place: Path, safe: SafeRoot) -> None:
    (place / "root/file").symlink_to(place / "elsewhere/x")
    found = safe.look("file")

    assert found is not None
    assert 0o120000 == found.st_mode & 0o170000
    assert safe.read("file") is None
    assert not safe.create("file", "ours")


@pytest.mark.parametrize(
    ("below", "blamed"),
    [
        ("link/x", "link"),
        ("a/link/deep/x", "a/link"),
        ("own/x", "own"),
        ("a/b/none/x", "a/b/none/x"),
    ],
)
def test_the_error_names_the_part_that_is_to_blame(
    place: Path, safe: SafeRoot, below: str, blamed: str
) -> None:
    lead(place, {"link": ".", "a/link": "."})
    with pytest.raises(OSError, match=r".") as raised:
        safe.open(below, os.O_RDONLY)

    assert f"{place}/root/{blamed}" == raised.value.filename


def test_folders_are_made_where_they_are_missing_and_kept_where_not(
    place: Path, safe: SafeRoot, tree: Callable
) -> None:
    with safe.folder("a/b/c/d", 0o700) as made, safe.folder("./a//b/c", 0o755) as found:
        assert f"{place}/root/a/b/c/d" == made.path
        assert ["d"] == found.names()

    assert "drwx------" == tree(place)["root/a/b/c/d"]
    assert "drwxr-xr-x" == tree(place)["root/a/b"]


def test_what_is_inside_can_be_used(place: Path, safe: SafeRoot) -> None:
    safe.commit("a/file", "one")
    safe.rename("a/file", "a/b/file")
    with safe.folder("a/b") as inner:
        safe.rename("own", "moved", inner)
        assert {"file", "moved"} == set(inner.names())

    assert (b"one", b"own", None) == (
        safe.read("a/b/file"),
        safe.read("a/b/moved"),
        safe.look("own"),
    )


def test_the_same_name_is_created_once(safe: SafeRoot) -> None:
    made = [safe.create("a/new", text, durable=True) for text in ("first", "second")]

    assert ([True, False], b"first") == (made, safe.read("a/new"))
    with safe.folder("a") as inner:
        assert {"b", "new"} == set(inner.names())


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_where_there_are_no_hard_links_the_same_name_is_created_once_too(
    safe: SafeRoot, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    made = [safe.create("a/new", text) for text in ("first", "second")]

    assert ([True, False], b"first") == (made, safe.read("a/new"))


def test_a_link_whose_answer_was_lost_is_known_as_ours(
    safe: SafeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def lost(*names: str, **more: object) -> None:
        link(*names, **more)
        raise FileExistsError(errno.EEXIST, "the server was asked twice")

    monkeypatch.setattr(os, "link", lost)

    assert safe.create("new", "ours")


def test_a_hard_link_to_a_foreign_file_leaves_that_alone(
    place: Path, safe: SafeRoot, tree: Callable
) -> None:
    foreign = place / "elsewhere/x"
    for name in ("one", "two", "three", "a/four", files.temporary_name("five")):
        os.link(foreign, place / "root" / name)
    safe.commit("one", "ours", 0o777)
    safe.commit("five", "ours", 0o777)
    safe.remove("two")
    safe.rename("own", "three")
    safe.remove_tree("a")

    assert (0o644, b"precious") == tree(place)["elsewhere/x"]


def test_a_tree_is_removed_and_not_what_its_links_lead_to(
    place: Path, safe: SafeRoot, tree: Callable
) -> None:
    for at in ("", "a/", "a/b/"):
        (place / f"root/{at}out").symlink_to(place / "elsewhere")
        (place / f"root/{at}up").symlink_to("..")
        (place / f"root/{at}file").symlink_to(place / "elsewhere/x")
    before = tree(place / "elsewhere")
    (place / "root/a/b").chmod(0o500)
    safe.remove_tree("a")

    assert before == tree(place / "elsewhere")
    assert {"file", "out", "own", "up"} == set(safe.names())


def test_what_cannot_be_removed_does_not_save_the_rest(
    place: Path, safe: SafeRoot, tree: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "stuck", "two"):
        (place / "root/a" / name).write_text("")
    unlink = os.unlink

    def stuck(name: str, **more: int) -> None:
        if name == "stuck":
            raise OSError(errno.EBUSY, "busy")
        unlink(name, **more)

    monkeypatch.setattr(os, "unlink", stuck)
    safe.remove_tree("a")

    assert {"a", "a/stuck", "own"} == set(tree(place / "root"))


def test_the_folder_itself_is_no_name_in_it(place: Path, safe: SafeRoot) -> None:
    for below in ("", ".", "a/.", "..", "a\0b"):
        safe.remove_tree(below)
        with pytest.raises(OSError, match="cross-device"):
            safe.rename(below, "b")

    assert {"a", "own"} == set(safe.names())


# From here on the real disk only: the fake has no FIFOs, mounts or /proc, and no kernel.


@pytest.fixture
def real(place: Path, request: pytest.FixtureRequest) -> SafeRoot:
    if place == Path("/twin"):
        pytest.skip("only a real disk has these")
    return request.getfixturevalue("safe")


def test_a_fifo_makes_nobody_wait(place: Path, real: SafeRoot) -> None:
    os.mkfifo(place / "root/fifo")
    os.mkfifo(place / "root/a/fifo")

    assert (None, None) == (real.read("fifo"), real.read("a/fifo"))
    os.close(real.open("fifo", os.O_RDONLY))
    with pytest.raises(OSError, match="No such device"):
        real.open("a/fifo", os.O_WRONLY)
    with pytest.raises(NotADirectoryError):
        real.folder("fifo/x", 0o755)
    real.commit("fifo", "ours")
    real.remove_tree("a")

    assert (b"ours", ["fifo", "own"]) == (real.read("fifo"), sorted(real.names()))


def test_a_magic_link_is_not_followed(place: Path, real: SafeRoot) -> None:
    kept = os.open(place / "elsewhere", os.O_RDONLY)
    with SafeRoot.at("/proc/self") as process:
        for below in (f"fd/{kept}", "cwd", "root", f"fd/{kept}/x", "cwd/x", "root/etc"):
            with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
                process.open(below, os.O_RDONLY)
    os.close(kept)


def test_another_file_system_is_not_entered(
    place: Path, real: SafeRoot, mounted: Callable, tree: Callable
) -> None:
    inside = mounted("root/a/b", "-t", "tmpfs", "-o", "size=64k", "tmpfs")
    (inside / "x").write_text("precious")
    (inside / "deep").mkdir()
    before = tree(inside)
    for act in ("make folder", "look", "commit", "create", "rename from", "rename to"):
        with pytest.raises(OSError, match="cross-device") as raised:
            ACTS[act](real, "a/b/x")
        assert str(inside) == raised.value.filename
    for act in NEVER_RAISE:
        ACTS[act](real, "a/b/x")
    real.remove_tree("a")

    assert before == tree(inside)


def test_another_mount_of_the_same_file_system_is_not_entered(
    place: Path, real: SafeRoot, mounted: Callable, tree: Callable
) -> None:
    if safe_root._call == [None]:
        pytest.skip("without openat2 such a mount cannot be told from a folder")
    mounted("root/a/b", "--bind", str(place / "elsewhere"))
    before = tree(place / "elsewhere")
    for below in ("a/b/x", "a/b/deep/x"):
        with pytest.raises(OSError, match="cross-device"):
            real.commit(below, "ours")
    real.remove_tree("a")

    assert before == tree(place / "elsewhere")


def test_a_tree_of_any_depth_is_removed(place: Path, real: SafeRoot) -> None:
    inner = os.open(place / "root/a", FOLDER)
    for _ in range(1100):
        os.mkdir("d", dir_fd=inner)
        deeper = os.open("d", FOLDER, dir_fd=inner)
        os.close(inner)
        inner = deeper
    os.close(inner)
    open_before = len(os.listdir("/proc/self/fd"))
    real.remove_tree("a")
    open_after = len(os.listdir("/proc/self/fd"))
    left = real.names()
    subprocess.run(["rm", "-rf", str(place)], check=True)  # pytest goes no deeper than Python

    assert (open_before, ["own"]) == (open_after, left)


def test_nothing_stays_open(place: Path, real: SafeRoot) -> None:
    lead(place, {"link": "."})
    (place / "root/file").write_text("")
    before = sorted(os.listdir("/proc/self/fd"))
    for below in ("a/b/new", "link/x", "file/x", "none/none", "..", ""):
        for act, do in ACTS.items():
            if not act.startswith("open") and "folder" not in act:
                try:
                    do(real, below)
                except OSError:
                    continue
    for below in ("link/x", "file/x", ".."):
        with pytest.raises(OSError, match=r"."):
            real.folder(below, 0o755)

    assert before == sorted(os.listdir("/proc/self/fd"))


@pytest.fixture
def mounted(place: Path) -> Iterator[Callable[..., Path]]:
    """Return `mounted(name, *words)`, which mounts there what *words* say until the test ends."""
    done = []

    def mount(name: str, *words: str) -> Path:
        at = place / name
        argv = ["mount", *words, str(at)]
        if subprocess.run(argv, check=False, capture_output=True).returncode:
            pytest.skip("mounting needs root and CAP_SYS_ADMIN")
        done.append(at)
        return at

    yield mount
    for at in done:
        subprocess.run(["umount", str(at)], check=True)
