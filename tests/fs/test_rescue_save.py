"""What is saved: from a folder that plays the container, to a volume."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rescued import RUNS, World, reasons

from workspace_agent.rescue import saving
from workspace_agent.rescue.reading import Meter

MB = 1 << 20


def test_what_is_saved_can_be_read_by_its_line(twin: World) -> None:
    twin.write("/home/a.py", "print()\n").chmod(0o640)
    twin.write("/home/empty", "")
    (twin.top / "home/link").symlink_to("a.py")
    outcome = twin.save("/home", "/home/a.py", "/home/empty", "/home/link")
    saved = twin.chain().saved

    assert (4, 0, [], None) == (outcome.saved, outcome.unchanged, outcome.left, outcome.problem)
    assert (b"print()\n", b"") == (twin.bytes("/home/a.py"), twin.bytes("/home/empty"))
    assert (0o640, "a.py", "d") == (
        saved["/home/a.py"].mode, saved["/home/link"].to, saved["/home"].type,
    )  # fmt: skip
    assert (twin.volume / ".workspace-agent/rescue/wanted").exists()


def test_what_is_not_kept_and_an_end_are_no_reason_for_a_boot_to_look(twin: World) -> None:
    """A boot that has nothing to put back takes the fast path."""
    twin.write("/a")
    with twin.running() as save:
        save.run.left([(twin.entry("/a"), "too large")])
        save.run.end("the workload has ended")

    assert twin.chain().left
    assert not (twin.volume / ".workspace-agent/rescue/wanted").exists()


def test_what_is_saved_is_for_its_owner_alone(on_disk: World) -> None:
    on_disk.write("/a").chmod(0o666)
    on_disk.save("/a")
    state = on_disk.volume / ".workspace-agent"
    modes = {path.stat().st_mode & 0o777 for path in state.rglob("*") if path.is_file()}

    assert {0o600} == modes
    assert {0o700} == {p.stat().st_mode & 0o777 for p in [state, *state.rglob("*")] if p.is_dir()}


def test_what_did_not_change_costs_no_bytes_and_no_lines(twin: World) -> None:
    twin.write("/a")
    first = twin.save("/a")
    before = twin.stored()
    second = twin.save("/a")

    assert (1, 0) == (first.saved, first.unchanged)
    assert (0, 1, 0) == (second.saved, second.unchanged, second.bytes)
    assert before == twin.stored()


def test_what_an_earlier_container_had_is_a_line_in_the_next_run_and_no_bytes(twin: World) -> None:
    twin.write("/a")
    twin.save("/a", run=RUNS[0], image="one")
    second = twin.save("/a", run=RUNS[1], image="two")

    assert (1, 0) == (second.saved, second.bytes)
    assert "one" == twin.chain().saved["/a"].image
    assert ["20260101T000000Z-b00t1-1"] == twin.data()


@pytest.mark.parametrize("change", ["bytes", "mode", "time", "type"])
def test_what_changed_is_saved_again(twin: World, change: str) -> None:
    path = twin.write("/a")
    twin.save("/a")
    if change == "bytes":
        path.write_bytes(b"longer")
    elif change == "mode":
        path.chmod(0o600)
    elif change == "time":
        os.utime(path, ns=(5, 5))
    else:
        path.unlink()
        path.symlink_to("b")

    assert 1 == twin.save("/a").saved


def test_a_file_that_moved_costs_no_bytes(on_disk: World) -> None:
    for size in (100 << 10, 9 * MB):
        on_disk.write("/a", os.urandom(size))
        on_disk.save("/a")
        (on_disk.top / "a").rename(on_disk.top / "b")
        before = on_disk.data()
        moved = on_disk.save("/b")

        assert (1, 0) == (moved.saved, moved.bytes)
        assert set(on_disk.data()) <= set(before)
        assert (on_disk.top / "b").read_bytes() == on_disk.bytes("/b")


def test_the_names_of_one_file_cost_its_bytes_once(on_disk: World) -> None:
    on_disk.write("/a", b"x" * 1000)
    for name in ("b", "c"):
        (on_disk.top / name).hardlink_to(on_disk.top / "a")
    outcome = on_disk.save("/a", "/b", "/c")
    saved = on_disk.chain().saved

    assert (3, 1000) == (outcome.saved, outcome.bytes)
    assert ["", "/a", "/a"] == [saved[path].hard for path in ("/a", "/b", "/c")]


def test_a_hole_costs_nothing(on_disk: World) -> None:
    sparse = on_disk.write("/sparse", "")
    with sparse.open("r+b") as file:
        file.truncate(8 << 30)
        file.seek(5 << 30)
        file.write(b"data")
    hole = on_disk.write("/hole", "")
    os.truncate(hole, 1 << 33)
    outcome = on_disk.save("/sparse", "/hole")
    saved = on_disk.chain().saved

    assert (2, 8 << 30, 1 << 33) == (outcome.saved, saved["/sparse"].size, saved["/hole"].size)
    assert outcome.bytes < MB


def test_a_file_with_many_holes_has_a_line_that_fits(on_disk: World) -> None:
    path = on_disk.write("/sparse", "")
    with path.open("r+b") as file:
        for n in range(1000):
            file.seek(n * 16384)
            file.write(b"data")
    on_disk.save("/sparse")

    assert path.read_bytes() == on_disk.bytes("/sparse")


def test_a_large_file_is_alone_and_small_ones_share(on_disk: World) -> None:
    on_disk.write("/large", os.urandom(9 * MB))
    for n in range(300):
        on_disk.write(f"/small{n}", os.urandom(100))
    on_disk.save("/large", *(f"/small{n}" for n in range(300)))

    assert 2 == len(on_disk.data())
    assert (on_disk.top / "small299").read_bytes() == on_disk.bytes("/small299")
    assert (on_disk.top / "large").read_bytes() == on_disk.bytes("/large")


NAMES = {
    "a newline": b"a\nb",
    "an escape": b"\x1b[2J",
    "no UTF-8": b"\xff\xfe",
    "255 bytes": b"n" * 255,
    "255 bytes of snow": "\N{SNOWMAN}".encode() * 85,
    "a turned-round text": "\u202etxt.exe".encode(),
    "a backslash": b"a\\n",
    "a dash": b"--checkpoint-action=exec",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_is_saved_as_it_is(on_disk: World, name: bytes) -> None:
    path = "/" + os.fsdecode(name)
    on_disk.write(path, "content")
    outcome = on_disk.save(path)

    assert (1, []) == (outcome.saved, outcome.left)
    assert [path] == list(on_disk.chain().saved)


def test_a_path_longer_than_the_kernel_takes_is_saved(on_disk: World) -> None:
    entry = on_disk.deep("d" * 200, 30, b"deep down")
    outcome = on_disk.save(entry)

    assert len(entry.path) > 6000
    assert ([], b"deep down") == (outcome.left, on_disk.bytes(entry.path))


def test_what_has_no_bytes_of_its_own_is_left_with_its_reason(on_disk: World) -> None:
    os.mkfifo(on_disk.top / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(on_disk.top / "socket"))
    os.mknod(on_disk.top / "device", 0o20666, os.makedev(1, 3))
    outcome = on_disk.save("/fifo", "/socket", "/device")

    assert dict.fromkeys(("/fifo", "/socket", "/device"), "a special file") == reasons(outcome)


def test_what_became_something_else_is_left(on_disk: World) -> None:
    entry = on_disk.entry_of(on_disk.write("/a"))
    (on_disk.top / "a").unlink()
    os.mkfifo(on_disk.top / "a")

    assert {"/a": "it is something else by now"} == reasons(on_disk.save(entry))


def test_what_went_away_is_left(twin: World) -> None:
    entry = twin.entry_of(twin.write("/a"))
    (twin.top / "a").unlink()
    outcome = twin.save(entry)

    assert {"/a": "No such file or directory"} == reasons(outcome)


def test_nothing_is_read_through_a_link(on_disk: World, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("precious")
    entries = [on_disk.entry_of(on_disk.write(path)) for path in ("/folder/key", "/key")]
    (on_disk.top / "folder/key").unlink()
    (on_disk.top / "folder").rmdir()
    (on_disk.top / "folder").symlink_to(tmp_path / "secret")
    (on_disk.top / "key").unlink()
    (on_disk.top / "key").symlink_to(tmp_path / "secret/key")
    outcome = on_disk.save(*entries)

    assert {"/folder/key", "/key"} == set(reasons(outcome))
    assert not any(b"precious" in path.read_bytes() for path in on_disk.files())


@pytest.mark.parametrize("where", ["", "/rescue", "/rescue/me", "/rescue/me/data"])
def test_nothing_is_written_through_a_link_on_the_volume(
    on_disk: World, tmp_path: Path, where: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = Path(f"{on_disk.volume}/.workspace-agent{where}")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "elsewhere")
    on_disk.write("/a")

    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        on_disk.save("/a")
    assert [] == os.listdir(tmp_path / "elsewhere")


def test_a_kind_that_is_refused_is_left_with_the_reason(twin: World) -> None:
    twin.write("/key")
    twin.write("/a")
    outcome = twin.save(twin.entry("/key", "secrets"), "/a", refuse={"secrets": "RWX volume"})

    assert ({"/key": "RWX volume"}, ["/a"]) == (reasons(outcome), list(twin.chain().saved))


# Files that change while they are read.


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return `meanwhile(act, times)`: do *act* after each reading of a file, so many times."""

    def planned(act: Callable[[], object], times: int = 1) -> None:
        rest = [act] * times

        def chunks(*args: object) -> Iterator[bytes]:
            yield from real(*args)
            if rest:
                rest.pop()()

        monkeypatch.setattr(saving, "chunks", chunks)

    real = saving.chunks
    return planned


@pytest.mark.parametrize(("times", "torn"), [(1, False), (2, True)])
@pytest.mark.parametrize("size", [1000, 9 * MB])
def test_a_file_that_changes_is_read_once_more_and_then_marked(
    on_disk: World, meanwhile: Callable, size: int, times: int, torn: bool
) -> None:
    path = on_disk.write("/a", b"a" * size)
    seen = iter((b"b", b"c"))

    def change() -> None:
        path.write_bytes(next(seen) * size)
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))

    meanwhile(change, times)
    outcome = on_disk.save("/a")

    assert (1, torn) == (outcome.saved, on_disk.chain().saved["/a"].torn)
    assert b"b" * size == on_disk.bytes("/a")
    assert 1 == len(on_disk.data())
    assert int(torn) == on_disk.save("/a").saved  # what is torn is saved again


def test_a_log_that_grows_is_not_torn_and_ends_where_it_ended(
    on_disk: World, meanwhile: Callable
) -> None:
    path = on_disk.write("/log", b"line\n")
    meanwhile(lambda: path.open("ab").write(b"more\n"), 5)
    on_disk.save(on_disk.entry("/log", "logs"))
    line = on_disk.chain().saved["/log"]

    assert (b"line\n", False) == (on_disk.bytes("/log"), line.torn)


def test_a_file_that_shrinks_twice_is_left_and_not_kept_in_half(
    on_disk: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = on_disk.write("/a", b"a" * 1000)
    real = saving.extents

    def shrinking(fd: int, info: os.stat_result) -> object:
        os.truncate(path, info.st_size // 2)
        return real(fd, info)

    monkeypatch.setattr(saving, "extents", shrinking)

    assert {"/a": "it was being written, twice"} == reasons(on_disk.save("/a"))


# Checkpoints.


def safetensors(size: int = 100, short: int = 0) -> bytes:
    header = b'{"__metadata__": {}, "w": {"dtype": "U8", "data_offsets": [0, %d]}}' % size
    return (struct.pack("<Q", len(header)) + header + b"w" * size)[: -short or None]


def zipped() -> bytes:
    import io
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("data.pkl", "x" * 1000)
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.safetensors", safetensors(), ""),
        ("a.safetensors", safetensors(short=1), "it has"),
        ("a.safetensors", safetensors()[:20], "its header is cut off"),
        ("a.safetensors", b"", "its header is cut off"),
        ("a.safetensors", safetensors() + b"x", "it has"),
        ("a.safetensors", b"\xff" * 100, "its header is cut off"),
        ("a.pt", zipped(), ""),
        ("a.ckpt", zipped()[:-1], "its list of contents is missing"),
        ("a.pth", zipped()[:500], "its list of contents is missing"),
        ("a.bin", zipped() + b"x", "something follows its end"),
        ("a.pt", b"\x80\x02 an old pickle", ""),
    ],
)
def test_a_checkpoint_is_saved_when_it_is_whole(
    on_disk: World, name: str, content: bytes, why: str
) -> None:
    on_disk.write(f"/{name}", content)
    outcome = on_disk.save(on_disk.entry(f"/{name}", "checkpoints"))

    assert (not why) == bool(outcome.saved)
    assert why in reasons(outcome).get(f"/{name}", "")


@pytest.mark.parametrize("how", ["open", "beside", "name", "changing"])
def test_a_checkpoint_under_way_is_left(on_disk: World, meanwhile: Callable, how: str) -> None:
    name = "/a.safetensors" + (".part" if how == "name" else "")
    path = on_disk.write(name, safetensors())
    if how == "beside":
        on_disk.write(f"{name}.tmp")
    if how == "changing":
        meanwhile(lambda: os.utime(path, ns=(1, random.getrandbits(50))), 9)
    limits = {"is_written": lambda _: True} if how == "open" else {}
    outcome = on_disk.save(on_disk.entry(name, "checkpoints"), **limits)

    assert (0, [name]) == (outcome.saved, list(reasons(outcome)))


# Limits.


def test_no_more_is_begun_when_the_time_is_over(twin: World) -> None:
    twin.write("/a")
    twin.write("/b")
    outcome = twin.save("/a", "/b", until=0.5)

    assert dict.fromkeys(("/a", "/b"), "no time was left") == reasons(outcome)


def test_a_large_file_that_is_not_finished_in_time_leaves_nothing(
    on_disk: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk.write("/small")
    on_disk.write("/large", os.urandom(20 * MB))
    clock = iter(range(1000))
    monkeypatch.setattr("workspace_agent.rescue.reading.monotonic", lambda: next(clock))
    outcome = on_disk.save("/small", "/large", "/small", until=12)

    assert ({"/large": "no time was left", "/small": "no time was left"}, 1) == (
        reasons(outcome), outcome.saved,
    )  # fmt: skip
    assert [1] == [path.stat().st_size for path in on_disk.files("data")]


def test_bytes_are_not_read_faster_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("workspace_agent.rescue.reading.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "workspace_agent.rescue.reading.sleep", lambda secs: now.__setitem__(0, now[0] + secs)
    )
    meter = Meter(None, 5 * MB)
    for _ in range(50):
        meter.moved(MB)

    assert 10.0 == pytest.approx(now[0])


def test_the_volume_keeps_its_reserve(on_disk: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from workspace_agent.host.room import Room

    monkeypatch.setattr(saving, "room", lambda _: Room(5000, 99, False))
    on_disk.write("/a", b"a" * 3000)
    on_disk.write("/b", b"b" * 900)
    outcome = on_disk.save("/a", "/b", min_free=3000)

    assert ({"/a": "there is no room left on the volume: it has 2.9 KiB"}, 1) == (
        reasons(outcome), outcome.saved,
    )  # fmt: skip
    assert outcome.problem
    assert "1 file outside the volume could not be saved" == outcome.problem.what


def test_what_changed_a_moment_ago_may_be_half_of_what_it_will_be(on_disk: World) -> None:
    on_disk.write("/busy", b"half")
    on_disk.write("/late", b"half, for a minute")
    quiet = {"/busy": 10**12, "/late": 0}
    outcome = on_disk.save("/busy", "/late", quiet=quiet.__getitem__)

    assert {"/busy": saving.BUSY} == reasons(outcome)
    assert outcome.problem is None
    assert ["/late"] == list(on_disk.chain().saved)


def test_no_owner_takes_more_than_its_share(on_disk: World) -> None:
    for n in range(9):
        on_disk.write(f"/{n}", os.urandom(MB))
    outcome = on_disk.save(*(f"/{n}" for n in range(9)), most=5 * MB)

    assert 4 <= outcome.saved <= 5
    assert all("for what is saved" in why for why in reasons(outcome).values())


def test_what_is_changed_again_and_again_does_not_fill_the_volume(on_disk: World) -> None:
    keep = os.urandom(100)
    on_disk.write("/keep", keep)
    on_disk.save("/keep")
    for n in range(60):
        on_disk.write("/a", os.urandom(2 * MB))
        on_disk.write("/large", os.urandom(9 * MB) if n % 10 == 0 else b"")
        on_disk.save("/a", "/large")

    assert sum(path.stat().st_size for path in on_disk.files("data")) < 60 * MB
    assert (on_disk.top / "a").read_bytes() == on_disk.bytes("/a")
    assert keep == on_disk.bytes("/keep")


def test_in_one_life_packs_are_compacted_too(on_disk: World) -> None:
    keep = os.urandom(100)
    on_disk.write("/keep", keep)
    with on_disk.running() as save:
        save("/keep")
        for _ in range(60):
            on_disk.write("/a", os.urandom(2 * MB))
            save("/a")

        assert sum(path.stat().st_size for path in on_disk.files("data")) < 50 * MB
    assert (on_disk.top / "a").read_bytes() == on_disk.bytes("/a")
    assert keep == on_disk.bytes("/keep")


def test_a_compaction_that_goes_on_in_another_pack_loses_nothing(on_disk: World) -> None:
    """What it moved is not looked for where it was when it began."""
    expected = {f"/keep{n}": os.urandom(3 * MB) for n in range(4)}
    with on_disk.running() as save:
        for path, data in expected.items():
            on_disk.write(path, data)
            on_disk.write("/filler", os.urandom(7 * MB))
            save(path)
            save("/filler")
        on_disk.write("/filler", b"")
        on_disk.write("/last", os.urandom(7 * MB))
        save("/last", "/filler")
        on_disk.write("/more", os.urandom(6 * MB))
        save("/more")
        for _ in range(3):
            on_disk.write("/last", os.urandom(5 * MB))
            save("/last")

    assert expected == {path: on_disk.bytes(path) for path in expected}
    assert (on_disk.top / "more").read_bytes() == on_disk.bytes("/more")


def test_what_another_process_of_this_life_is_about_to_name_stays(on_disk: World) -> None:
    on_disk.write("/a", os.urandom(MB))
    on_disk.write("/b", os.urandom(MB))
    on_disk.save("/a")
    with on_disk.running() as one, on_disk.running() as other:
        under_way, fd = other.run.packs.alone()
        os.close(fd)
        on_disk.write("/a", b"changed")
        one("/a")
        assert under_way in on_disk.data()
        other("/b")
        on_disk.write("/a", b"once more")
        one("/a")

    assert (on_disk.top / "b").read_bytes() == on_disk.bytes("/b")
    assert b"once more" == on_disk.bytes("/a")


# A volume that refuses, and kills.

FULL = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO]


def contents(world: World) -> dict[str, bytes]:
    world.write("/a", b"a" * 1000)
    world.write("/sub/b", b"b" * 2000)
    world.write("/c", b"c" * (9 * MB))
    (world.top / "l").symlink_to("a")
    return {name: (world.top / name[1:]).read_bytes() for name in ("/a", "/sub/b", "/c")}


PATHS = ("/a", "/sub", "/c", "/sub/b", "/l")


def whole(world: World, expected: dict[str, bytes]) -> list[str]:
    """Return what is saved, all of which has to be right."""
    saved = list(world.chain().saved) if world.runs() else []
    for path in saved:
        if path in expected:
            assert expected[path] == world.bytes(path), path
    return saved


@pytest.mark.parametrize("code", FULL, ids=errno.errorcode.get)
def test_a_volume_that_refuses_any_write_keeps_what_was_saved_before(
    tmp_path: Path, fated: Callable, code: int
) -> None:
    refused = 0
    for k in range(1, 40):
        world = World(tmp_path / str(k))
        expected = contents(world)
        outcome, slug = None, ""
        with fated(at=k, refuse=code) as fate:
            try:
                outcome = world.save(*PATHS)
                slug = outcome.problem.slug if outcome.problem else ""
            except OSError as error:
                assert code == error.errno
        if fate.seen < k:
            break
        saved = whole(world, expected)
        if "/c" not in saved and outcome:
            assert all(path.stat().st_size < MB for path in world.files("data"))
        if outcome:
            told = {*PATHS} - set(reasons(outcome))
            assert told <= set(saved)
            assert (len(told) == outcome.saved) and bool(outcome.left) == bool(slug)
        refused += slug == "rescue.not-saved"
        again = world.save(*PATHS)

        assert (None, []) == (again.problem, again.left)
        assert sorted(PATHS) == sorted(whole(world, expected))
    else:
        pytest.fail("it never ended")
    assert refused > 5


def test_killed_at_any_write_what_is_there_is_whole_and_the_next_one_completes_it(
    tmp_path: Path, killed: Callable, record_property: Callable
) -> None:
    k = 0
    while True:
        k += 1
        world = World(tmp_path / str(k))
        expected = contents(world)
        fate = killed(k, lambda world=world: world.save(*PATHS))
        if not fate.struck:
            break
        saved = whole(world, expected)
        if saved:
            assert (world.volume / ".workspace-agent/rescue/wanted").exists()
        again = world.save(*PATHS, run=RUNS[k % 2])

        assert (None, []) == (again.problem, again.left)
        assert sorted(PATHS) == sorted(whole(world, expected))
    record_property("kills of a saver", k - 1)
    assert k > 15


def test_a_kill_at_any_write_of_a_compaction_loses_nothing(
    tmp_path: Path, killed: Callable
) -> None:
    k = 0
    while True:
        k += 1
        world = World(tmp_path / str(k))
        world.write("/keep", b"keep")
        world.write("/a", os.urandom(4 * MB))
        world.save("/keep", "/a")
        world.write("/a", b"changed")
        fate = killed(k, lambda world=world: world.save("/a"))

        assert b"keep" == world.bytes("/keep")
        if not fate.struck:
            break
        world.save("/a")
        assert (b"keep", b"changed") == (world.bytes("/keep"), world.bytes("/a"))
    assert 1 == len(world.data())
    assert k > 4


# Runs.


def test_what_the_user_removed_is_gone_until_it_is_saved_again(twin: World) -> None:
    twin.write("/a")
    twin.save("/a")
    with twin.running() as save:
        save.run.gone(["/a", "/never-saved"])
    gone = twin.chain()
    twin.save("/a", run=RUNS[1])

    assert ({}, {"/a"}) == (gone.saved, gone.gone)
    assert ["/a"] == list(twin.chain().saved)


def test_a_chain_over_three_runs_has_the_newest_of_each(twin: World) -> None:
    for n, (changed, run) in enumerate(zip("abc", RUNS, strict=False)):
        for name in "abc":
            if name >= changed:
                twin.write(f"/{name}", f"{n}")
                os.utime(twin.top / name, (n, n))
        twin.save(*(f"/{name}" for name in "abc" if name >= changed), run=run)
    with twin.running(RUNS[1]) as save:
        save.run.gone(["/a"])

    assert {"/b": b"1", "/c": b"2"} == {path: twin.bytes(path) for path in twin.chain().saved}


def test_after_a_run_that_took_everything_it_alone_counts(twin: World) -> None:
    for name, run in zip("abc", RUNS, strict=False):
        twin.write(f"/{name}")
        twin.save(f"/{name}", run=run)
    with twin.running(RUNS[1]) as save:
        save.run.took()

    assert ["/b", "/c"] == sorted(twin.chain().saved)


def test_lines_that_cannot_be_read_are_passed_over_and_counted(twin: World) -> None:
    twin.write("/a")
    twin.write("/b")
    twin.save("/a")
    (file,) = twin.files("runs")
    with file.open("ab") as out:
        out.write(b"{garbage\n" + b"x" * 200_000 + b'\n{"path": "/b"')
    outcome = twin.save("/b")

    assert (1, ["/a", "/b"]) == (outcome.saved, sorted(twin.chain().saved))
    assert 3 == twin.read().unread


def test_a_run_of_a_newer_agent_is_left_alone(twin: World) -> None:
    twin.write("/a")
    twin.save("/a")
    (file,) = twin.files("runs")
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 2'))
    before = twin.stored()

    assert ({}, False, []) == (twin.chain().saved, twin.chain().known, twin.prune(0))
    assert before == twin.stored()


def test_what_was_left_is_on_record_once(twin: World) -> None:
    entry = replace(twin.entry_of(twin.write("/a")), size=7)
    with twin.running() as save:
        save.run.left([(entry, "no time was left")])
        save.run.left([(entry, "no time was left")])
        save.run.end("SIGTERM")
    found = twin.read()

    assert ("no time was left", 7, "SIGTERM") == (
        found.left["/a"].why, found.left["/a"].size, found.end,
    )  # fmt: skip
    assert 3 == len(twin.files("runs")[0].read_text().splitlines())


@pytest.mark.parametrize("seed", range(6))
def test_pruning_never_takes_what_a_remaining_run_names(on_disk: World, seed: int) -> None:
    chance = random.Random(seed)
    for run in RUNS:
        for _ in range(chance.randint(1, 5)):
            name = f"/{chance.choice('abcdef')}"
            on_disk.write(name, os.urandom(chance.choice([10, 70_000])))
            on_disk.save(name, run=run)
        if chance.random() < 0.5:
            on_disk.take(run)
    before = {path: on_disk.bytes(path) for path in on_disk.chain().saved}
    removed = on_disk.prune(keep=2)

    assert before == {path: on_disk.bytes(path) for path in on_disk.chain().saved}
    for run in on_disk.runs():
        for line in on_disk.read(run).saved.values():
            assert not line.file or line.file in on_disk.data()
    assert RUNS[-2:] == on_disk.runs()[-2:]
    assert not set(removed) & {*on_disk.runs(), *on_disk.data()}


def test_a_dry_run_of_pruning_says_the_same_and_removes_nothing(twin: World) -> None:
    for run in RUNS[:5]:
        twin.write("/a", run)
        twin.save("/a", run=run)
        twin.take(run)
    before = twin.stored()
    said = twin.prune(1, dry_run=True)

    assert before == twin.stored()
    assert said == twin.prune(keep=1)
    assert len(said) > 3


def test_pruning_leaves_other_owners_alone(twin: World) -> None:
    twin.write("/a")
    for run in RUNS[:3]:
        twin.save("/a", run=run, owner="other")
    before = twin.stored()
    for run in RUNS[:5]:
        twin.write("/a", run)
        twin.save("/a", run=run)
        twin.take(run)
    removed = twin.prune(keep=1)

    assert len(removed) > 3
    assert before.items() <= twin.stored().items()


@pytest.mark.parametrize("owner", ["wanted", "..", ".", "", "a/b", "../x", "a\nb", "%"])
def test_no_owner_leads_elsewhere(twin: World, owner: str) -> None:
    twin.write("/a")
    twin.save("/a", owner="me")
    twin.save("/a", owner=owner)
    folders = {p.name for p in (twin.volume / ".workspace-agent/rescue").iterdir() if p.is_dir()}

    assert 2 == len(folders)
    assert [".workspace-agent"] == os.listdir(twin.volume)
