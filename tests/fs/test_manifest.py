"""The manifest of the image's defaults, and the fingerprint that says which image's they are."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.steps import manifest
from workspace_agent.steps.manifest import Manifest, fingerprint

TREE = {".bashrc": "default\n", ".config/a": "a\n", "docs/": None, "link": Path("/etc/hosts")}
LONG_AGO = 1_600_000_000


@pytest.fixture(params=["openat2", "by parts"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by parts":
        monkeypatch.setattr("workspace_agent.host.safe_root._call", [None])


@pytest.fixture
def image(tmp_path: Path, plant: Callable) -> Iterator[SafeRoot]:
    with SafeRoot.at(str(planted(plant, tmp_path / "image"))) as root:
        yield root


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SafeRoot]:
    (tmp_path / "state").mkdir()
    with SafeRoot.at(f"{tmp_path}/state") as root:
        yield root


def planted(plant: Callable, folder: Path, content: dict[str, object] = TREE) -> Path:
    plant(folder, content)
    for path in folder.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    return folder


def file_of(state: SafeRoot, image: str) -> Path:
    return Path(f"{state.path}/defaults/{image}.jsonl.gz")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def written(image: SafeRoot, state: SafeRoot) -> str:
    mark = fingerprint(image)
    assert manifest.write(state, mark, manifest.defaults(image))
    return mark


def test_the_fingerprint_is_16_hex_digits_and_the_same_for_a_copy(
    image: SafeRoot, tmp_path: Path, plant: Callable
) -> None:
    mark = fingerprint(image)
    backwards = dict(reversed(TREE.items()))
    with SafeRoot.at(str(planted(plant, tmp_path / "copy", backwards))) as copy:
        assert fingerprint(copy) == mark
    assert (16, True) == (len(mark), set(mark) <= set("0123456789abcdef"))


def test_the_fingerprint_does_not_depend_on_the_order_of_the_walk(
    image: SafeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = fingerprint(image)
    plain = manifest.defaults
    monkeypatch.setattr(manifest, "defaults", lambda *args: reversed(list(plain(*args))))

    assert mark == fingerprint(image)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a new file": lambda at: (at / "new").touch(),
    "one less": lambda at: (at / ".bashrc").unlink(),
    "another size": lambda at: (at / ".bashrc").write_text("longer than it was\n"),
    "another time": lambda at: os.utime(at / ".bashrc", (LONG_AGO + 1, LONG_AGO + 1)),
    "another mode": lambda at: (at / ".bashrc").chmod(0o600),
    "another folder mode": lambda at: (at / "docs").chmod(0o700),
    "another name": lambda at: (at / "docs").rename(at / "docz"),
    "another link": lambda at: ((at / "link").unlink(), (at / "link").symlink_to("/etc/host")),
    "another kind": lambda at: ((at / "docs").rmdir(), (at / "docs").touch()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_in_the_image_changes_the_fingerprint(
    image: SafeRoot, change: Callable[[Path], object]
) -> None:
    mark = fingerprint(image)
    change(Path(image.path))

    assert mark != fingerprint(image)


def test_a_long_manifest_is_heard_of_while_it_is_read(
    image: SafeRoot, state: SafeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "_RUN", 2)
    heard: list[str] = []
    known = Manifest.of(state, written(image, state), heard.append)

    assert known is not None
    assert known.count // 2 == len(heard) > 1


def test_what_a_layer_does_not_keep_does_not_count(image: SafeRoot) -> None:
    mark = fingerprint(image)
    os.utime(f"{image.path}/.bashrc", ns=(0, LONG_AGO * 10**9 + 123_456_789))
    os.utime(f"{image.path}/docs", (5, 5))
    os.utime(f"{image.path}/link", (5, 5), follow_symlinks=False)

    assert mark == fingerprint(image)


def test_what_the_copier_leaves_out_is_no_default(image: SafeRoot, plant: Callable) -> None:
    mark = fingerprint(image)
    at = plant(Path(image.path), {"cache/x": "x", "volume/y": "y"})
    os.mkfifo(at / "fifo")
    volume = os.stat(at / "volume")

    assert mark == fingerprint(image, ("cache",), {(volume.st_dev, volume.st_ino)})


def test_a_manifest_gives_back_every_default(image: SafeRoot, state: SafeRoot) -> None:
    found = Manifest.of(state, written(image, state))

    assert found is not None
    entries = {one.path: (one.kind, one.size, one.target, one.sha256) for one in found}
    assert {
        ".bashrc": ("file", 8, "", sha("default\n")),
        ".config": ("folder", 0, "", ""),
        ".config/a": ("file", 2, "", sha("a\n")),
        "docs": ("folder", 0, "", ""),
        "link": ("link", 0, "/etc/hosts", ""),
    } == entries
    assert (5, True, False) == (found.count, ".config/a" in found, ".config/b" in found)


def test_paths_are_known_however_many_there_are(
    image: SafeRoot, state: SafeRoot, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "_RUN", 7)
    plant(Path(image.path), {f"many/{n}": "" for n in range(100)})
    found = Manifest.of(state, written(image, state))

    assert found is not None
    assert (106, 16) == (found.count, len(found._known))
    assert [f"many/{n}" in found for n in range(101)] == [True] * 100 + [False]


def test_names_that_are_no_text_come_back_as_they_were(image: SafeRoot, state: SafeRoot) -> None:
    names = [b"new\nline", b"\xff\xfe", b'"\\', "\u202ex".encode()]
    for name in names:
        os.close(os.open(os.fsencode(image.path) + b"/" + name, os.O_CREAT))
    found = Manifest.of(state, written(image, state))

    assert found is not None
    assert set(names) <= {os.fsencode(one.path) for one in found}


def test_an_image_that_is_not_the_one_meant_leaves_no_manifest(
    image: SafeRoot, state: SafeRoot
) -> None:
    assert not manifest.write(state, "0" * 16, manifest.defaults(image))
    assert [] == os.listdir(f"{state.path}/defaults")


def test_a_manifest_cut_anywhere_is_none(image: SafeRoot, state: SafeRoot) -> None:
    mark = written(image, state)
    whole = file_of(state, mark).read_bytes()
    taken = []
    for cut in range(len(whole)):
        file_of(state, mark).write_bytes(whole[:cut])
        taken.append(Manifest.of(state, mark) is not None)

    assert not any(taken)


def lines(*values: object) -> bytes:
    texts = (one if isinstance(one, str) else json.dumps(one) for one in values)
    return gzip.compress("".join(f"{text}\n" for text in texts).encode())


GOOD = {"path": "a", "kind": "file", "mode": 0, "size": 0, "mtime_ns": 0, "sha256": ""}
END = {"format": 1, "end": 1}
BAD: dict[str, bytes] = {
    "not packed": b"hello",
    "empty": b"",
    "no end": lines(GOOD),
    "a wrong count": lines(GOOD, END | {"end": 2}),
    "more after the end": lines(END | {"end": 0}, GOOD),
    "an absolute path": lines({**GOOD, "path": "/etc/passwd"}, END),
    "a path upwards": lines({**GOOD, "path": "a/../../b"}, END),
    "a NUL": lines({**GOOD, "path": "a\0b"}, END),
    "no path": lines({**GOOD, "path": ""}, END),
    "half a pair": lines({**GOOD, "path": "\ud800"}, END),
    "another kind": lines({**GOOD, "kind": "device"}, END),
    "a size that is none": lines({**GOOD, "size": "1"}, END),
    "a truth for a size": lines({**GOOD, "size": True}, END),
    "one key too many": lines({**GOOD, "x": 1}, END),
    "a newer one": lines(GOOD, END | {"format": 2}),
    "a list": lines([], END),
    "a deep list": lines("[" * 60_000, END),
    "a long number": lines('{"path": "a", "size": ' + "9" * 60_000 + "}", END),
    "a line too long": lines({**GOOD, "target": "x" * 70_000}, END),
    "a trap": lines(*[GOOD] * 30_000, END | {"end": 30_000}),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_a_manifest_that_is_not_sound_is_none(data: bytes, state: SafeRoot) -> None:
    Path(f"{state.path}/defaults").mkdir()
    file_of(state, "0" * 16).write_bytes(data)

    assert Manifest.of(state, "0" * 16) is None


def test_the_sound_one_beside_them_is_taken(state: SafeRoot) -> None:
    Path(f"{state.path}/defaults").mkdir()
    file_of(state, "0" * 16).write_bytes(lines(GOOD, END))

    assert Manifest.of(state, "0" * 16) is not None


@pytest.mark.parametrize("planted", ["a link", "a fifo", "a folder", "a link above"])
def test_a_manifest_that_is_no_file_is_none_and_holds_nobody_up(
    planted: str, image: SafeRoot, state: SafeRoot, tmp_path: Path
) -> None:
    mark = written(image, state)
    file = file_of(state, mark)
    file.rename(tmp_path / "elsewhere")
    if planted == "a link":
        file.symlink_to(tmp_path / "elsewhere")
    elif planted == "a fifo":
        os.mkfifo(file)
    elif planted == "a folder":
        file.mkdir()
    else:
        file.parent.rename(tmp_path / "real")
        (tmp_path / "elsewhere").rename(tmp_path / "real" / file.name)
        file.parent.symlink_to(tmp_path / "real")

    assert Manifest.of(state, mark) is None


def test_what_a_killed_boot_left_half_written_goes_in_time(
    image: SafeRoot, state: SafeRoot
) -> None:
    folder = Path(f"{state.path}/defaults")
    folder.mkdir()
    for name, age in (("x.1-a.new", 0), ("x.2-b.new", 7200), ("x.jsonl.gz", 7200)):
        (folder / name).touch()
        os.utime(folder / name, (os.stat(folder).st_mtime - age,) * 2)
    mark = written(image, state)

    assert {"x.1-a.new", "x.jsonl.gz", f"{mark}.jsonl.gz"} == set(os.listdir(folder))
