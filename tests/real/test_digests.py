"""A checkpoint's files are what was written, or each that is not is named."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from agents import wait_until

from workspace_agent.checkpoint import digests
from workspace_agent.checkpoint.digests import Digest, Follower, verify
from workspace_agent.host import safe_root

PART = 4096


@pytest.fixture(params=["openat2", "by parts"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Give an artifact with files of all sizes around those of a part."""
    if request.param == "by parts":
        monkeypatch.setattr(safe_root, "_call", [None])
    monkeypatch.setattr(digests, "CHUNK", PART)
    top = tmp_path / "artifact"
    (top / "criu").mkdir(parents=True)
    for size in (0, 1, PART - 1, PART, PART + 1, 7 * PART + 3):
        (top / "criu" / f"{size}.img").write_bytes(os.urandom(size))
    (top / "carried.tar").write_bytes(os.urandom(3 * PART))
    yield top


def by_hand(path: Path) -> Digest:
    data = path.read_bytes()
    parts = [sha256(data[at : at + PART]).digest() for at in range(0, len(data), PART)]
    return Digest(len(data), sha256(b"".join(parts)).hexdigest())


def taken(folder: Path) -> dict[str, Digest]:
    return Follower(str(folder)).finish()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_digest_is_of_the_digests_of_its_parts(folder: Path) -> None:
    assert {str(p.relative_to(folder)): by_hand(p) for p in files(folder)} == taken(folder)


@pytest.mark.parametrize("threads", [1, 8])
def test_what_is_whole_is_right(folder: Path, threads: int) -> None:
    assert [] == verify(str(folder), taken(folder), threads)
    expected = taken(folder)
    (folder / "MANIFEST.json").write_text("{}")
    assert [] == verify(str(folder), expected, threads, but=("MANIFEST.json",))


@pytest.mark.parametrize("threads", [1, 8])
def test_any_flipped_bit_is_found_and_its_file_named(folder: Path, threads: int) -> None:
    expected, chance = taken(folder), random.Random(20261121)
    for path in files(folder):
        whole = path.read_bytes()
        for at in {0, len(whole) - 1, *(chance.randrange(len(whole) or 1) for _ in range(8))}:
            if whole:
                flipped = whole[at] ^ 1 << chance.randrange(8)
                path.write_bytes(whole[:at] + bytes([flipped]) + whole[at + 1 :])
                (wrong,) = verify(str(folder), expected, threads)
                assert f"{path.relative_to(folder)} has other bytes than were written" == wrong
        path.write_bytes(whole)
    assert [] == verify(str(folder), expected, threads)


def test_what_is_shorter_longer_missing_or_extra_is_named(folder: Path) -> None:
    expected = taken(folder)
    (folder / "criu" / "1.img").write_bytes(b"")
    (folder / "criu" / "0.img").write_bytes(b"x")
    (folder / "carried.tar").unlink()
    (folder / "criu" / "extra").touch()

    assert [
        "carried.tar is missing",
        "criu/extra is not a part of it",
        "criu/1.img has 0 bytes, and not 1",
        "criu/0.img has 1 bytes, and not 0",
    ] == verify(str(folder), expected)


def test_two_parts_in_the_wrong_order_are_found(folder: Path) -> None:
    expected, path = taken(folder), folder / "carried.tar"
    data = path.read_bytes()
    path.write_bytes(data[PART : 2 * PART] + data[:PART] + data[2 * PART :])

    assert ["carried.tar has other bytes than were written"] == verify(str(folder), expected)


@pytest.mark.parametrize("what", ["link", "link to a folder", "pipe"])
def test_anything_but_a_file_is_refused(folder: Path, what: str) -> None:
    expected = taken(folder)
    if what == "pipe":
        os.mkfifo(folder / "criu" / "odd")
    else:
        (folder / "criu" / "odd").symlink_to(folder / "criu" if "folder" in what else "1.img")

    with pytest.raises(OSError, match="criu/odd is not a regular file"):
        verify(str(folder), expected)
    with pytest.raises(OSError, match="criu/odd is not a regular file"):
        taken(folder)


def test_a_growing_file_is_followed_and_only_its_rest_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is hashed up to its last whole part while the other process still has it open."""
    path = folder / "criu" / "pages-1.img"
    script = "import os, sys\nfor line in sys.stdin: os.write(1, os.urandom(int(line)))"
    follower = Follower(str(folder))
    with (
        open(path, "wb", buffering=0) as out,
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=out,
                         text=True, bufsize=1) as writer,
    ):  # fmt: skip
        assert writer.stdin is not None
        total, known = 0, follower._parts
        for size in (100, PART, 2 * PART, 5000):
            print(size, file=writer.stdin)
            total += size
            whole = total // PART
            wait_until(lambda n=whole: len(known.get("criu/pages-1.img", ())) >= n, "it is hashed")
    done = list(follower._parts["criu/pages-1.img"])
    hashed: list[tuple[str, int]] = []
    real = digests._hash
    monkeypatch.setattr(digests, "_hash", lambda *a: hashed.append(a[1:]) or real(*a))

    assert by_hand(path) == follower.finish()["criu/pages-1.img"]
    assert total // PART == len(done)
    assert [n for name, n in hashed if "pages" in name] == [total // PART]


def test_a_file_that_became_shorter_while_it_was_followed_is_an_error(folder: Path) -> None:
    follower = Follower(str(folder))
    wait_until(lambda: len(follower._parts.get("carried.tar", ())) == 3, "it is hashed")
    os.truncate(folder / "carried.tar", PART)

    with pytest.raises(OSError, match=r"carried\.tar became shorter"):
        follower.finish()
    follower.stop()  # as whoever fails does


def test_a_follower_that_is_stopped_leaves_nothing_open(folder: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    Follower(str(folder)).stop()
    taken(folder)
    verify(str(folder), {})

    assert before == sorted(os.listdir("/proc/self/fd"))
