"""Files that somebody else writes: databases, logs; and disks that are full or read-only."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from rescued import World, reasons

from workspace_agent.rescue import databases

# Writes rows until it is killed; tells each that is committed. With a number: all of it is open.
WRITER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute(f"PRAGMA journal_mode={sys.argv[2]}")
db.execute("PRAGMA wal_autocheckpoint=0")
db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER, data BLOB)")
n = 0
while True:
    n += 1
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO t VALUES (?, randomblob(2000))", (n,))
    db.execute("COMMIT")
    print(n, flush=True)
    time.sleep(0.01)
"""


@contextmanager
def writing(path: Path, mode: str = "wal", rows: int = 20) -> Iterator[Callable[[], int]]:
    """Have a process write rows; the result returns how many are committed by now."""
    argv = [sys.executable, "-c", WRITER, str(path), mode]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        def committed() -> int:
            return int(process.stdout.readline())

        while committed() < rows:
            pass
        try:
            yield committed
        finally:
            process.kill()


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as found:
        assert ("ok",) == found.execute("PRAGMA integrity_check").fetchone()
        count, most = found.execute("SELECT count(*), max(n) FROM t").fetchone()
        assert count == most
        return int(count)


def restored(world: World, path: str) -> Path:
    world.dies()
    assert world.step().apply(lambda _: None) is None
    return Path(f"{world.top}{path}")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_under_a_live_writer_comes_back_with_every_committed_row(
    on_disk: World, mode: str
) -> None:
    with writing(on_disk.write("/db with spaces?#%", b""), mode) as committed:
        before = committed()
        names = sorted(f"/{name}" for name in os.listdir(on_disk.top) if "journal" not in name)
        outcome = on_disk.save(*names)
    others = {path: why for path, why in reasons(outcome).items() if path[-4:] in ("-wal", "-shm")}

    assert len(names) - 1 == len(others) == len(outcome.left)
    assert (1, True) == (outcome.saved, on_disk.chain().saved["/db with spaces?#%"].backup)
    assert rows(restored(on_disk, "/db with spaces?#%")) >= before


def test_rows_that_are_in_the_log_alone_are_a_change(on_disk: World) -> None:
    path = on_disk.write("/db", b"")
    with closing(sqlite3.connect(path, isolation_level=None)) as owner:
        owner.execute("PRAGMA journal_mode=wal")
        owner.execute("CREATE TABLE t (n INTEGER)")
        owner.execute("INSERT INTO t VALUES (1)")
        first = save_elsewhere(on_disk)
        again = save_elsewhere(on_disk)
        owner.execute("INSERT INTO t VALUES (2)")
        third = save_elsewhere(on_disk)

    assert (["1 0", "0 1", "1 0"], 2) == ([first, again, third], rows(restored(on_disk, "/db")))


SAVE = """
import sys
sys.path.insert(0, sys.argv[3])
from rescued import World
world = World.__new__(World)
from pathlib import Path
world.top, world.volume = map(Path, sys.argv[1:3])
outcome = world.save("/db")
assert not outcome.left, outcome.left
print(outcome.saved, outcome.unchanged)
"""


def save_elsewhere(world: World) -> str:
    """Save in a process of its own, as a watcher does: SQLite's locks are those of a process."""
    tools = str(Path(__file__).parents[1] / "tools")
    argv = [sys.executable, "-c", SAVE, str(world.top), str(world.volume), tools]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_a_database_that_nobody_has_open_gets_no_files_beside_it(on_disk: World) -> None:
    path = on_disk.write("/db", b"")
    with closing(sqlite3.connect(path)) as owner:
        owner.execute("PRAGMA journal_mode=wal")
        owner.execute("CREATE TABLE t (n INTEGER)")
        owner.execute("INSERT INTO t VALUES (1)")
        owner.commit()
    outcome = on_disk.save("/db")

    assert ([], ["db"]) == (outcome.left, os.listdir(on_disk.top))
    assert 1 == rows(restored(on_disk, "/db"))


HOLDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("CREATE TABLE t (n)")
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_database_that_is_locked_is_left_and_not_copied_as_bytes(
    on_disk: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workspace_agent.rescue.databases._SECS", 0.1)
    path = on_disk.write("/db", b"")
    argv = [sys.executable, "-c", HOLDER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        outcome = on_disk.save("/db")
        process.kill()

    assert {"/db": "its database could not be copied: database is locked"} == reasons(outcome)
    assert [] == on_disk.data()


def test_a_database_whose_name_leads_elsewhere_by_now_is_left(
    on_disk: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("db", "precious"):
        with closing(sqlite3.connect(on_disk.write(f"/{name}", b""))) as owner:
            owner.execute("CREATE TABLE t (n INTEGER)")
            owner.commit()
    real = databases._connected
    monkeypatch.setattr(
        databases, "_connected", lambda path, *more: real(path.replace("/db", "/precious"), *more)
    )
    outcome = on_disk.save("/db")

    assert {"/db": "its name led to another file"} == reasons(outcome)
    assert [] == on_disk.data()


@pytest.mark.parametrize("content", [b"SQLite format 3\0", b"SQLite format 3\0" + os.urandom(9000)])
def test_what_only_begins_as_a_database_is_left(on_disk: World, content: bytes) -> None:
    on_disk.write("/db", content)
    outcome = on_disk.save("/db")

    assert ["/db"] == list(reasons(outcome)) or on_disk.bytes("/db") is not None


def test_a_log_that_grows_comes_back_as_it_was_at_some_moment(on_disk: World) -> None:
    path = on_disk.write("/log", b"")
    writer = "import sys\nf = open(sys.argv[1], 'ab', 0)\nn = 0\n" \
             "while True:\n f.write(b'%07d\\n' % n)\n n += 1\n"  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", writer, str(path)]) as process:
        while path.stat().st_size < 100_000:
            pass
        on_disk.save(on_disk.entry("/log", "logs"))
        process.kill()
    line = on_disk.chain().saved["/log"]
    found = restored(on_disk, "/log").read_bytes()
    numbers = [int(text) for text in found[: len(found) // 8 * 8].split()]

    assert (False, line.size) == (line.torn, len(found))
    assert list(range(len(found) // 8)) == numbers


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of 256 KiB, mounted over the place of the next container."""
    place = tmp_path / "container"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], check=False,
                      capture_output=True).returncode:  # fmt: skip
        pytest.skip("nobody may mount here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_container_whose_disk_refuses_is_told_and_gets_what_fits(
    on_disk: World, request: pytest.FixtureRequest, how: str
) -> None:
    on_disk.write("/big", b"b" * 500_000)
    on_disk.write("/a", b"small")
    on_disk.save("/big", "/a")
    on_disk.dies()
    place = request.getfixturevalue("small")
    if how == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    problem = on_disk.step().apply(lambda _: None)

    why = "No space left on device" if how == "full" else "Read-only file system"
    assert ("rescue.refused", True) == (problem.slug, why in problem.why)
    assert (["a"] if how == "full" else []) == os.listdir(place)
