"""What a copy keeps, what it leaves out and lists, and what it never does."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from workspace_agent.host import copy, safe_root, walk
from workspace_agent.host.copy import Copied, copy_tree, in_turn
from workspace_agent.host.safe_root import SafeRoot

OLD = 1_500_000_000_123_456_789

# Three ways to the same copy: alone, with threads, and where the kernel has no openat2.
WAYS = {"alone": 1, "threads": 8, "parts": 1}


@pytest.fixture(params=WAYS)
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    if request.param == "parts":
        monkeypatch.setattr(safe_root, "_call", [None])
    return WAYS[request.param]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def copied(source: Path, target: Path, threads: int) -> Callable[..., Copied]:
    """Return `copied()`: copy *source* to *target*, which is made."""

    def act(**options: object) -> Copied:
        target.mkdir(exist_ok=True)
        with SafeRoot.at(str(source)) as old, SafeRoot.at(str(target)) as new:
            return copy_tree(old, new, **{"threads": threads, **options})

    return act


@contextmanager
def with_times_kept(file: Path) -> Iterator[BinaryIO]:
    """Open *file* for a change that its times do not tell."""
    info = file.stat()
    with file.open("r+b") as handle:
        yield handle
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))


def punched(file: Path, before: int, data: bytes, after: int = 0) -> None:
    """Make *file* of holes around *data*."""
    with file.open("wb") as handle:
        handle.seek(before)
        handle.write(data)
        handle.truncate(before + len(data) + after)


def test_content_modes_and_links_are_kept(
    source: Path, target: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(source, {
        "a/b/c": b"\0\xff" * 70_000, "empty": "", "folder/": None,
        "absolute": Path("/etc/hostname"), "relative": Path("a/b"), "dangling": Path("nowhere"),
    })  # fmt: skip
    (source / "a/b/c").chmod(0o640)
    (source / "a").chmod(0o711)
    done = copied()

    assert tree(source) == tree(target)
    assert (2, 140_000, []) == (done.files, done.bytes, done.skipped)


def test_times_are_kept_also_of_folders_and_links(
    source: Path, target: Path, copied: Callable, plant: Callable
) -> None:
    plant(source, {"a/file": "x", "link": Path("a")})
    for name in ("a/file", "a", "link", "."):
        os.utime(source / name, ns=(OLD, OLD), follow_symlinks=False)
    copied()

    names = ("a/file", "a", "link", ".")
    assert [OLD] * 4 == [os.lstat(target / name).st_mtime_ns for name in names]


@pytest.mark.parametrize(
    ("given", "kept"), [(0o6755, 0o755), (0o2644, 0o644), (0o1700, 0o1700), (0o400, 0o400)]
)
def test_set_id_bits_are_not_carried_and_all_others_are(
    given: int, kept: int, source: Path, target: Path, copied: Callable
) -> None:
    (source / "file").write_text("x")
    (source / "folder").mkdir()
    (source / "file").chmod(given)
    (source / "folder").chmod(given | 0o100)
    copied()

    assert [kept, kept | 0o100] == [
        stat.S_IMODE(os.lstat(target / name).st_mode) for name in ("file", "folder")
    ]


def test_hard_links_stay_one_file(
    source: Path, target: Path, copied: Callable, plant: Callable
) -> None:
    plant(source, {"one": "x", "below/": None, "alone": "y"})
    (source / "below/two").hardlink_to(source / "one")
    done = copied()

    assert os.lstat(target / "one").st_ino == os.lstat(target / "below/two").st_ino
    assert os.lstat(source / "one").st_ino != os.lstat(target / "one").st_ino
    assert [2, 1] == [os.lstat(target / name).st_nlink for name in ("one", "alone")]
    assert (2, 2) == (done.files, done.bytes)


def test_a_volume_without_hard_links_gets_two_files(
    source: Path, target: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "one").write_text("x")
    (source / "two").hardlink_to(source / "one")
    monkeypatch.setattr(os, "link", _refusing(errno.EPERM))
    done = copied()

    assert ["x", "x"] == [(target / name).read_text() for name in ("one", "two")]
    assert [] == done.skipped


def test_a_second_name_that_a_volume_takes_for_the_first_is_left_out(
    source: Path, target: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "name").write_text("x")
    (source / "NAME").hardlink_to(source / "name")
    (source / "more").write_text("y")
    monkeypatch.setattr(os, "link", _refusing(errno.EEXIST))
    done = copied()

    assert 2 == done.files == len(os.listdir(target))
    assert ["File exists"] == [why for _, why in done.skipped]


def test_a_volume_without_modes_gets_the_files_all_the_same(
    source: Path, target: Path, copied: Callable, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(source, {"folder/file": "x"})
    monkeypatch.setattr(os, "chmod", _refusing(errno.EPERM))
    done = copied()

    assert "x" == (target / "folder/file").read_text()
    assert (1, []) == (done.files, done.skipped)


def test_what_is_excluded_is_neither_copied_nor_listed(
    source: Path, target: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(source, {".cache/pip/x": "x", "a/.cache": "y", "b.tmp": "z", "a/c.tmp": "z"})
    done = copied(exclude=(".cache", "*.tmp"))

    assert {"a", "a/.cache"} == set(tree(target))
    assert [] == done.skipped


def test_a_pruned_folder_is_left_out_whatever_its_name(
    source: Path, target: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(source, {"volume/big": "x", "keep": "y"})
    info = os.stat(source / "volume")
    done = copied(prune={(info.st_dev, info.st_ino)})

    assert {"keep"} == set(tree(target))
    assert [] == done.skipped


def test_a_target_inside_the_source_is_not_copied_into_itself(
    source: Path, plant: Callable, tree: Callable
) -> None:
    stage = plant(source, {"x": "x", "volume/stage/": None}) / "volume/stage"
    info = os.stat(source / "volume")
    with SafeRoot.at(str(source)) as old, SafeRoot.at(str(stage)) as new:
        copy_tree(old, new, prune={(info.st_dev, info.st_ino)})

    assert {"x"} == set(tree(stage))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_another_device_is_listed_and_not_entered(
    source: Path, target: Path, copied: Callable, plant: Callable
) -> None:
    plant(source, {"mounted/": None, "bound/": None, "own": "y", "other/treasure": "z"})
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "mounted"], check=True)
    subprocess.run(["mount", "--bind", source / "other", source / "bound"], check=True)
    try:
        done = copied()
    finally:
        subprocess.run(["umount", source / "mounted", source / "bound"], check=True)

    assert ("mounted", "on another device") in done.skipped
    assert not (target / "mounted").exists()
    if safe_root._call != [None]:  # only openat2 knows a mount of the same file system
        assert [] == os.listdir(target / "bound")
        assert ("bound", "Invalid cross-device link") in done.skipped


def test_what_cannot_be_read_is_listed_with_the_reason(
    source: Path, target: Path, copied: Callable, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(source, {"secret": "x", "locked/file": "y", "own": "z"})
    monkeypatch.setattr(os, "open", _refusing_for(os.open, "secret", source))
    monkeypatch.setattr(os, "scandir", _refusing_for(os.scandir, None, source / "locked"))
    done = copied()

    assert ["locked", "own"] == sorted(os.listdir(target))
    assert [("locked", "Permission denied"), ("secret", "Permission denied")] == sorted(
        done.skipped
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_as_another_user_the_unreadable_is_skipped(
    tmp_path: Path, source: Path, target: Path, plant: Callable
) -> None:
    plant(source, {"private": "x", "shared": "y", "locked/in": "z"})
    (source / "private").chmod(0o600)
    (source / "locked").chmod(0o700)
    target.mkdir()
    target.chmod(0o777)
    code = (
        "import sys; sys.path.insert(0, sys.argv[3]);"
        "from workspace_agent.host.copy import copy_tree;"
        "from workspace_agent.host.safe_root import SafeRoot;"
        "import os; a = SafeRoot.at(sys.argv[1]); b = SafeRoot.at(sys.argv[2]); os.setuid(1234);"
        "print(sorted(copy_tree(a, b).skipped))"
    )
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o011)
    argv = [sys.executable, "-c", code, source, target, Path(__file__).parents[2]]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    assert "[('locked', 'Permission denied'), ('private', 'Permission denied')]\n" == said
    assert ["locked", "shared"] == sorted(os.listdir(target))


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EIO", "ESTALE", "EROFS", "EACCES", "EMFILE"])
def test_a_volume_that_fails_ends_the_copy(
    code: str, source: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(errno, code)
    (source / "file").write_text("x")
    monkeypatch.setattr(os, "write", _refusing(number))

    with pytest.raises(OSError) as raised:
        copied()
    assert number == raised.value.errno


def test_a_file_that_the_volume_takes_only_half_of_leaves_nothing(
    source: Path, target: Path, copied: Callable, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(source, {"big": "x" * 100, "small": ""})
    real = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.EFBIG, "File too large")
        return real(fd, bytes(data)[:50])

    monkeypatch.setattr(os, "write", half)
    done = copied(in_kernel=False)

    assert ["small"] == os.listdir(target)
    assert [("big", "File too large")] == done.skipped


def test_short_writes_go_on(
    source: Path, target: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "file").write_bytes(b"0123456789")
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    copied()

    assert b"0123456789" == (target / "file").read_bytes()


def test_fifos_sockets_and_devices_are_listed_and_never_opened(
    source: Path, target: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "file").write_text("x")
    os.mkfifo(source / "fifo")
    monkeypatch.chdir(source)  # a socket's path has 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        done = copied()

    assert ["file"] == os.listdir(target)
    assert [("fifo", "a special file"), ("socket", "a special file")] == done.skipped


def test_every_name_that_linux_allows_is_kept(source: Path, copied: Callable) -> None:
    names = [b"\xff\xfe", b"new\nline", b"-dash", b"x" * 255, b" ", b"\\", "ü".encode("latin-1")]
    for name in names:
        with open(os.path.join(os.fsencode(source), name), "wb") as handle:
            handle.write(name)
    done = copied()

    found = os.fsencode(source.parent / "target")
    assert sorted(names) == sorted(os.listdir(found))
    assert all(Path(os.fsdecode(os.path.join(found, name))).read_bytes() == name for name in names)
    assert [] == done.skipped


def test_what_stands_in_the_target_is_never_written_to(
    tmp_path: Path, source: Path, target: Path, copied: Callable, plant: Callable
) -> None:
    plant(source, {"file": "new", "link": "new"})
    plant(target, {"file": "precious", "link": tmp_path / "outside"})
    plant(tmp_path, {"outside": "precious"})
    done = copied()

    assert ["precious"] * 2 == [p.read_text() for p in (target / "file", tmp_path / "outside")]
    assert ["file", "link"] == sorted(name for name, _ in done.skipped)


def test_a_link_is_never_followed_out_of_the_source(
    tmp_path: Path, source: Path, target: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(tmp_path / "outside", {"treasure": "x"})
    (source / "way").symlink_to(tmp_path / "outside")
    copied()

    assert {"way": f"-> {tmp_path}/outside"} == tree(target)


def test_the_source_is_as_it_was(
    source: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(source, {"a/b": "x", "link": Path("a")})
    before = tree(source, times=True)
    copied()

    assert before == tree(source, times=True)


def test_progress_is_told_within_a_large_file(
    source: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "big").write_bytes(b"x" * (5 << 20))
    monkeypatch.setattr(copy, "_TELL", 0.0)
    heard: list[str] = []
    copied(tell=heard.append, in_kernel=False, threads=1)

    assert heard.count("0 of 1 objects") >= 5


def test_holes_stay_holes_and_the_bytes_between_them_arrive(
    source: Path, target: Path, copied: Callable
) -> None:
    punched(source / "sparse", 10 << 20, b"middle", 54 << 20)
    (source / "empty").open("wb").truncate(1 << 20)
    copied()

    assert (source / "sparse").read_bytes() == (target / "sparse").read_bytes()
    assert bytes(1 << 20) == (target / "empty").read_bytes()
    assert (target / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (target / "empty").stat().st_blocks * 512 < 1 << 16


def test_a_file_system_that_cannot_say_where_holes_are_gets_every_byte(
    source: Path, target: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    punched(source / "sparse", 1 << 20, b"end")
    real = os.lseek

    def refuse(fd: int, at: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(fd, at, how)

    monkeypatch.setattr(os, "lseek", refuse)
    copied()

    assert (source / "sparse").read_bytes() == (target / "sparse").read_bytes()


@pytest.mark.parametrize("refused", [(), ("copy_file_range",), ("copy_file_range", "sendfile")])
@pytest.mark.parametrize("code", ["EXDEV", "EIO"])
def test_bytes_find_another_way_where_the_kernel_has_none(
    refused: tuple[str, ...],
    code: str,
    source: Path,
    target: Path,
    copied: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = os.urandom(3 << 20)
    for name in ("one", "two"):
        (source / name).write_bytes(content)
    for name in refused:
        monkeypatch.setattr(os, name, _refusing(getattr(errno, code)))
    done = copied()

    assert [content] * 2 == [(target / name).read_bytes() for name in ("one", "two")]
    assert (6 << 20, []) == (done.bytes, done.skipped)


def test_attributes_are_kept_but_for_those_that_give_privilege(
    source: Path, target: Path, copied: Callable
) -> None:
    (source / "file").write_text("x")
    (source / "folder").mkdir()
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    try:
        for name in ("file", "folder"):
            os.setxattr(source / name, "user.note", b"v\0bin")
        os.setxattr(source / "file", "security.capability", capability)
    except OSError:
        pytest.skip("this file system, or this user, has no attributes")
    copied()

    assert ["user.note"] * 2 == [*os.listxattr(target / "file"), *os.listxattr(target / "folder")]
    assert b"v\0bin" == os.getxattr(target / "file", "user.note")


@pytest.mark.parametrize("code", ["ENOTSUP", "EPERM", "ENOSPC", "E2BIG"])
def test_a_volume_without_attributes_gets_the_files_all_the_same(
    code: str, source: Path, target: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "file").write_text("x")
    try:
        os.setxattr(source / "file", "user.note", b"v")
    except OSError:
        pytest.skip("this file system has no attributes")
    monkeypatch.setattr(os, "setxattr", _refusing(getattr(errno, code)))
    done = copied()

    assert ("x", []) == ((target / "file").read_text(), done.skipped)


@pytest.mark.skipif(os.geteuid() != 0, reason="owners are root's to give")
def test_owners_are_kept(source: Path, target: Path, copied: Callable, plant: Callable) -> None:
    plant(source, {"a/file": "x", "link": Path("a"), "ours": "y"})
    for name in ("a", "a/file", "link"):
        os.chown(source / name, 1234, 4321, follow_symlinks=False)
    done = copied()

    found = [os.lstat(target / name) for name in ("a", "a/file", "link", "ours")]
    assert [(1234, 4321)] * 3 + [(0, 0)] == [(info.st_uid, info.st_gid) for info in found]
    assert done.owners_kept


@pytest.mark.skipif(os.geteuid() != 0, reason="owners are root's to give")
def test_an_export_that_gives_no_owners_is_asked_once(
    source: Path, copied: Callable, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(source, {f"file{n}": "x" for n in range(20)})
    for n in range(20):
        os.chown(source / f"file{n}", 1234, 1234)
    asked = []

    def refuse(*args: object, **_: object) -> None:
        asked.append(args)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    done = copied(threads=1)

    assert (20, [], False, 1) == (done.files, done.skipped, done.owners_kept, len(asked))


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_the_umask_has_no_say(
    umask: int, source: Path, target: Path, copied: Callable, plant: Callable
) -> None:
    plant(source, {"wide/file": "x"})
    (source / "wide").chmod(0o777)
    (source / "wide/file").chmod(0o666)
    before = os.umask(umask)
    try:
        copied()
    finally:
        after = os.umask(before)

    assert (0o777, 0o666) == tuple(
        stat.S_IMODE(os.lstat(target / name).st_mode) for name in ("wide", "wide/file")
    )
    assert umask == after


def test_a_file_that_changes_once_is_taken_again_and_one_that_always_does_is_listed(
    source: Path, target: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("once", "always", "still"):
        (source / name).write_text("before")
    inode = {name: (source / name).stat().st_ino for name in ("once", "always", "still")}
    changed: list[str] = []
    real = os.read

    def read(fd: int, count: int) -> bytes:
        data = real(fd, count)
        for name in ("once", "always"):
            mine = os.fstat(fd).st_ino == inode[name]
            if mine and not (name == "once" and name in changed):
                changed.append(name)
                with (source / name).open("a") as handle:
                    handle.write("+")
        return data

    monkeypatch.setattr(os, "read", read)
    done = copied(in_kernel=False)

    assert ["once", "still"] == sorted(os.listdir(target))
    assert ("before+", "before") == tuple((target / n).read_text() for n in ("once", "still"))
    assert [("always", "it changed while it was copied")] == done.skipped


def test_a_file_that_becomes_a_fifo_is_not_waited_for(
    source: Path, target: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "file").write_text("x")
    real = os.open

    def swapped(path: object, flags: int, *args: int, **more: object) -> int:
        if path == "file" and flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_DIRECTORY:
            (source / "file").unlink()
            os.mkfifo(source / "file")
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", swapped)
    done = copied()

    assert [] == os.listdir(target)
    assert ["file"] == [name for name, _ in done.skipped]


@pytest.mark.parametrize("code", ["EINVAL", "EILSEQ", "ENAMETOOLONG"])
def test_a_name_that_the_volume_does_not_take_is_listed(
    code: str, source: Path, target: Path, copied: Callable, plant: Callable, monkeypatch
) -> None:
    plant(source, {"bad:file": "x", "bad:folder/in/deep": "y", "good": "z", "bad:link": Path("g")})
    for name in ("open", "mkdir", "symlink"):
        monkeypatch.setattr(os, name, _refusing_names(getattr(os, name), getattr(errno, code)))
    done = copied()

    assert ["good"] == os.listdir(target)
    assert ["bad:file", "bad:folder", "bad:link"] == sorted(name for name, _ in done.skipped)


@pytest.mark.parametrize("code", ["EPERM", "ENOTSUP", "ENOSYS"])
def test_a_volume_without_symbolic_links_gets_all_else(
    code: str, source: Path, target: Path, copied: Callable, plant: Callable, monkeypatch
) -> None:
    plant(source, {"link": Path("file"), "file": "x"})
    monkeypatch.setattr(os, "symlink", _refusing(getattr(errno, code)))
    done = copied()

    assert (["file"], ["link"]) == (os.listdir(target), [name for name, _ in done.skipped])


def test_an_error_of_close_ends_the_copy(
    source: Path, target: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where a full volume takes every write."""
    (source / "file").write_text("x")
    real = os.close

    def close(fd: int) -> None:
        name = os.readlink(f"/proc/self/fd/{fd}")
        real(fd)
        if name == str(target / "file"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "close", close)
    with pytest.raises(OSError, match="No space"):
        copied()
    monkeypatch.undo()

    assert [] == os.listdir(target)


def test_the_time_is_given_after_the_close(
    source: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object with the right time is whole: that is what a killed copy is taken up by."""
    (source / "file").write_text("x")
    real = os.utime

    def utime(path: object, *args: object, **more: object) -> None:
        if path == "file":
            links = [_link(fd) for fd in _descriptors()]
            assert not any(link.endswith("target/file") for link in links)
        real(path, *args, **more)

    monkeypatch.setattr(os, "utime", utime)

    assert 1 == copied().files


def test_a_copy_that_was_cut_short_is_taken_up(
    source: Path, target: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(source, {"a/done": "one", "a/torn": "two", "late/new": "three", "link": Path("a"),
                   "old": "same size", "one": "x"})  # fmt: skip
    (source / "two").hardlink_to(source / "one")
    copied()
    before = (target / "a/done").stat().st_ino
    (target / "a/torn").write_text("t")
    (target / "old").write_text("emas size")
    (target / "late/new").unlink()
    (target / "late").rmdir()
    done = copied(resume=True)

    assert tree(source) == tree(target)
    assert before == (target / "a/done").stat().st_ino
    assert (target / "one").stat().st_ino == (target / "two").stat().st_ino
    assert 3 == done.reused  # a/done, link, one


def test_a_file_whose_bytes_were_lost_is_not_taken_for_whole(
    source: Path, target: Path, copied: Callable
) -> None:
    """Size and time are in the inode; the bytes may have been on their way to a bad disk."""
    (source / "file").write_bytes(b"x" * 3_000_000)
    copied()
    with with_times_kept(target / "file") as handle:
        handle.seek(2_000_000)
        handle.write(bytes(4096))
    done = copied(resume=True)

    assert (source / "file").read_bytes() == (target / "file").read_bytes()
    assert 0 == done.reused


def test_a_file_with_holes_is_never_taken_for_whole(
    source: Path, target: Path, copied: Callable
) -> None:
    punched(source / "sparse", 1 << 20, b"end")
    copied()
    with with_times_kept(target / "sparse") as handle:
        handle.truncate(0)
        handle.truncate((1 << 20) + 3)
    done = copied(resume=True)

    assert (source / "sparse").read_bytes() == (target / "sparse").read_bytes()
    assert 0 == done.reused


@pytest.mark.parametrize("code", ["EMFILE", "ENFILE", "ENOMEM"])
@pytest.mark.parametrize("call", ["open", "scandir"])
def test_what_no_file_is_to_blame_for_ends_the_copy(
    code: str, call: str, source: Path, copied: Callable, plant: Callable, monkeypatch
) -> None:
    """Else a home of which everything was left out would count as made."""
    plant(source, {"a/b": "x", "c": "y"})
    number = getattr(errno, code)
    real = getattr(os, call)

    def refuse(path: object, *args: int, **more: object) -> object:
        if call == "scandir" or (path == "c" and args[0] & os.O_ACCMODE == os.O_RDONLY):
            raise OSError(number, os.strerror(number))
        return real(path, *args, **more)

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        copied()


def test_few_descriptors_are_enough(
    source: Path, target: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(source, {f"d{n}/e{n}/f": "x" for n in range(150)})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_descriptors()) + 90, hard))
    try:
        copied()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert tree(source) == tree(target)


@pytest.mark.parametrize(("limit", "most"), [(4096, 64), (300, 53), (100, 8), (30, 1)])
def test_there_are_no_more_threads_than_there_are_descriptors_for(
    source: Path, copied: Callable, plant: Callable, monkeypatch: pytest.MonkeyPatch,
    limit: int, most: int,
) -> None:  # fmt: skip
    plant(source, {f"{n}": "x" for n in range(200)})
    at_once, others = [], threading.active_count()
    real = copy.copy_file

    def counted(*args: object) -> object:
        at_once.append(threading.active_count() - others)
        return real(*args)

    monkeypatch.setattr(copy, "copy_file", counted)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    copied(threads=64)

    assert most == max(at_once)


def test_a_tree_deeper_than_a_path_can_be_is_copied_whole(
    source: Path, target: Path, copied: Callable
) -> None:
    fd = os.open(source, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=inner))
        os.close(fd)
        fd = inner
    os.close(fd)
    done = copied()
    subprocess.run(["rm", "-rf", source], check=True)  # the test's own clean-up cannot

    assert (30, []) == (done.files, done.skipped)


def test_what_is_to_come_is_told_before_the_first_write(
    source: Path, target: Path, copied: Callable, plant: Callable
) -> None:
    plant(source, {"a/b": "12345", "c": "x" * 100_000, "d/": None})
    with (source / "sparse").open("wb") as handle:
        handle.truncate(1 << 30)
    heard: list[tuple[int, int]] = []

    def fits(size: int, objects: int) -> None:
        heard.append((size, objects))
        assert [] == os.listdir(target)
        raise MemoryError("does not fit")

    with pytest.raises(MemoryError):
        copied(fits=fits)

    assert [(100_005, 5)] == heard
    assert [] == os.listdir(target)


def test_a_tree_of_many_parts_is_copied_and_counted_whole(
    source: Path, copied: Callable, plant: Callable, tree: Callable, target: Path, monkeypatch
) -> None:
    """With parts of three entries: folders go on in the next part, links reach over parts."""
    monkeypatch.setattr(walk, "_ENTRIES", 3)
    monkeypatch.setattr(walk, "_FOLDERS", 2)
    plant(source, {f"d{n % 5}/e{n % 3}/f{n}": str(n) for n in range(40)})
    plant(source, {f"flat/{n}": "x" for n in range(20)})
    (source / "zlast").hardlink_to(source / "d0/e0/f0")
    (source / "d1/e1").chmod(0o555)
    os.utime(source / "flat", ns=(OLD, OLD))
    told: list[tuple[int, int]] = []
    done = copied(fits=lambda *counts: told.append(counts))

    assert tree(source) == tree(target)
    assert OLD == (target / "flat").stat().st_mtime_ns
    assert (target / "zlast").stat().st_ino == (target / "d0/e0/f0").stat().st_ino
    assert (60, 82) == (done.files, told[0][1])
    assert [] == [fd for fd in _descriptors() if "/source" in _link(fd) or "/target" in _link(fd)]


def test_only_what_is_asked_for_is_copied(
    source: Path, target: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(source, {"a/b/c": "x", "a/b/d": "y", "e": "z", "f/g": "w"})
    copied(only=("a/b/c", "e"))

    assert {"a", "a/b", "a/b/c", "e"} == set(tree(target))


def test_more_than_the_named_are_counted(
    source: Path, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "NAMED", 3)
    for number in range(10):
        os.mkfifo(source / f"fifo{number}")
    done = copied()

    assert (3, 10) == (len(done.skipped), done.skipped_total)


def test_neighbours_are_in_different_folders_and_the_fullest_begins() -> None:
    def folder(name: str, count: int, target: int = 3) -> walk.Folder:
        files = [(f"{name}{n}", None) for n in reversed(range(count))]
        return walk.Folder(name, None, files=files, target=target)

    def order(together: Callable[[], bool]) -> list[str]:
        counts = {"a": 2, "b": 4, "none": 0, "c": 1}
        part = [*(folder(*row) for row in counts.items()), folder("refused", 3, -1)]
        return [name for _, name, _ in in_turn(part, together)]

    late = iter([False] * 2 + [True] * 9)

    assert ["b0", "a0", "c0", "b1", "a1", "b2", "b3"] == order(lambda: True)
    assert ["b0", "b1", "b2", "b3", "a0", "a1", "c0"] == order(lambda: False)
    assert ["b0", "b1", "b2", "a0", "c0", "b3", "a1"] == order(lambda: next(late))


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def _link(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _refusing_names(real: Callable, code: int) -> Callable[..., object]:
    def refuse(*args: object, **more: object) -> object:
        made = args[1] if real.__name__ == "symlink" else args[0]
        reads = real.__name__ == "open" and args[1] & os.O_ACCMODE == os.O_RDONLY
        if isinstance(made, str) and made.startswith("bad:") and not reads:
            raise OSError(code, os.strerror(code))
        return real(*args, **more)

    return refuse


def _refusing(code: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def _refusing_for(real: Callable, name: object, folder: Path) -> Callable[..., object]:
    """Return *real*, which refuses *name* (any, when None) in *folder*, itself open by number."""

    def refuse(asked: object, *args: object, **more: object) -> object:
        fd = asked if name is None else more.get("dir_fd")
        if (name is None or asked == name) and fd is not None:
            there = isinstance(fd, int) and os.path.samestat(os.fstat(fd), os.stat(folder))
            if there and (name is None or args[0] & os.O_ACCMODE == os.O_RDONLY):
                raise PermissionError(errno.EACCES, "Permission denied")
        return real(asked, *args, **more)

    return refuse
