"""Environments on a volume that anybody can write to: real parts, real packers, the real disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from workspace_agent.host import safe_root
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model.problem import AgentError
from workspace_agent.replay import pack, store, transfer
from workspace_agent.replay.mark import Mark
from workspace_agent.replay.place import Place
from workspace_agent.replay.store import Manifest, Store
from workspace_agent.replay.tree import Tree, walk

KEY, OTHER, PROFILE = "0123456789abcdef", "fedcba9876543210", "cp311-x86_64"
SITE = "lib/python3.11/site-packages"
DISTS = {"a": "1.0"}


@pytest.fixture(params=["openat2", "by parts"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with the kernel's own way to stay below a folder, and with ours."""
    if request.param == "by parts":
        monkeypatch.setattr(safe_root, "_call", [None])


def environment(top: Path, text: str = "x = 1\n") -> Path:
    """Make what an installer leaves."""
    for name, content in {
        f"{SITE}/a/__init__.py": text,
        f"{SITE}/a/\N{SNOWMAN} with a space.py": text,
        f"{SITE}/a/back\\slash\\n.py": text,
        f"{SITE}/a-1.0.dist-info/RECORD": "a/__init__.py,,\n",
        "-x": "a name\n",
        "--checkpoint-action=exec=false": "another\n",
        "bin/python": "#!/bin/sh\n",
    }.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (top / "bin/python").chmod(0o755)
    (top / "lib64").symlink_to("lib")
    (top / SITE / "empty").mkdir()
    os.mkfifo(top / "fifo")
    return top


class World:
    """A volume with environments, and a container to bring them to."""

    def __init__(self, root: Path) -> None:
        self.volume, self.place = root / "volume", Place(f"{root}/place")
        (self.volume / ".workspace-agent").mkdir(parents=True)
        self.root = root

    @property
    def replay(self) -> Path:
        return self.volume / ".workspace-agent/replay"

    @property
    def stored(self) -> Path:
        return self.replay / f"store/{PROFILE}/{KEY}"

    def put(self, key: str = KEY) -> None:
        top = self.root / "built"
        if not top.exists():
            environment(top)
        with store.opened(str(self.volume), PROFILE, make=True) as there:
            mark = Mark(key, DISTS, built_secs=1.0)
            transfer.put(there, str(top), walk(str(top)), mark, {"lines": []}, lambda _: None)

    def bring(self, key: str = KEY) -> bool:
        with store.opened(str(self.volume), PROFILE) as there:
            return transfer.bring(there, self.place, key, lambda _: None)

    def edit(self, **more: object) -> None:
        """Change the manifest."""
        path = self.stored / "manifest.json"
        found = json.loads(path.read_text())
        if mark := more.pop("mark", {}):
            more["mark"] = {**found["mark"], **mark} if isinstance(mark, dict) else mark
        path.write_text(json.dumps({**found, **more}))

    def plant(self, *members: tarfile.TarInfo, content: bytes = b"evil") -> None:
        """Put *members* into the first part, so that size and digest are right."""
        (self.stored / "part-00").unlink()
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for member in members:
                member.size = len(content) if member.isreg() else 0
                archive.addfile(member, io.BytesIO(content))
        self.replace(gzip.compress(data.getvalue()))

    def replace(self, packed: bytes) -> None:
        (self.stored / "part-00").write_bytes(packed)
        digest = hashlib.sha256(packed).hexdigest()
        self.edit(codec="gzip", parts=[{"name": "part-00", "bytes": len(packed), "sha256": digest}])

    def tree(self, value: object) -> None:
        (self.stored / "tree.json.gz").write_bytes(gzip.compress(json.dumps(value).encode()))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("workspace_agent.replay.place.has_memory", lambda _: False)
    return World(tmp_path)


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_what_was_stored_comes_back_as_it_was(
    world: World, ways: None, codec: str, tree: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    if codec == "gzip":
        monkeypatch.setattr(pack, "codec", lambda: codec)
    world.put()
    assert world.bring()

    expected, found = tree(world.root / "built"), tree(Path(world.place.at(KEY)))
    del expected["fifo"], found[".workspace-agent.json"]
    assert expected == found
    assert DISTS == world.place.mark(KEY).dists


def test_without_tar_python_unpacks_the_same(
    world: World, tree: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "codec", lambda: "gzip")
    world.put()
    monkeypatch.setattr(pack, "which", lambda _: None)
    assert world.bring()

    expected, found = tree(world.root / "built"), tree(Path(world.place.at(KEY)))
    del expected["fifo"], found[".workspace-agent.json"]
    assert expected == found


@pytest.mark.parametrize("codec", ["zstd", "gzip", "gzip without tar"])
@pytest.mark.parametrize("damage", ["a byte", "the last byte", "the end", "all of it", "the file"])
def test_a_damaged_part_is_set_aside(
    world: World, damage: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if codec != "zstd":
        monkeypatch.setattr(pack, "codec", lambda: "gzip")
    world.put()
    if "without" in codec:
        monkeypatch.setattr(pack, "which", lambda _: None)
    part = sorted(world.stored.glob("part-*"))[-1]
    data = bytearray(part.read_bytes())
    if damage == "a byte":
        data[len(data) // 2] ^= 1
    elif damage == "the last byte":
        data[-6] ^= 1
    elif damage == "the end":
        del data[-1:]
    elif damage == "all of it":
        data = bytearray(len(data))
    part.write_bytes(data)
    if damage == "the file":
        part.unlink()

    assert not world.bring()
    assert not world.stored.exists()
    assert world.place.mark(KEY) is None
    world.put()
    assert world.bring()


def test_a_part_of_another_environment_is_not_taken(world: World) -> None:
    world.put()
    top = environment(world.root / "other", text="other = 2\n" * 99)
    (top / SITE / "a-1.0.dist-info").rename(top / SITE / "a-2.0.dist-info")
    with store.opened(str(world.volume), PROFILE, make=True) as there:
        mark = Mark(OTHER, {"a": "2.0"})
        transfer.put(there, str(top), walk(str(top)), mark, {}, lambda _: None)
    for part in sorted(world.stored.glob("part-*")):
        os.replace(world.replay / f"store/{PROFILE}/{OTHER}/{part.name}", part)

    assert not world.bring()
    assert not world.stored.exists()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


@pytest.mark.parametrize("tool", ["tar", "python"])
@pytest.mark.parametrize(
    "members",
    [
        (member("../../evil"),),
        (member("../../../../../../../../OUTSIDE/evil"),),
        (member("OUTSIDE/evil"),),
        (member("l", tarfile.SYMTYPE, "OUTSIDE"), member("l/evil")),
        (member("l", tarfile.SYMTYPE, "../.."), member("l/evil")),
        (member("l", tarfile.LNKTYPE, "OUTSIDE/precious"), member("l")),
        (member("l", tarfile.LNKTYPE, "../../outside/precious"), member("l")),
    ],
    ids=["up", "far up", "absolute", "link", "link up", "hard link", "hard link up"],
)
def test_a_hostile_part_writes_nothing_outside(
    world: World, members: tuple, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = world.root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    for one in members:
        one.name = one.name.replace("OUTSIDE", str(outside))
        one.linkname = one.linkname.replace("OUTSIDE", str(outside))
    world.put()
    world.plant(*members)
    if tool == "python":
        monkeypatch.setattr(pack, "which", lambda _: None)

    assert not world.bring()
    assert not world.stored.exists()
    assert ["precious"] == os.listdir(outside)
    assert "mine" == (outside / "precious").read_text()
    assert {"volume", "built", "outside", "place"} == set(os.listdir(world.root))


def test_nothing_that_is_brought_back_runs_as_its_owner(world: World) -> None:
    world.put()
    names = (f"{SITE}/a-1.0.dist-info/RECORD", "bin/python", "bin/su")
    world.plant(*(member(name, mode=0o6755) for name in names))
    assert world.bring()
    assert 0o755 == stat.S_IMODE(os.stat(f"{world.place.at(KEY)}/bin/su").st_mode)


FOLDERS = ["lib", "lib/python3.11", SITE, "bin"]


@pytest.mark.parametrize(
    "value",
    [
        3,
        [],
        {"folders": FOLDERS},
        {"folders": 3, "links": {}},
        {"folders": [3], "links": {}},
        {"folders": ["../x"], "links": {}},
        {"folders": ["/x"], "links": {}},
        {"folders": ["a/b"], "links": {}},
        {"folders": ["x" * 5000], "links": {}},
        {"folders": ["x\0"], "links": {}},
        {"folders": ["\ud800"], "links": {}},
        {"folders": FOLDERS, "links": ["a"]},
        {"folders": FOLDERS, "links": {"a": 3}},
        {"folders": FOLDERS, "links": {"a": ""}},
        {"folders": FOLDERS, "links": {"a": "\ud800"}},
        {"folders": FOLDERS, "links": {"lib": "/"}},
        {"folders": FOLDERS, "links": {"a": "OUTSIDE", "a/evil": "x"}},
        {"folders": [*FOLDERS, "a/b"], "links": {"a": "OUTSIDE"}},
    ],
)
def test_a_hostile_list_of_folders_and_links_is_set_aside(world: World, value: object) -> None:
    outside = world.root / "outside"
    outside.mkdir()
    world.put()
    world.tree(json.loads(json.dumps(value).replace("OUTSIDE", str(outside))))

    assert not world.bring()
    assert not world.stored.exists()
    assert [] == os.listdir(outside)


@pytest.mark.parametrize("at", [0, 3, 10, 12, -1])
def test_a_damaged_list_of_folders_and_links_is_set_aside(world: World, at: int) -> None:
    world.put()
    path = world.stored / "tree.json.gz"
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)

    assert not world.bring()
    assert not world.stored.exists()


@pytest.mark.parametrize(
    "more",
    [
        {"format": 2},
        {"mark": {"key": OTHER}},
        {"mark": 3},
        {"mark": {"torch": 3}},
        {"size": 10**400},
        {"size": -1},
        {"size": float("inf")},
        {"size": float("nan")},
        {"files": "many"},
        {"mark": {"built_secs": float("inf")}},
        {"codec": ["zstd"]},
        {"made": 3},
        {"mark": {"dists": []}},
        {"mark": {"dists": {"a": 1}}},
        {"facts": None},
        {"mark": {"said": 3}},
        {"mark": {"removed": None}},
        {"parts": 3},
        {"parts": [[1]]},
        {"parts": [{"name": "part-00"}]},
        {"parts": [{"name": "../part-00", "bytes": 3, "sha256": ""}]},
        {"parts": [{"name": "part-../x", "bytes": 3, "sha256": ""}]},
        {"parts": [{"name": "part-\0", "bytes": 3, "sha256": ""}]},
        {"parts": [{"name": "part-00", "bytes": 10**400, "sha256": ""}]},
        {"parts": [{"name": "part-00", "bytes": True, "sha256": ""}]},
        {"what": "is this"},
    ],
)
def test_a_hostile_manifest_is_none_and_a_build_replaces_it(world: World, more: dict) -> None:
    world.put()
    world.edit(**more)

    assert not world.bring()
    world.put()
    assert world.bring()
    assert DISTS == world.place.mark(KEY).dists


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"null", b"[" * 99999, b"\xff"])
def test_what_is_no_manifest_is_none(text: bytes) -> None:
    assert Manifest.parsed(text) is None


@pytest.mark.parametrize("name", ["manifest.json", "part-00", "tree.json.gz", "", "store"])
def test_a_link_in_the_store_leads_nowhere(world: World, ways: None, name: str) -> None:
    world.put()
    path = world.replay / "store" if name == "store" else world.stored / name
    path.rename(world.root / "elsewhere")
    path.symlink_to(world.root / "elsewhere")

    with suppress(OSError):  # of the folder of the store itself a boot says what it is
        assert not world.bring()
    assert world.place.mark(KEY) is None
    if name != "store":
        world.put()
        assert world.bring()


def test_what_is_in_use_is_not_pruned(world: World) -> None:
    keys = [f"{n:016x}" for n in range(4)]
    for n, key in enumerate(keys):
        folder = world.replay / f"store/{PROFILE}/{key}"
        folder.mkdir(parents=True)
        os.utime(folder, (n, n))
    with store.opened(str(world.volume), PROFILE) as there:
        there.use(keys[1])
        there.use(keys[0])
        assert {"current": keys[0], "previous": keys[1]} == there.current()
        assert [keys[2]] == there.prune(keep=1)
        assert [keys[3]] == there.prune(keep=0)
        assert keys[:2] == there.stored()


@pytest.mark.parametrize("text", ["", "[]", "3", '{"format": 1, "current": 3}', "\udcff"])
def test_a_note_that_nobody_can_read_is_none(world: World, text: str) -> None:
    world.put()
    (world.replay / f"current-{PROFILE}").write_bytes(text.encode("utf-8", "surrogateescape"))
    (world.replay / f"failed-{PROFILE}").write_bytes(text.encode("utf-8", "surrogateescape"))
    with store.opened(str(world.volume), PROFILE) as there:
        assert "" == there.failed(KEY)
        there.use(KEY)
        assert KEY == there.current()["current"]


def test_an_environment_is_there_whole_or_not_wherever_its_maker_died(
    world: World, killed: Callable
) -> None:
    """At each write in turn: what a reader finds then is usable, and `current` names what is."""
    world.put(OTHER)
    at = 0
    while True:
        at += 1
        fate = killed(at, lambda: world.put())
        with store.opened(str(world.volume), PROFILE) as there:
            assert there.current()["current"] in (KEY, OTHER)
            assert there.manifest(there.current()["current"]) is not None
            if there.manifest(KEY):
                assert world.bring()
                there.discard(KEY)
                there.use(OTHER)
            there.sweep()
        assert world.bring(OTHER)
        if not fate.struck:
            break
    assert at > 20
    assert not any(name.startswith("tmp-") for name in os.listdir(world.replay))


def test_a_container_that_died_while_it_restored_is_not_believed(
    world: World, killed: Callable
) -> None:
    world.put()
    at = 0
    while True:
        at += 1
        world.place.discard(KEY)
        fate = killed(at, lambda: world.bring())
        if world.place.mark(KEY):
            assert os.path.exists(f"{world.place.at(KEY)}/{SITE}/a-1.0.dist-info/RECORD")
            assert os.path.lexists(f"{world.place.at(KEY)}/lib64")
        if not fate.struck:
            break
    assert at > 8


def test_only_room_for_it_lets_it_be_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workspace_agent.replay.transfer.room", lambda _: os_room(1))
    with pytest.raises(AgentError) as caught:
        world.put()
    assert "replay.not-stored" == caught.value.problem.slug
    assert "1 B" in caught.value.problem.why


def os_room(free: int):
    from workspace_agent.host.room import Room

    return Room(free=free, inodes=1, read_only=False)


def test_shares_hold_each_file_once_in_order() -> None:
    files = [(f"f{n}", n * 1000) for n in range(100)]
    for count in (1, 2, 8):
        parts = Tree([], {}, files).shares(count)
        assert [name for name, _ in files] == [name for part in parts for name in part]
        assert len(parts) <= count
    assert [] == Tree([], {}, []).shares(8)
    assert 0 == Tree([], {}, []).size


def test_another_pod_that_was_first_has_won(world: World) -> None:
    world.put()
    first = (world.stored / "manifest.json").stat().st_ino
    world.put()
    assert first == (world.stored / "manifest.json").stat().st_ino
    assert not [name for name in os.listdir(world.replay) if name.startswith("tmp-")]


def test_a_store_is_opened_only_in_a_folder_of_ours(world: World, tmp_path: Path) -> None:
    world.replay.symlink_to(tmp_path)
    with pytest.raises(OSError), store.opened(str(world.volume), PROFILE, make=True):
        pass
    with SafeRoot.at(str(tmp_path)) as root:
        assert Store(root, PROFILE).stored() == []
