"""What the kernel says of writes, as bytes: no CAP_SYS_ADMIN is needed to read them."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from workspace_agent.host import fanotify

OVERFLOW, MODIFY = 0x4000, 0x02
OTHER = 12345


def record(fd: int, pid: int = OTHER, mask: int = MODIFY, more: bytes = b"") -> bytes:
    return struct.pack("=IBBHQii", 24 + len(more), 3, 0, 24, mask, fd, pid) + more


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


def opened(path: Path) -> int:
    path.touch()
    return os.open(path, os.O_RDONLY)


def test_a_write_is_its_path_and_its_process(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file")

    assert [(str(tmp_path / "file"), OTHER)] == fanotify.entries(record(fd))
    assert not is_open(fd)


def test_the_same_twice_is_once_and_each_file_is_closed(tmp_path: Path) -> None:
    fds = [opened(tmp_path / name) for name in ("a", "b", "a")]
    found = fanotify.entries(b"".join(record(fd, more=b"12345678") for fd in fds))

    assert [(str(tmp_path / "a"), OTHER), (str(tmp_path / "b"), OTHER)] == found
    assert not any(map(is_open, fds))


def test_our_own_writes_and_deleted_files_are_left_out_and_closed(tmp_path: Path) -> None:
    own, gone = opened(tmp_path / "own"), opened(tmp_path / "gone")
    (tmp_path / "gone").unlink()

    assert [] == fanotify.entries(record(own, pid=os.getpid()) + record(gone))
    assert not is_open(own) and not is_open(gone)


def test_an_overflow_is_everywhere() -> None:
    assert [("", 0)] == fanotify.entries(record(-1, 0, OVERFLOW))


@pytest.mark.parametrize("junk", [b"", b"\0" * 23, b"\0" * 48, b"\xff" * 30])
def test_what_is_no_record_hangs_nobody(junk: bytes) -> None:
    before = os.listdir("/proc/self/fd")
    if junk.startswith(b"\0" * 24):  # a descriptor of 0: never the kernel's
        junk = record(-1) + b"\0" * 8
    fanotify.entries(junk)

    assert len(before) == len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("init", "mark", "why"),
    [
        (errno.EPERM, 0, "fanotify needs CAP_SYS_ADMIN"),
        (errno.ENOSYS, 0, "this kernel has no fanotify"),
        (0, errno.EPERM, "fanotify needs CAP_SYS_ADMIN"),
        (0, errno.EINVAL, os.strerror(errno.EINVAL)),
        (None, 0, "this system has no fanotify"),
    ],
)
def test_without_the_right_there_is_none_and_why(monkeypatch, tmp_path, init, mark, why) -> None:
    import ctypes

    fds = []

    class Libc:
        def fanotify_mark(self, *_: object) -> int:
            ctypes.set_errno(mark)
            return -1

        if init is not None:

            def fanotify_init(self, *_: object) -> int:
                ctypes.set_errno(init)
                fds.append(-1 if init else opened(tmp_path / "group"))
                return fds[-1]

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc())

    assert (None, why) == fanotify.opened()
    assert not any(map(is_open, fds))
