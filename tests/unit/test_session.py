"""Where a verb stands: whose environment, which folder, which boot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.app import session as sessions
from workspace_agent.app.session import Session, running


def own_start() -> int:
    stat = Path("/proc/self/stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[19])


def at(folder: Path | str) -> Session:
    return Session({}, "/install", False, str(folder))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"", {}),
        (b"A=1\0B=\0", {"A": "1", "B": ""}),
        (b"A=b=c\0", {"A": "b=c"}),
        (b"A=\xff\0", {"A": "\udcff"}),
        (b"A=two\nlines\0", {"A": "two\nlines"}),
        (b"A=1", {"A": "1"}),
    ],
)
def test_an_environ_block_becomes_variables(
    block: bytes, expected: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "environ").write_bytes(block)

    assert expected == at(tmp_path).workload_environ()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema": 2}', "\0"])
def test_a_state_file_that_is_damaged_or_newer_is_absent(text: str, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(text)

    assert at(tmp_path).read("status.json") is None


def test_a_state_file_of_this_schema_is_read(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"schema": 1, "later": true}')

    assert {"schema": 1, "later": True} == at(tmp_path).read("status.json")


def test_without_a_runtime_folder_everything_is_absent() -> None:
    assert (None, {}) == (at("").read("status.json"), at("").workload_environ())


def test_a_process_that_is_the_one_it_was_runs() -> None:
    assert running({"pid": os.getpid(), "started": own_start()})


@pytest.mark.parametrize(
    "agent",
    [None, {}, {"pid": os.getpid()}, {"pid": os.getpid(), "started": 1}, {"pid": 2**22 + 1}],
    ids=["no file", "empty", "no start", "pid used again", "gone"],
)
def test_any_other_does_not(agent: dict[str, int] | None) -> None:
    assert not running(agent)


@pytest.fixture
def world(tmp_path: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch) -> Path:
    plant(tmp_path, {"run/": None})
    (tmp_path / "run").chmod(0o755)
    for name in [name for name in os.environ if name.startswith("WORKSPACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WORKSPACE_AGENT_RUNTIME", str(tmp_path / "run"))
    return tmp_path


def test_the_environment_is_the_running_agents_with_the_flags_over_it(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = {"schema": 1, "pid": os.getpid(), "started": own_start()}
    (world / "run/agent.json").write_text(json.dumps(agent))
    monkeypatch.setenv("ONLY_HERE", "x")  # not in /proc/self/environ: set after the start
    found = sessions.find({"WORKSPACE_VOLUME": "/flag"})

    assert "/flag" == found.environ["WORKSPACE_VOLUME"]
    assert "ONLY_HERE" not in found.environ
    assert str(world / "run") == found.environ["WORKSPACE_AGENT_RUNTIME"]


def test_without_an_agent_the_environment_is_the_callers(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_HERE", "x")

    assert "x" == sessions.find({}).environ["ONLY_HERE"]


@pytest.mark.parametrize("name", ["agent.json", "status.json"])
def test_a_folder_that_a_boot_or_a_set_up_used_is_found(name: str, world: Path) -> None:
    unused = sessions.find({}).runtime
    (world / "run" / name).write_text("{}")

    assert ("", str(world / "run")) == (unused, sessions.find({}).runtime)


def test_a_folder_that_everybody_may_write_to_is_not_trusted(world: Path) -> None:
    (world / "run/agent.json").write_text("{}")
    (world / "run").chmod(0o777)

    assert "" == sessions.find({}).runtime


def test_a_dry_run_makes_no_runtime_folder(world: Path) -> None:
    (world / "run").rmdir()
    environ = {"WORKSPACE_AGENT_RUNTIME": str(world / "run"), "HOME": str(world), "PATH": "/x",
               "WORKSPACE_VOLUME": str(world / "v"), "WORKSPACE_AGENT_SYSTEM": "0"}  # fmt: skip
    opening = Session(environ, str(world), False, "").open(dry_run=True)

    assert str(world / "run") == opening.facts.runtime
    assert not (world / "run").exists()
