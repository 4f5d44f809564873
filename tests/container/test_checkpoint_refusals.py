"""What does not fit, has failed before, or is another's: refused with the reason, a fresh start."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workspace_agent.checkpoint.artifact import sealed

sys.path.insert(0, str(Path(__file__).parent))

from checkpoint_tools import command, ledger, more, of, starter, starts, ticks, versions

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.container

CANARY = "canary-c9f1d2"


@pytest.fixture
def pod(placeholder_pod: Callable) -> Callable:
    """Starts containers that may freeze."""
    return starter(placeholder_pod)


def frozen(pod, until: Callable) -> None:
    """Let a workload run for a while, and freeze it by stopping its pod."""
    more(pod, until)
    assert pod.stop() == 143
    pod.remove()


def starts_afresh(pod, volume: Path, until: Callable, count: int = 2) -> str:
    """Assert that a workload is a new one; returns what the agent said."""
    until(lambda: len(starts(volume)) == count, "it starts afresh")
    until(lambda: ticks(pod), "it ticks")
    assert {token for _, _, token in ticks(pod)} == {starts(volume)[-1][1]}
    return pod.err


def goes_on(pod, volume: Path, until: Callable, count: int = 1) -> None:
    more(pod, until)
    assert len(starts(volume)) == count
    assert {token for _, _, token in ticks(pod)} <= {token for _, token in starts(volume)}


def edit(volume: Path, **facts: object) -> None:
    """Have the newest version say that it was made on another machine."""
    path = versions(volume)[-1] / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    manifest["facts"].update(facts)
    del manifest["sum"]
    path.write_bytes(sealed(manifest))


def test_a_machine_that_does_not_fit_is_told_with_all_reasons_at_once(
    pod: Callable, volume: Path, until: Callable
) -> None:
    frozen(pod("plain", volume), until)
    flags = of(volume, "facts")["cpu_flags"]
    edit(volume, arch="sparc", page=12345, criu=[99, 1], cpu_flags=[*flags, "avx9000"],
         uptime=9e9)  # fmt: skip
    one = pod("plain", volume)

    said = starts_afresh(one, volume, until)
    for word in ("for 5 reasons", "sparc", "12345", "99.1", "avx9000", "clock"):
        assert word in said, (word, said)
    shown = one.exec("workspace-agent", "--json", "restore", "--dry-run")
    assert shown.returncode == 3 and b"avx9000" in shown.stdout
    assert [line["state"] for line in ledger(volume) if line["what"] == "restore"] == ["refused"]


def test_one_that_failed_is_tried_once_and_a_new_one_again(
    pod: Callable, volume: Path, until: Callable
) -> None:
    frozen(pod("plain", volume), until)
    (pages,) = versions(volume)[-1].glob("criu/pages-*.img")
    pages.write_bytes(bytes(pages.stat().st_size))
    first = pod("plain", volume)
    assert "pages-1.img" in starts_afresh(first, volume, until)
    first.remove()
    second = pod("plain", volume)
    assert "not tried again" in starts_afresh(second, volume, until, 3)
    tried = [line["state"] for line in ledger(volume) if line["what"] == "restore"]
    assert tried == ["claimed", "failed"]
    frozen(second, until)
    goes_on(pod("plain", volume), volume, until, 3)


def test_whoever_stands_on_a_number_is_named(pod: Callable, volume: Path, until: Callable) -> None:
    frozen(pod("plain", volume), until)
    number = of(volume, "root")
    squat = (
        "import subprocess, sys, threading\n"
        f"while threading.get_native_id() < {number - 1}:\n"
        "    one = threading.Thread(target=lambda: seen.append(threading.get_native_id()))\n"
        "    seen = []; one.start(); one.join()\n"
        f"    if seen[0] >= {number - 1}: break\n"
        "subprocess.Popen(['sleep', '1000'])\n"
    )
    line = f'python3 -c "{squat}"\nexec /opt/workspace-agent/entrypoint.sh "$@"'
    one = pod(("-c", line, "sh", *command("plain")), volume, "--entrypoint=/bin/sh")

    said = starts_afresh(one, volume, until)
    assert f"process numbers are taken here: {number} (sleep)" in said, said
    one.remove()
    goes_on(pod("plain", volume), volume, until, 2)  # it is no fault of the checkpoint's


def test_a_word_that_names_no_version_is_named(
    pod: Callable, volume: Path, until: Callable
) -> None:
    frozen(pod("plain", volume), until)
    (current,) = (volume / ".workspace-agent/checkpoints").glob("*/current")
    current.write_text("../../etc\n")
    one = pod("plain", volume)

    said = starts_afresh(one, volume, until)
    assert "/current" in said and "checkpoint.broken" in said
    one.text("workspace-agent", "checkpoint", "--leave-running")
    one.remove()
    goes_on(pod("plain", volume), volume, until, 2)


def test_a_ledger_that_is_no_ledger_is_none(pod: Callable, volume: Path, until: Callable) -> None:
    frozen(pod("plain", volume), until)
    (path,) = (volume / ".workspace-agent/checkpoints").glob("*/attempts.jsonl")
    path.write_bytes(
        b'\xff{[]\n[1]\n{"what": "restore", "version": 7}\n\n' + path.read_bytes()[:-9]
    )

    goes_on(pod("plain", volume), volume, until)


def test_only_who_has_the_secret_makes_what_is_restored(
    pod: Callable, volume: Path, until: Callable, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "key").write_text("one")
    start = partial(pod, "plain", env={"WORKSPACE_AGENT__CHECKPOINT__SECRET": "/keys/key"})
    mount = f"--volume={keys}:/keys:ro"
    frozen(start(volume, mount), until)
    kept = tmp_path / "kept"
    shutil.copytree(volume, kept)
    goes_on(start(volume, mount), volume, until)

    def refused(name: str, act: Callable[[Path], object], word: str) -> None:
        copy = tmp_path / name
        shutil.copytree(kept, copy)
        act(versions(copy)[-1])
        one = start(copy, mount)
        assert word in starts_afresh(one, copy, until), name
        one.remove()

    refused("unsigned", lambda one: (one / "MANIFEST.hmac").unlink(), "checkpoint.unsigned")
    refused("edited", lambda one: edit(one.parents[4], uptime=1.0), "checkpoint.unsigned")
    (keys / "key").write_text("another")
    refused("another's", lambda one: one, "checkpoint.unsigned")
    (keys / "key").unlink()
    refused("no secret", lambda one: one, "checkpoint.no-secret")


def test_only_its_owner_reads_it_and_nobody_uses_one_that_others_may_write(
    pod: Callable, volume: Path, until: Callable
) -> None:
    frozen(pod("plain", volume, env={"SECRET_TOKEN": CANARY}), until)
    top = volume / ".workspace-agent/checkpoints"
    modes = {str(path): stat.S_IMODE(path.lstat().st_mode) for path in (top, *top.rglob("*"))}
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    texts = [path for path in top.rglob("*") if path.suffix in (".json", ".jsonl")]
    assert len(texts) == 2
    for path in texts:
        assert CANARY not in path.read_text()
    second = pod("plain", volume, env={"SECRET_TOKEN": CANARY})
    goes_on(second, volume, until)
    ids = json.loads(second.text("workspace-agent", "--json", "artifacts", "list"))
    name = ids["data"]["artifacts"][-1]["version"]
    told = second.text("workspace-agent", "--json", "artifacts", "show", name)
    logs = second.exec("grep", "-raq", CANARY, "/run/workspace-agent/logs")
    assert logs.returncode == 1
    assert CANARY not in told + second.err + second.out
    second.remove()
    top.chmod(0o770)
    one = pod("plain", volume)
    assert "checkpoint.not-private" in starts_afresh(one, volume, until)


def test_two_that_go_on_with_one_checkpoint_are_two(
    pod: Callable, volume: Path, until: Callable
) -> None:
    frozen(pod("plain", volume), until)
    both = [pod("plain", volume), pod("plain", volume)]
    for one in both:
        more(one, until)
    assert len(starts(volume)) == 1
    told = [json.loads(one.text("cat", "/run/workspace-agent/control/identity.json"))
            for one in both]  # fmt: skip
    for name in ("seed", "attempt"):
        assert told[0][name] != told[1][name], name
    states = [line["state"] for line in ledger(volume) if line["what"] == "restore"]
    assert sorted(states) == ["claimed", "claimed", "done", "done"]
