"""The atomic writer, and reads that cannot hurt."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.host import files


@pytest.fixture
def path(root: Path) -> str:
    return str(root / "file")


@pytest.fixture
def temporary(path: str) -> str:
    return files.temporary_name(str(path))


def mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("durable", [False, True])
def test_commit_replaces_the_whole_file(old: str | None, durable: bool, path: str) -> None:
    if old:
        Path(path).write_text(old * 100)
    files.commit(path, "new\n", durable=durable)

    assert "new\n" == Path(path).read_text()
    assert [os.path.basename(path)] == os.listdir(os.path.dirname(path))


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("wanted", [0o600, 0o644, 0o755, 0o440])
def test_the_mode_is_exact_whatever_the_umask(umask: int, wanted: int, path: str) -> None:
    before = os.umask(umask)
    try:
        files.commit(path, "x", wanted)
    finally:
        os.umask(before)

    assert wanted == mode(path)


def test_a_secret_is_never_readable_by_others_not_even_for_a_moment(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = os.write

    def watched(fd: int, data: bytes) -> int:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return real(fd, data)

    monkeypatch.setattr(os, "write", watched)
    files.commit(path, "secret", 0o600)

    assert [0o600] == seen


def test_what_a_killed_boot_left_under_the_temporary_name_is_replaced(
    path: str, temporary: str
) -> None:
    Path(temporary).write_text("half")
    files.commit(path, "whole")

    assert "whole" == Path(path).read_text()
    assert not files.exists(temporary)


def test_a_link_at_the_temporary_name_is_never_followed(
    root: Path, path: str, temporary: str
) -> None:
    (root / "victim").write_text("precious")
    os.symlink(str(root / "victim"), temporary)
    files.commit(path, "text")

    assert "precious" == (root / "victim").read_text()
    assert "text" == Path(path).read_text()
    assert not os.path.islink(path)


def test_a_dangling_link_at_the_temporary_name_makes_no_file_elsewhere(
    root: Path, path: str, temporary: str
) -> None:
    os.symlink(str(root / "elsewhere"), temporary)
    files.commit(path, "text")

    assert ["file"] == os.listdir(root)


def test_a_link_at_the_name_itself_is_replaced_and_not_followed(root: Path, path: str) -> None:
    (root / "victim").write_text("precious")
    os.symlink(str(root / "victim"), path)
    files.commit(path, "text")

    assert "precious" == (root / "victim").read_text()
    assert not os.path.islink(path)


def test_killed_at_any_write_a_reader_sees_the_old_file_or_the_new_one(
    root: Path, path: str, fated: Callable
) -> None:
    Path(path).write_text("old")
    with fated() as fate:
        files.commit(path, "new", durable=True)
    found = set()
    for k in range(1, fate.seen + 1):
        Path(path).write_text("old")
        with fated(at=k):
            files.commit(path, "new", durable=True)
        found.add(Path(path).read_text())

    assert fate.seen >= 3
    assert {"old"} == found
    files.commit(path, "new")
    assert ["file"] == os.listdir(root)


def test_refused_at_any_write_the_old_file_stays_and_nothing_else(
    root: Path, path: str, fated: Callable
) -> None:
    for k in range(1, 5):
        Path(path).write_text("old")
        with pytest.raises(OSError), fated(at=k, refuse=errno.ENOSPC):
            files.commit(path, "new")

        assert "old" == Path(path).read_text()
        assert ["file"] == os.listdir(root)


def test_durable_syncs_the_bytes_before_the_name_and_then_the_folder(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []
    replace = os.replace

    def synced(fd: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        heard.append(f"sync {kind}")

    def replaced(old: str, new: str, **folders: int | None) -> None:
        heard.append("rename")
        replace(old, new, **folders)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    files.commit(path, "x", durable=True)

    assert ["sync file", "rename", "sync folder"] == heard


@pytest.mark.parametrize(("code", "tolerated"), [("EINVAL", True), ("EIO", False)])
def test_a_folder_that_cannot_be_synced_is_fine_and_one_that_fails_is_not(
    code: str, tolerated: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(getattr(errno, code), code)

    monkeypatch.setattr(os, "fsync", refuse)
    raised = False
    try:
        files.sync_dir(str(root))
    except OSError:
        raised = True

    assert tolerated is not raised


@pytest.mark.parametrize(("size", "limit", "found"), [(0, 4, 0), (4, 4, 4), (5, 4, None)])
def test_read_returns_what_fits_and_nothing_of_what_does_not(
    size: int, limit: int, found: int | None, path: str
) -> None:
    Path(path).write_bytes(b"x" * size)

    data = files.read(path, limit)

    assert found == (None if data is None else len(data))


def test_read_gathers_short_reads(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(path).write_bytes(b"0123456789")
    real = os.read
    monkeypatch.setattr(os, "read", lambda fd, count: real(fd, min(count, 3)))

    assert b"0123456789" == files.read(path)


def test_read_refuses_links_folders_and_what_is_not_there(root: Path, path: str) -> None:
    (root / "target").write_text("x")
    os.symlink(str(root / "target"), str(root / "link"))
    (root / "folder").mkdir()

    names = ("link", "folder", "nothing", "target/below")
    assert [None] * 4 == [files.read(str(root / name)) for name in names]


@pytest.mark.parametrize("root", ["real"], indirect=True)
@pytest.mark.parametrize("held", [False, True])
def test_read_of_a_fifo_neither_blocks_nor_answers(held: bool, path: str) -> None:
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR) if held else -1
    found = files.read(path)
    if held:
        os.close(writer)

    assert found is None


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_read_of_a_device_answers_nothing(device: str) -> None:
    assert files.read(device) is None


def test_read_works_where_files_have_no_size() -> None:
    found = files.read("/proc/self/stat")

    assert found is not None
    assert found.startswith(b"%d " % os.getpid())


def test_write_in_place_keeps_the_inode(path: str) -> None:
    Path(path).write_text("a longer text")
    before = os.lstat(path).st_ino
    files.write_in_place(path, "short")

    assert (before, "short") == (os.lstat(path).st_ino, Path(path).read_text())


def test_write_in_place_never_leaves_an_empty_file(path: str, fated: Callable) -> None:
    with fated() as fate:
        Path(path).write_text("old text")
        fate.seen = 0
        files.write_in_place(path, "new")
    sizes = []
    for k in range(1, fate.seen + 1):
        Path(path).write_text("old text")
        with fated(at=k):
            files.write_in_place(path, "new")
        sizes.append(os.path.getsize(path))

    assert sizes
    assert min(sizes) >= len("new")


@pytest.mark.parametrize("name", ["absent", "link", "folder"])
def test_write_in_place_only_writes_to_a_file_that_is_there(name: str, root: Path) -> None:
    (root / "victim").write_text("precious")
    os.symlink(str(root / "victim"), str(root / "link"))
    (root / "folder").mkdir()

    with pytest.raises(OSError):
        files.write_in_place(str(root / name), "x")
    assert "precious" == (root / "victim").read_text()
    assert not (root / "absent").exists()


def test_only_what_is_surely_absent_does_not_exist(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").write_text("x")
    os.symlink("nowhere", str(root / "dangling"))
    plain = [files.exists(str(root / n)) for n in ("file", "dangling", "absent", "file/below")]

    def refuse(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "lstat", refuse)

    assert [True, True, False, False] == plain
    assert files.exists(str(root / "unknown"))


def test_remove_is_silent_about_what_cannot_go(root: Path) -> None:
    (root / "folder").mkdir()
    files.remove(str(root / "folder"))
    files.remove(str(root / "absent"))

    assert ["folder"] == os.listdir(root)
