"""What was saved comes back: never over something newer, never through a link."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from rescued import RUNS, World

from workspace_agent.app.boot import run
from workspace_agent.model.outcome import Ok, Report, Status, Todo
from workspace_agent.rescue.lines import Saved, encode


def quiet(_: str) -> None: ...


def back(world: World, number: int = 1, **more: object) -> object:
    return world.step(RUNS[number], **more).apply(quiet)


def lived(world: World, plant: Callable, content: Mapping[str, object], **more: object) -> None:
    """Have *content* in a container, saved, and the container gone."""
    plant(world.top, content)
    paths = sorted(str(p)[len(str(world.top)) :] for p in world.top.rglob("*"))
    assert [] == world.save(*paths, **more).left
    world.dies()


TREE = {
    "home/deep/a.py": "print()\n",
    "home/empty/": None,
    "home/link": Path("deep/a.py"),
    "home/gone": Path("/nowhere"),
    "nothing": "",
}


def test_a_fresh_container_gets_back_what_the_last_one_had(
    twin: World, plant: Callable, tree: Callable
) -> None:
    lived(twin, plant, TREE)
    first = twin.step().check()
    problem = back(twin)

    assert tree(twin.top.parent / "dead-2") == tree(twin.top)
    assert (Todo, None, Ok("7 restored")) == (type(first), problem, twin.step().check())


def test_modes_owners_times_and_attributes_come_back(on_disk: World, tree: Callable) -> None:
    path = on_disk.write("/home/folder/a.py")
    os.setxattr(path, "user.note", b"\0mine")
    path.chmod(0o6755)
    os.chown(path, 1234, 5678)
    os.utime(path, ns=(1, 10**18 + 1))
    path.parent.chmod(0o2555)
    os.utime(path.parent, ns=(1, 10**18 + 2))
    path.parent.parent.chmod(0o1777)
    on_disk.save("/home", "/home/folder", "/home/folder/a.py")
    on_disk.dies()
    back(on_disk)
    info, above = path.stat(), path.parent.stat()

    assert (0o100755, 1234, 5678, 10**18 + 1) == (
        info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns,
    )  # fmt: skip
    assert (0o40555, 10**18 + 2) == (above.st_mode, above.st_mtime_ns)
    assert 0o41777 == path.parent.parent.stat().st_mode
    assert b"\0mine" == os.getxattr(path, "user.note")


def test_holes_hard_links_and_deep_paths_come_back(on_disk: World) -> None:
    sparse = on_disk.write("/sparse", "")
    with sparse.open("r+b") as file:
        file.truncate(8 << 30)
        file.seek(5 << 30)
        file.write(b"data")
    on_disk.write("/b", b"x" * 1000)
    (on_disk.top / "a").hardlink_to(on_disk.top / "b")
    deep = on_disk.deep("d" * 200, 30, b"deep down")
    on_disk.save("/sparse", "/b", "/a", deep)
    on_disk.dies()

    assert back(on_disk) is None
    with sparse.open("rb") as file:
        file.seek(5 << 30)
        assert (b"data", 8 << 30) == (file.read(4), sparse.stat().st_size)
    assert sparse.stat().st_blocks * 512 < 1 << 20
    assert (on_disk.top / "a").samefile(on_disk.top / "b")
    assert on_disk.has_deep(deep, b"deep down")


@pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"n" * 255, b"\x1b[2J"])
def test_a_name_comes_back_as_it_was(on_disk: World, plant: Callable, name: bytes) -> None:
    lived(on_disk, plant, {os.fsdecode(name): "content"})
    back(on_disk)

    assert [name] == os.listdir(os.fsencode(on_disk.top))


def test_a_large_file_comes_back(on_disk: World, plant: Callable) -> None:
    data = os.urandom(9 << 20)
    lived(on_disk, plant, {"large": data})
    back(on_disk)

    assert data == (on_disk.top / "large").read_bytes()


# What is there by then.


def untouched(info: os.stat_result) -> bool:
    return info.st_mtime_ns == 7


def image_has(world: World, path: str, text: str) -> None:
    os.utime(world.write(path, text), ns=(7, 7))


def changed_in_the_image(world: World, image: str = "i", *, added: bool = False) -> None:
    """Have a file of the image, which was changed in the last container, or *added* by a rename."""
    world.write("/etc-like/a", "changed")
    entry = world.entry("/etc-like/a", added=added)
    world.save(entry, image=image)
    world.dies()
    image_has(world, "/etc-like/a", "image")


def names(world: World) -> dict[str, str]:
    found = (p for p in sorted(world.top.rglob("*")) if p.is_file() and not p.is_symlink())
    return {str(p.relative_to(world.top)): p.read_text() for p in found}


def test_something_newer_stays_and_the_saved_one_comes_beside_it(
    twin: World, plant: Callable
) -> None:
    lived(twin, plant, {"a.py": "old"})
    twin.write("/a.py", "newer")
    problem = back(twin)
    again = twin.save("/a.py", run=RUNS[1])

    (name,) = {*names(twin)} - {"a.py"}
    assert name.startswith("a.py.rescued-20")
    assert {"a.py": "newer", name: "old"} == names(twin)
    assert ("rescue.beside", 1) == (problem.slug, again.saved)


def test_what_came_beside_does_not_come_again_and_again(twin: World, plant: Callable) -> None:
    lived(twin, plant, {"a.py": "old"})
    for n in range(1, 4):
        twin.write("/a.py", "the image's")
        problem = back(twin, n)
        beside = next(path for path in names(twin) if "rescued" in path)
        twin.save(f"/{beside}", run=RUNS[n])
        assert [beside] == [path for path in names(twin) if "rescued" in path]
        assert ("rescue.beside" if n == 1 else None) == getattr(problem, "slug", None) or n > 1
        twin.dies()


def test_an_untouched_file_of_the_same_image_is_replaced_and_undo_brings_it_back(
    twin: World,
) -> None:
    changed_in_the_image(twin)
    problem = back(twin, untouched=untouched)
    replaced = names(twin)
    undone = twin.step(untouched=untouched).undo()

    assert (None, {"etc-like/a": "changed"}) == (problem, replaced)
    assert [("/etc-like/a", "undone")] == [(path, one.how) for path, one in undone]
    assert {"etc-like/a": "image"} == names(twin)


def test_a_file_that_an_editor_put_in_the_place_of_the_images_comes_back_there(
    twin: World,
) -> None:
    changed_in_the_image(twin, added=True)
    problem = back(twin, untouched=untouched)

    assert (None, {"etc-like/a": "changed"}) == (problem, names(twin))


def test_an_image_file_that_is_newer_is_never_replaced(twin: World) -> None:
    """Images of one name, or of the same folders, may differ after all."""
    changed_in_the_image(twin)
    later = twin.chain().saved["/etc-like/a"].mtime_ns + 10**9
    os.utime(twin.write("/etc-like/a", "image"), ns=(later, later))
    problem = back(twin, untouched=lambda info: info.st_mtime_ns == later)

    assert "rescue.beside" == problem.slug
    assert "image" == names(twin)["etc-like/a"]


def test_a_file_of_another_image_is_never_replaced(twin: World) -> None:
    changed_in_the_image(twin, image="another")
    problem = back(twin, untouched=untouched)

    assert "rescue.beside" == problem.slug
    assert "image" == names(twin)["etc-like/a"]
    assert 2 == len(names(twin))


def test_a_mode_that_was_changed_is_replaced_too(on_disk: World) -> None:
    image_has(on_disk, "/tool", "same")
    (on_disk.top / "tool").chmod(0o755)
    on_disk.save(on_disk.entry("/tool", added=False))
    on_disk.dies()
    image_has(on_disk, "/tool", "same")
    back(on_disk, untouched=untouched)

    assert 0o755 == (on_disk.top / "tool").stat().st_mode & 0o777


@pytest.mark.parametrize("same", ["size and time", "content"])
def test_what_is_there_already_stays_untouched(twin: World, plant: Callable, same: str) -> None:
    lived(twin, plant, {"a.py": "same"})
    path = twin.write("/a.py", "same")
    line = twin.chain().saved["/a.py"]
    os.utime(path, ns=(9, line.mtime_ns if same == "size and time" else 9))
    before = path.stat().st_mtime_ns, path.stat().st_ino
    problem = back(twin)

    assert (None, before) == (problem, (path.stat().st_mtime_ns, path.stat().st_ino))
    assert ["a.py"] == os.listdir(twin.top)


@pytest.mark.parametrize("size", [0, 9 << 20])
def test_a_hole_is_not_taken_for_what_is_in_its_place(on_disk: World, size: int) -> None:
    os.truncate(on_disk.write("/a", b""), size)
    on_disk.save("/a")
    on_disk.dies()
    on_disk.write("/a", b"x" * size)
    problem = back(on_disk)

    assert ("rescue.beside" if size else None) == (problem and problem.slug)
    assert b"x" * size == (on_disk.top / "a").read_bytes()


def test_what_does_not_come_by_itself_is_kept_and_comes_when_asked_for(
    twin: World, plant: Callable
) -> None:
    plant(twin.top, {"etc/motd": "hello", "data/set": "bytes", "a.py": "code"})
    twin.save("/etc/motd", twin.entry("/data/set", "datasets"), "/a.py")
    twin.dies()
    problem = back(twin)
    by_itself = names(twin)
    for n in (2, 3):
        twin.dies()
        back(twin, n)
    twin.prune(keep=1)
    found = twin.step(RUNS[3]).restore(lambda one: one.path.startswith(("/etc", "/data")))

    assert (None, {"a.py": "code"}) == (problem, by_itself)
    assert {"restored": 2} == Counter(verdict.how for _, verdict in found.done)
    assert {"a.py": "code", "data/set": "bytes", "etc/motd": "hello"} == names(twin)


def test_more_than_the_budget_is_offered(twin: World, plant: Callable) -> None:
    lived(twin, plant, {"a": "x" * 100, "b": "x" * 100, "c": "x"})
    back(twin, most_bytes=150)

    assert {"a", "c"} == set(names(twin))
    assert {"/a", "/b", "/c"} <= twin.chain().saved.keys()


def test_restoring_elsewhere_or_only_in_words_changes_nothing_here(
    twin: World, plant: Callable, tree: Callable
) -> None:
    lived(twin, plant, {"home/a.py": "code"})
    elsewhere = twin.top.parent / "elsewhere"
    elsewhere.mkdir()
    before = twin.stored()
    words = twin.step().restore(lambda _: True, dry_run=True)
    there = twin.step().restore(lambda one: one.type == "f", to=str(elsewhere))

    assert {"restored"} == {verdict.how for _, verdict in (*words.done, *there.done)}
    assert ({}, "code") == (tree(twin.top), (elsewhere / "home/a.py").read_text())
    assert before == twin.stored()


def test_undo_leaves_what_changed_since_and_no_boot_does_it_again(
    twin: World, plant: Callable
) -> None:
    lived(twin, plant, {"home/a.py": "a", "home/b.py": "b"})
    back(twin)
    twin.write("/home/a.py", "changed since")
    undone = dict(twin.step().undo())
    after = names(twin)
    twin.dies()
    back(twin, 2)
    asked = twin.step(RUNS[2]).restore(lambda one: one.path == "/home/b.py")

    assert {"home/a.py": "changed since"} == after
    assert "left" == undone["/home/a.py"].how
    assert [("/home/b.py", "restored")] == [(path, one.how) for path, one in asked.done]
    assert {"home/b.py": "b"} == names(twin)


# What the user removed.


def test_what_was_removed_does_not_come_back_in_the_same_container(
    twin: World, plant: Callable
) -> None:
    lived(twin, plant, {"a.py": "a", "b.py": "b"})
    back(twin)
    (twin.top / "a.py").unlink()
    report = run([twin.step(needs=())], Report())

    assert ([Status.OK], {"b.py": "b"}) == ([row.status for row in report.rows], names(twin))


def test_what_was_removed_and_told_does_not_come_back_in_the_next_one(
    twin: World, plant: Callable
) -> None:
    lived(twin, plant, {"a.py": "a", "b.py": "b"})
    back(twin)
    with twin.running(RUNS[1]) as save:
        save.run.gone(["/a.py"])
    twin.dies()
    back(twin, 2)

    assert {"b.py": "b"} == names(twin)


# Bytes that are not right.


def test_damaged_bytes_do_not_come_back_and_are_told(twin: World, plant: Callable) -> None:
    lived(twin, plant, {"a\n.py": "precious", "b.py": "other"})
    (pack,) = twin.files("data")
    pack.write_bytes(pack.read_bytes().replace(b"precious", b"Precious"))
    problem = back(twin)

    assert ("rescue.damaged", {"b.py": "other"}) == (problem.slug, names(twin))
    assert "a\\n.py" in " ".join(problem.lines())
    assert all(line.isprintable() for line in problem.lines())


@pytest.mark.parametrize("how", ["missing", "short", "a link", "a folder"])
def test_data_that_is_not_there_is_told(on_disk: World, plant: Callable, how: str) -> None:
    lived(on_disk, plant, {"a.py": "precious"})
    (pack,) = on_disk.files("data")
    pack.unlink()
    if how == "short":
        pack.write_bytes(b"prec")
    elif how == "a link":
        pack.with_name("x").write_bytes(b"precious")
        pack.symlink_to("x")
    elif how == "a folder":
        pack.mkdir()
    problem = back(on_disk)

    assert [] == os.listdir(on_disk.top)
    assert problem.slug in ("rescue.damaged", "rescue.refused")


def test_a_forged_line_gives_no_privilege(on_disk: World, plant: Callable) -> None:
    lived(on_disk, plant, {"a.py": "x"})
    line = on_disk.chain().saved["/a.py"]
    (file,) = on_disk.files("runs")
    forged = encode(line).replace(b'"mode": 420', b'"mode": 36333')
    assert b"36333" in forged
    with file.open("ab") as out:
        out.write(forged)
        out.write(encode(line).replace(b"/a.py", b"/x/../../../escaped"))
    back(on_disk)

    assert 0 == (on_disk.top / "a.py").stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    assert ["a.py"] == os.listdir(on_disk.top)
    assert not (on_disk.top.parent / "escaped").exists()


# Links, and targets that refuse.


@pytest.mark.parametrize("where", ["the folder", "its folder", "the name", "the name, dangling"])
def test_nothing_is_put_back_through_a_link(
    on_disk: World, plant: Callable, tree: Callable, where: str, tmp_path: Path
) -> None:
    lived(on_disk, plant, {"home/deep/a.py": "ours", "other.py": "fine"})
    precious = plant(tmp_path / "precious", {"a.py": "theirs", "deep/a.py": "theirs"})
    before = tree(precious)
    at = {"the folder": "home", "its folder": "home/deep"}.get(where, "home/deep/a.py")
    link = on_disk.top / at
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(
        precious / ("none" if "dangling" in where else "a.py" if "name" in where else "")
    )
    problem = back(on_disk)

    assert before == tree(precious)
    assert link.is_symlink()
    assert "fine" == (on_disk.top / "other.py").read_text()
    assert ("rescue.beside" if "name" in where else "rescue.refused") == problem.slug


def test_a_link_that_saved_lines_plant_leads_nowhere(on_disk: World, tmp_path: Path) -> None:
    """A link first, then a file below it: the lines of two runs could say so."""
    (tmp_path / "precious").mkdir()
    on_disk.write("/x/a", "ours")
    on_disk.save("/x/a")
    link = Saved("/x", "l", 0o777, 0, 0, 0, 1, "code", to=str(tmp_path / "precious"))
    with on_disk.files("runs")[0].open("ab") as out:
        out.write(encode(link))
    on_disk.dies()
    problem = back(on_disk)

    assert [] == os.listdir(tmp_path / "precious")
    assert problem is None or problem.slug == "rescue.refused"


REFUSALS = [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO]


@pytest.mark.parametrize("code", REFUSALS, ids=errno.errorcode.get)
def test_a_target_that_refuses_is_told_and_the_rest_comes_back(
    twin: World, plant: Callable, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    lived(twin, plant, {"a.py": "a", "b.py": "b", "c.py": "c"})
    real = os.utime

    def utime(target: object, *args: object, **more: object) -> None:
        count.append(1)
        if len(count) == 2:
            raise OSError(code, os.strerror(code))
        real(target, *args, **more)

    count: list[int] = []
    monkeypatch.setattr(os, "utime", utime)
    problem = back(twin)

    assert ("rescue.refused", "/b.py") == (problem.slug, problem.where)
    assert os.strerror(code) in problem.why
    assert {"a.py", "c.py"} == set(os.listdir(twin.top))


def test_a_volume_that_refuses_the_journal_gets_nothing_put_back(
    twin: World, plant: Callable, fated: Callable
) -> None:
    """What nobody could undo, or tell from the user's own doing, is not done."""
    lived(twin, plant, {"a.py": "a"})
    with fated(at=1, refuse=errno.EROFS), pytest.raises(OSError, match="Read-only"):
        back(twin)

    assert [] == os.listdir(twin.top)


# The laws of a step.


def stand(at: Path) -> World:
    world = World(at)
    world.write("/home/deep/a.py", "a")
    world.write("/home/deep/b.py", "b" * 5000)
    (world.top / "home/link").symlink_to("deep/a.py")
    world.write("/home/newer", "old")
    world.write("/home/image", "changed")
    world.write("/etc/motd", "kept")
    (world.top / "home/deep").chmod(0o750)
    paths = ("/home", "/home/deep", "/home/deep/a.py", "/home/deep/b.py", "/home/link")
    image = world.entry("/home/image", added=False)
    world.save(*paths, "/home/newer", image, "/etc/motd")
    world.dies()
    world.write("/home/newer", "newer")
    image_has(world, "/home/image", "image")
    return world


def boots(world: World) -> object:
    return world.step(untouched=untouched, needs=())


def outcome(world: World, tree: Callable) -> object:
    return tree(world.top), sorted(world.chain().saved.values(), key=lambda one: one.path)


def test_check_writes_nothing(tmp_path: Path, tree: Callable) -> None:
    world = stand(tmp_path / "w")
    before = tree(tmp_path, times=True)
    found = boots(world).check()

    assert (Todo, before) == (type(found), tree(tmp_path, times=True))


def test_applied_once_there_is_nothing_to_do_and_nothing_is_written(
    tmp_path: Path, tree: Callable
) -> None:
    world = stand(tmp_path / "w")
    first = run([boots(world)], Report())
    before = tree(tmp_path, times=True)
    second = run([boots(world)], Report())

    assert [Status.CHANGED, Status.OK] == [one.rows[0].status for one in (first, second)]
    assert first.rows[0].why == second.rows[0].why
    assert before == tree(tmp_path, times=True)


def test_applied_twice_is_applied_once(tmp_path: Path, tree: Callable) -> None:
    once, twice = stand(tmp_path / "one"), stand(tmp_path / "two")
    boots(once).apply(quiet)
    boots(twice).apply(quiet)
    boots(twice).apply(quiet)

    assert tree(once.top).keys() == tree(twice.top).keys()
    assert {k: v for k, v in tree(once.top).items() if "rescued" not in k} == {
        k: v for k, v in tree(twice.top).items() if "rescued" not in k
    }


def test_killed_at_any_write_the_next_boot_ends_as_if_never_killed(
    tmp_path: Path, tree: Callable, killed: Callable, record_property: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("workspace_agent.rescue.back.beside", lambda one: f"{one.path}.rescued-x")
    expected = stand(tmp_path / "whole")
    boots(expected).apply(quiet)
    k = 0
    while True:
        k += 1
        world = stand(tmp_path / str(k))
        fate = killed(k, lambda world=world: boots(world).apply(quiet))
        if not fate.struck:
            break
        report = run([boots(world)], Report())

        assert tree(expected.top) == tree(world.top), k
        assert set(expected.chain().saved) == set(world.chain().saved)
        assert [Status.CHANGED] == [row.status for row in report.rows] or world.read(RUNS[1]).took
        undone = Counter(one.how for _, one in boots(world).undo())
        assert {"undone"} == set(undone), k
        assert {"home/image": "image", "home/newer": "newer"} == names(world)
    record_property("kills of a putting back", k - 1)
    assert k > 30


def test_killed_with_its_container_the_next_one_gets_everything(
    tmp_path: Path, tree: Callable, killed: Callable
) -> None:
    for k in range(1, 80, 5):
        world = stand(tmp_path / str(k))
        killed(k, lambda world=world: boots(world).apply(quiet))
        world.dies()
        world.step(RUNS[2], untouched=untouched).apply(quiet)

        assert {"home/deep/a.py", "home/deep/b.py", "home/image", "home/newer"} == set(names(world))
        assert "changed" == names(world)["home/image"]


def test_what_was_put_back_is_unchanged_for_the_next_saver(on_disk: World, plant: Callable) -> None:
    lived(on_disk, plant, {"a.py": "a", "b": "x" * 100_000})
    back(on_disk)
    found = on_disk.save("/a.py", "/b", run=RUNS[1])

    assert (0, 2, 0) == (found.saved, found.unchanged, found.bytes)


def test_what_takes_the_name_at_the_last_moment_stays(
    twin: World, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workspace_agent.rescue import put

    lived(twin, plant, {"a.py": "ours"})
    real = put.dress

    def dress(fd: int, saved: Saved) -> None:
        real(fd, saved)
        twin.write("/a.py", "theirs")

    monkeypatch.setattr(put, "dress", dress)
    problem = back(twin)

    assert ("rescue.refused", {"a.py": "theirs"}) == (problem.slug, names(twin))


def test_an_image_file_that_changes_at_the_last_moment_is_not_replaced(
    twin: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workspace_agent.rescue import put

    changed_in_the_image(twin)
    real = put.dress

    def dress(fd: int, saved: Saved) -> None:
        real(fd, saved)
        (twin.top / "etc-like/a").unlink()
        twin.write("/etc-like/a", "just now")

    monkeypatch.setattr(put, "dress", dress)
    problem = back(twin, untouched=untouched)

    assert ("rescue.refused", {"etc-like/a": "just now"}) == (problem.slug, names(twin))
