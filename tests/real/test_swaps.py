"""Folders become links while we work in them, thousands of times: nothing is touched outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.host import safe_root
from workspace_agent.host.openat2 import bound
from workspace_agent.host.safe_root import SafeRoot

SWAPPER = str(Path(__file__).with_name("swapper.py"))
SWAPS = 10_000
PRECIOUS = b"precious"


class Work:
    """The operations, on names that are swapped meanwhile; *ends* counts how each of them went."""

    def __init__(self, safe: SafeRoot) -> None:
        self.safe = safe
        self.ends: Counter[tuple[str, bool]] = Counter()
        self.read: set[bytes | None] = set()

    def do(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError:
            self.ends[name, False] += 1
        else:
            self.ends[name, True] += 1

    def round(self, number: int) -> None:
        safe, do = self.safe, self.do
        for at in ("d", "a/b/d"):
            do("folder", lambda at=at: os.close(safe.folder(f"{at}/made{number}/in", 0o755).fd))
            do("commit", lambda at=at: safe.commit(f"{at}/file", "ours"))
            do("commit deep", lambda at=at: safe.commit(f"{at}/sub/file", "ours"))
            do("create", lambda at=at: safe.create(f"{at}/new{number}", "ours"))
            do("rename from", lambda at=at: safe.rename(f"{at}/sub/file", "a/own"))
            do("rename to", lambda at=at: safe.rename("a/own", f"{at}/sub/file"))
            self.read |= {safe.read(f"{at}/file"), safe.read(f"{at}/sub/file")}
            safe.remove(f"{at}/sub/file")
            safe.remove_tree(f"{at}/made{number}")
        do("doomed", lambda: safe.commit("doomed/sub/in/file", "ours"))
        safe.remove_tree("doomed")
        do("doom", lambda: os.close(safe.folder("doomed/sub/in/deep", 0o755).fd))


@pytest.mark.parametrize("way", ["openat2", "fallback"])
def test_ten_thousand_swaps_lead_nowhere(
    tmp_path: Path, tree: Callable, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    call = bound() if way == "openat2" else None
    if way == "openat2" and call is None:
        pytest.skip("this kernel has no openat2")
    monkeypatch.setattr(safe_root, "_call", [call])
    outside, root, junk = (tmp_path / name for name in ("outside", "root", "junk"))
    for folder in (outside, root / "d", root / "a/b/d"):
        for name in ("file", "sub/file", "sub/in/file", "in/file"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(PRECIOUS if folder == outside else b"ours")
    junk.mkdir()
    for link in ("l", "a/b/l", "l2"):
        (root / link).symlink_to(outside)
    before = tree(outside, times=True)
    pairs = ("d", "l", "a/b/d", "a/b/l", "doomed/sub", "l2")
    argv = [sys.executable, SWAPPER, str(outside), str(junk), *(f"{root}/{name}" for name in pairs)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with SafeRoot.at(str(root)) as safe, subprocess.Popen(argv, **pipes) as swapper:
        work = Work(safe)
        for number in range(600):
            work.round(number)
        swaps = [int(word) for word in swapper.communicate()[0].split()]
    both = {name for name, _ in work.ends if work.ends[name, True] and work.ends[name, False]}

    assert before == tree(outside, times=True)
    assert PRECIOUS not in work.read
    assert min(swaps) >= SWAPS
    assert {"commit", "commit deep", "create", "folder"} <= both
