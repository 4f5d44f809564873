"""What stood outside the volume stands there again, or everything is as it was before."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from workspace_agent.checkpoint import carried, tar
from workspace_agent.checkpoint.journal import commit, undo
from workspace_agent.checkpoint.roots import Roots
from workspace_agent.checkpoint.unpack import Unpacked, unpack
from workspace_agent.host import safe_root
from workspace_agent.model.problem import AgentError

ODD = os.fsdecode(b"odd \n\xff\\name")
LONG = "long/" + "/".join(["x" * 200] * 3)
WHEN = 1_600_000_000_123_456_789


@pytest.fixture(params=["openat2", "by parts"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    if request.param == "by parts":
        monkeypatch.setattr(safe_root, "_call", [None])
    yield World(tmp_path)


class World:
    """An image, a container that has changed it, and a fresh one."""

    def __init__(self, at: Path) -> None:
        self.image, self.old, self.new = (at / name for name in ("image", "old", "new"))
        self.journal, self.archive = str(at / "journal"), str(at / "carried.tar")
        self.image.mkdir()

    def begin(self, image: Callable[[Path], None], change: Callable[[Path], None]) -> None:
        image(self.image)
        for top in (self.old, self.new):
            subprocess.run(["cp", "-a", self.image, top], check=True)
        change(self.old)

    def fresh(self) -> None:
        shutil.rmtree(self.new)
        subprocess.run(["cp", "-a", self.image, self.new], check=True)

    def pack(self, deleted: Iterable[str] | None = None) -> carried.Packed:
        gone = sorted(set(walk(self.image)) - set(walk(self.old))) if deleted is None else deleted
        gone = [one for one in gone if (self.old / one).parent.is_dir()]
        with Roots(str(self.old)) as roots, open(self.archive, "wb", buffering=0) as out:
            return carried.pack(walk(self.old), gone, roots, out.fileno())

    def unpack(self) -> Unpacked:
        with Roots(str(self.new)) as roots, open(self.archive, "rb", buffering=0) as source:
            return unpack(source.fileno(), roots, self.journal)

    def undo(self) -> list[str]:
        with Roots(str(self.new)) as roots:
            return undo(self.journal, roots)

    def commit(self) -> None:
        with Roots(str(self.new)) as roots:
            commit(self.journal, roots)


def walk(top: Path) -> list[str]:
    found = []
    for here, folders, names in os.walk(top):
        folders.sort()
        found += [os.path.relpath(f"{here}/{name}", top) for name in sorted([*folders, *names])]
    return sorted(found, key=lambda path: path.split("/"))


def state(top: Path) -> dict[str, object]:
    """Return all that can be known of a tree, but inode numbers and changes of those."""
    found: dict[str, object] = {}
    names: dict[int, list[str]] = {}
    for path in ["", *walk(top)]:
        at = f"{top}/{path}"
        info = os.lstat(at)
        content: object = b""
        if stat.S_ISREG(info.st_mode):
            content = Path(at).read_bytes()
            names.setdefault(info.st_ino, []).append(path)
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(at)
        xattrs = {n: os.getxattr(at, n, follow_symlinks=False)
                  for n in os.listxattr(at, follow_symlinks=False)}  # fmt: skip
        found[path] = (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, content, xattrs)
    found["links"] = sorted(one for one in names.values() if len(one) > 1)
    return found


def inside(top: Path) -> dict[str, object]:
    """Return the same without the top itself, which is not carried."""
    return {path: what for path, what in state(top).items() if path}


def an_image(top: Path) -> None:
    for name in ("etc", "usr/lib/gone/deep", "usr/share/doc", "kept"):
        (top / name).mkdir(parents=True)
    for name in ("etc/conf", "etc/same", "usr/lib/gone/deep/a", "usr/lib/gone/b", "usr/share/doc/x",
                 "kept/file", "becomes-folder", "becomes-link"):  # fmt: skip
        (top / name).write_text(f"image's {name}")
        os.utime(top / name, ns=(WHEN, WHEN))
    (top / "becomes-file").mkdir()
    (top / "becomes-file" / "inner").write_text("inner")
    (top / "link").symlink_to("etc/conf")
    for here, _, _ in os.walk(top, topdown=False):
        os.utime(here, ns=(WHEN, WHEN))


def changed_in_every_way(top: Path) -> None:
    (top / "new" / "in" / "folders").mkdir(parents=True)
    (top / "new" / "in" / "folders" / ODD).write_bytes(b"odd")
    (top / LONG).mkdir(parents=True)
    (top / LONG / ("y" * 250)).write_text("long")
    (top / "new" / "to-long").symlink_to("z" * 300)
    (top / "new" / "large").write_bytes(os.urandom(3 << 20))
    (top / "new" / "empty").touch()
    (top / "etc" / "conf").write_text("other, and longer than before")
    shutil.rmtree(top / "usr" / "lib" / "gone")
    (top / "usr" / "share" / "doc" / "x").unlink()
    (top / "becomes-folder").unlink()
    (top / "becomes-folder").mkdir()
    (top / "becomes-folder" / "x").write_text("x")
    (top / "becomes-link").unlink()
    (top / "becomes-link").symlink_to("kept")
    shutil.rmtree(top / "becomes-file")
    (top / "becomes-file").write_text("a file now")
    (top / "link").unlink()
    (top / "link").symlink_to("elsewhere")
    os.link(top / "new" / "large", top / "hard")
    os.link(top / "hard", top / "new" / "hard-too")
    os.mkfifo(top / "new" / "pipe", 0o640)
    (top / "new" / "program").write_bytes(b"#!")
    (top / "new" / "program").chmod(0o4755)
    os.chmod(top / "kept", 0o2701)
    os.setxattr(top / "new" / "empty", "user.colour", b"\0blue")
    os.setxattr(top / "kept", "user.of-folder", b"x" * 300)
    with open(top / "new" / "holes", "wb") as handle:
        handle.truncate(5 << 20)
        handle.seek(1 << 20)
        handle.write(b"data")
    with open(top / "new" / "only-hole", "wb") as handle:
        handle.truncate(1 << 20)
    if os.geteuid() == 0:
        os.chown(top / "new" / "empty", 1_000_680_000, 7)
        os.chown(top / "new" / "to-long", 5, 6, follow_symlinks=False)
    os.utime(top / "new" / "empty", ns=(WHEN, -1_500_000_000))
    os.utime(top / "new", ns=(WHEN, WHEN + 1))


def test_a_container_changed_in_every_way_is_there_again(world: World) -> None:
    world.begin(an_image, changed_in_every_way)
    packed = world.pack()
    done = world.unpack()

    assert ([], packed.files) == (packed.left, done.files + done.same)
    assert done.same >= 2, "what the image has is left alone"
    world.commit()
    assert inside(world.old) == inside(world.new)
    assert os.stat(world.new / "new/holes").st_blocks < 64
    assert not os.path.exists(world.journal)


def test_undone_everything_is_as_it_was(world: World) -> None:
    world.begin(an_image, changed_in_every_way)
    before = state(world.new)
    world.pack()
    world.unpack()

    assert before != state(world.new)
    assert [] == world.undo()
    assert before == state(world.new)
    assert [] == world.undo(), "and a second time"
    assert before == state(world.new)


def test_what_was_unpacked_can_be_packed_and_unpacked_again(world: World) -> None:
    world.begin(an_image, changed_in_every_way)
    world.pack()
    world.unpack()
    world.commit()
    shutil.rmtree(world.old)
    world.new.rename(world.old)
    expected = inside(world.old)
    shutil.copytree(world.image, world.new, symlinks=True)
    world.pack()
    world.unpack()
    world.commit()

    assert expected == inside(world.new)


def test_any_tar_reads_it(world: World) -> None:
    world.begin(an_image, changed_in_every_way)
    world.pack()
    top = world.new.parent / "other"
    top.mkdir()
    subprocess.run(["tar", "--xattrs", "-xpf", world.archive, "-C", top], check=True)
    for one in [*top.rglob(".wh.*")]:
        one.unlink()
    for here, _, _ in os.walk(world.old):
        os.utime(top / os.path.relpath(here, world.old), ns=(0, os.stat(here).st_mtime_ns))
    with tarfile.open(world.archive) as members:
        names = {one.name.rstrip("/") for one in members}
    packed, there = inside(world.old), inside(top)
    for path in packed:
        if path.endswith("new/empty"):  # a time before 1970
            continue
        assert packed[path] == there[path], path

    assert set(walk(world.old)) <= names
    assert {"usr/lib/.wh.gone", "usr/share/doc/.wh.x"} <= names


def test_sockets_and_devices_are_left_and_named(world: World) -> None:
    def change(top: Path) -> None:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(top / "socket"))

    world.begin(an_image, change)

    assert [("socket", "a socket")] == world.pack().left


def test_a_file_that_is_gone_is_named_and_the_rest_comes(world: World) -> None:
    world.begin(an_image, changed_in_every_way)
    with Roots(str(world.old)) as roots, open(world.archive, "wb", buffering=0) as out:
        packed = carried.pack(["gone", "kept", "kept/file"], [], roots, out.fileno())

    assert ["gone"] == [path for path, _ in packed.left]
    assert 1 == packed.files
    world.unpack()


def test_nothing_is_reached_through_a_link(world: World) -> None:
    outside = world.image.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    world.begin(an_image, lambda top: (top / "way").symlink_to(outside))
    with Roots(str(world.old)) as roots, open(world.archive, "wb", buffering=0) as out:
        packed = carried.pack(["way/secret", "../outside/secret"], [], roots, out.fileno())

    assert (0, 2) == (packed.files, len(packed.left))


def killing(world: World, killed: Callable, act: Callable[[], object], check: Callable[[], None]
            ) -> int:  # fmt: skip
    at = 0
    while True:
        at += 1
        world.fresh()
        for left in (world.journal, f"{world.journal}.kept"):
            Path(left).unlink(missing_ok=True)
        fate = killed(at, act)
        check()
        if not fate.struck:
            return at


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches, and the way of large files."""
    monkeypatch.setattr("workspace_agent.checkpoint.unpack._AT_ONCE", 5)


def test_killed_at_any_write_of_unpacking_all_can_be_undone(
    world: World, killed: Callable, small: None, record_property: Callable
) -> None:
    world.begin(an_image, changed_in_every_way)
    world.pack()
    before = state(world.image)

    def check() -> None:
        world.undo()
        assert before == state(world.new)

    points = killing(world, killed, world.unpack, check)
    record_property("kills while files were unpacked", points)
    assert points > 80


def test_killed_at_any_write_of_undoing_it_can_be_undone_again(
    world: World, killed: Callable, small: None, record_property: Callable
) -> None:
    world.begin(an_image, changed_in_every_way)
    world.pack()
    before = state(world.image)
    fates = []

    def check() -> None:
        world.unpack()
        fates.append(killed(len(fates) + 1, world.undo))
        world.undo()
        assert before == state(world.new)

    world.fresh()
    check()
    while fates[-1].struck:
        world.fresh()
        check()
    record_property("kills while it was undone", len(fates))
    assert len(fates) > 30


def test_killed_at_any_write_of_the_end_it_stays(
    world: World, killed: Callable, small: None
) -> None:
    world.begin(an_image, changed_in_every_way)
    world.pack()
    after = inside(world.old)

    at, struck = 0, True
    while struck:
        at += 1
        world.fresh()
        world.unpack()
        struck = killed(at, world.commit).struck
        if os.path.exists(world.journal):
            world.commit()
        world.undo()  # what the next boot does first
        assert after == inside(world.new)
    assert at > 5


def hostile(world: World, *members: tarfile.TarInfo, data: bytes = b"") -> None:
    """Write an archive that `pack` would not write."""
    with tarfile.open(world.archive, "w", format=tarfile.USTAR_FORMAT) as out:
        for one in members:
            one.size = len(data) if one.isreg() else 0
            out.addfile(one, io.BytesIO(data))


def info(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    one = tarfile.TarInfo(name)
    one.type, one.linkname = kind, to
    one.uid, one.gid = os.geteuid(), os.getegid()
    return one


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([info("../outside")], id="above"),
        pytest.param([info("kept/../../outside")], id="above, later"),
        pytest.param([info("/outside")], id="absolute"),
        pytest.param([info("kept//x")], id="no name"),
        pytest.param([info("kept/./x")], id="dot"),
        pytest.param([info("zero", tarfile.CHRTYPE)], id="device"),
        pytest.param([info("disk", tarfile.BLKTYPE)], id="disk"),
        pytest.param([info("x", tarfile.LNKTYPE, "../outside")], id="hard link to above"),
        pytest.param([info("x", tarfile.LNKTYPE, "/etc/passwd")], id="hard link to all"),
        pytest.param([info("way", tarfile.SYMTYPE, "/tmp"), info("way/x")], id="through its link"),
        pytest.param([info("link/x")], id="through a link"),
        pytest.param([info("x", tarfile.LNKTYPE, "link/x")], id="hard link through a link"),
        pytest.param([info("one"), info("one")], id="twice"),
        pytest.param([info("etc/conf/below")], id="below a file"),
        pytest.param([info("no/such/folder/x")], id="no folder"),
        pytest.param([info("x", tarfile.CONTTYPE)], id="a kind of old"),
        pytest.param([info("x", tarfile.GNUTYPE_SPARSE)], id="another's sparse"),
    ],
)
def test_what_is_hostile_is_refused_and_undone(world: World, members: list) -> None:
    world.begin(an_image, lambda _: None)
    outside = world.image.parent / "outside"
    good = [info("kept/new"), info("etc/conf"), info("kept/file")]
    hostile(world, *good, *members)
    before = state(world.new)

    with pytest.raises((AgentError, OSError)):
        world.unpack()
    assert [] == world.undo()
    assert before == state(world.new)
    assert not outside.exists()


def test_a_second_of_the_same_name_is_refused_also_when_the_first_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workspace_agent.checkpoint.unpack._AT_ONCE", 1)
    world.begin(an_image, lambda _: None)
    again = info("kept/new")
    again.mode = 0o600
    hostile(world, info("kept/new"), again)
    before = state(world.new)

    with pytest.raises(AgentError):
        world.unpack()
    assert [] == world.undo()
    assert before == state(world.new)


def test_cut_off_anywhere_it_is_refused_and_undone(world: World) -> None:
    world.begin(an_image, changed_in_every_way)
    world.pack(deleted=["etc/conf"])
    whole, before = Path(world.archive).read_bytes(), state(world.new)
    for cut in [*range(0, 20 << 9, 200), *range(20 << 9, len(whole) - 512, 150_000)]:
        Path(world.archive).write_bytes(whole[:cut])
        with pytest.raises(AgentError):
            world.unpack()
        assert [] == world.undo()
    assert before == state(world.new)


def test_a_damaged_header_is_refused_or_changes_nothing_else(world: World) -> None:
    """Every byte of one member's headers, damaged in turn."""
    world.begin(an_image, lambda top: (top / "x").write_text("x"))
    with Roots(str(world.old)) as roots, open(world.archive, "wb", buffering=0) as out:
        carried.pack(["x"], [], roots, out.fileno())
    whole, before, refused = Path(world.archive).read_bytes(), state(world.new), 0
    for at in range(3 * tar.BLOCK):
        Path(world.archive).write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        try:
            world.unpack()
        except (AgentError, OSError):
            refused += 1
        assert [] == world.undo()
    assert refused > 1000
    assert before == state(world.new)


def test_where_there_is_a_journal_nothing_is_unpacked(world: World) -> None:
    world.begin(an_image, changed_in_every_way)
    world.pack()
    world.unpack()

    with pytest.raises(FileExistsError):
        world.unpack()
    assert [] == world.undo()
