"""What a copy keeps, what it leaves out and lists, and what it never does."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.host.copy import Copied, copy_tree

OLD = 1_500_000_000_123_456_789


@pytest.fixture
def source(root: Path) -> Path:
    (root / "source").mkdir()
    return root / "source"


@pytest.fixture
def copied(root: Path, source: Path) -> Callable[..., Copied]:
    """Return `copied()`: copy *source* to *target*, which is made."""

    def act(**options: object) -> Copied:
        (root / "target").mkdir()
        return copy_tree(str(source), str(root / "target"), **options)

    return act


@pytest.fixture
def target(root: Path) -> Path:
    return root / "target"


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


@pytest.mark.parametrize("root", ["real"], indirect=True)
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
    copy_tree(str(source), str(stage), prune={(info.st_dev, info.st_ino)})

    assert {"x"} == set(tree(stage))


@pytest.mark.parametrize("root", ["real"], indirect=True)
def test_another_device_is_listed_and_not_entered(
    source: Path, target: Path, copied: Callable, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(source, {"mounted/file": "x", "own": "y"})
    real = os.lstat
    elsewhere = str(source / "mounted")

    def seen(path: str) -> os.stat_result:
        info = real(path)
        if path != elsewhere:
            return info
        return os.stat_result((info.st_mode, info.st_ino, info.st_dev + 1, *tuple(info)[3:]))

    monkeypatch.setattr(os, "lstat", seen)
    done = copied()
    monkeypatch.setattr(os, "lstat", real)

    assert ["own"] == os.listdir(target)
    assert [("mounted", "on another device")] == done.skipped


def test_what_cannot_be_read_is_listed_with_the_reason(
    source: Path, target: Path, copied: Callable, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(source, {"secret": "x", "locked/file": "y", "own": "z"})
    monkeypatch.setattr(os, "open", _refusing_for(os.open, str(source / "secret")))
    monkeypatch.setattr(os, "scandir", _refusing_for(os.scandir, str(source / "locked")))
    done = copied()

    assert ["locked", "own"] == sorted(os.listdir(target))
    assert [("locked", "Permission denied"), ("secret", "Permission denied")] == done.skipped


@pytest.mark.parametrize("root", ["fake"], indirect=True)
def test_as_another_user_the_unreadable_is_skipped(
    root: Path, source: Path, plant: Callable
) -> None:
    from pyfakefs.helpers import reset_ids, set_uid

    plant(source, {"private": "x", "shared": "y"})
    (source / "private").chmod(0o600)
    (root / "target").mkdir()
    (root / "target").chmod(0o777)
    set_uid(1234)
    try:
        done = copy_tree(str(source), str(root / "target"))
    finally:
        reset_ids()

    assert [("private", "Permission denied")] == done.skipped
    assert ["shared"] == os.listdir(root / "target")


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EIO", "ESTALE", "EROFS"])
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
    done = copied()

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


@pytest.mark.parametrize("root", ["real"], indirect=True)
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


@pytest.mark.parametrize("root", ["real"], indirect=True)
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
    root: Path, source: Path, target: Path, plant: Callable
) -> None:
    plant(source, {"file": "new", "link": "new"})
    plant(target, {"file": "precious", "link": root / "outside"})
    plant(root, {"outside": "precious"})
    done = copy_tree(str(source), str(target))

    assert ["precious"] * 2 == [p.read_text() for p in (target / "file", root / "outside")]
    assert ["file", "link"] == [name for name, _ in done.skipped]


def test_a_link_is_never_followed_out_of_the_source(
    root: Path, source: Path, target: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(root / "outside", {"treasure": "x"})
    (source / "way").symlink_to(root / "outside")
    copied()

    assert {"way": f"-> {root}/outside"} == tree(target)


def test_the_source_is_as_it_was(
    source: Path, copied: Callable, plant: Callable, tree: Callable
) -> None:
    plant(source, {"a/b": "x", "link": Path("a")})
    before = tree(source, times=True)
    copied()

    assert before == tree(source, times=True)


def test_progress_is_told_within_a_large_file(source: Path, copied: Callable) -> None:
    (source / "big").write_bytes(b"x" * (3 << 20))
    heard: list[str] = []
    copied(tell=heard.append)

    assert len(heard) >= 3


def _refusing(code: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def _refusing_for(real: Callable[..., object], path: str) -> Callable[..., object]:
    def refuse(asked: object, *args: object, **more: object) -> object:
        if asked == path:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(asked, *args, **more)

    return refuse
