"""What a copy keeps, what it leaves out and lists, and what it never does."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.host import copy, safe_root
from workspace_agent.host.copy import Copied, copy_tree
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
