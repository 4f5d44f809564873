"""An environment packed and unpacked: with the programs of the image, and with ours."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model.problem import AgentError
from workspace_agent.replay import pack
from workspace_agent.replay.tree import walk

# What the image has of tar and the packers.
WAYS = [("tar", "zstd", "gzip"), ("tar", "gzip"), ("gzip",), ()]


@pytest.fixture(params=WAYS, ids=lambda way: "+".join(way) or "nothing")
def tools(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    found: Callable[[str], str | None] = pack.which
    if missing := [one for one in request.param if not found(one)]:
        pytest.skip(f"needs {' and '.join(missing)}")
    monkeypatch.setattr(pack, "which", lambda name: found(name) if name in request.param else None)
    return request.param


@pytest.fixture
def env(tmp_path: Path) -> Path:
    top = tmp_path / "env"
    (top / "lib/a b").mkdir(parents=True)
    (top / "bin").mkdir()
    (top / "empty").mkdir()
    for number in range(40):
        (top / f"lib/m{number}.py").write_text(f"{number}\n" * number)
    (top / "lib/a b/ümlaut.so").write_bytes(os.urandom(300_000))
    (top / "bin/run").write_text("#!/bin/sh\n")
    (top / "bin/run").chmod(0o755)
    (top / "bin/suid").write_text("x")
    (top / "bin/suid").chmod(0o4755)
    os.link(top / "lib/m7.py", top / "lib/same.py")
    (top / "lib64").symlink_to("lib")
    (top / "python").symlink_to("/usr/bin/python3")
    os.mkfifo(top / "fifo")
    return top


def seen(top: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode) & 0o777)
        elif path.is_dir():
            found[name] = "folder"
    return found


def packed(env: Path, tmp_path: Path) -> tuple[SafeRoot, tuple[pack.Part, ...], str]:
    (tmp_path / "store").mkdir()
    store, codec = SafeRoot.at(str(tmp_path / "store")), pack.codec()
    return store, pack.pack(str(env), walk(str(env)), store, codec, lambda _: None), codec


def test_what_comes_back_is_what_was_packed(tools, env: Path, tmp_path: Path) -> None:
    store, parts, codec = packed(env, tmp_path)
    (tmp_path / "back").mkdir()
    with store:
        pack.restore(store, parts, codec, str(tmp_path / "back"), lambda _: None)

    assert seen(env) == seen(tmp_path / "back")
    assert 0 == (tmp_path / "back/bin/suid").stat().st_mode & stat.S_ISUID


def test_no_folder_for_temporary_files_is_needed(
    tools, env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    store, parts, _ = packed(env, tmp_path)
    with store:
        assert parts


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "other"])
def test_a_part_that_is_not_what_it_was_is_said_to_be_damaged(
    tools, env: Path, tmp_path: Path, harm: str
) -> None:
    store, parts, codec = packed(env, tmp_path)
    largest = max(parts, key=lambda part: part.bytes)
    path = tmp_path / "store" / largest.name
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[:-9] if harm == "cut" else bytes(len(data)) if harm == "other" else data)
    if harm == "gone":
        path.unlink()
    (tmp_path / "back").mkdir()
    with store, pytest.raises((AgentError, FileNotFoundError)) as raised:
        pack.restore(store, parts, codec, str(tmp_path / "back"), lambda _: None)

    if harm != "gone":
        assert "replay.damaged" == raised.value.problem.slug
