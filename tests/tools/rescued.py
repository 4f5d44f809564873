"""A container and a volume as two folders, for what is saved from the one to the other."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from workspace_agent.host import safe_root
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model.atrisk import Entry
from workspace_agent.rescue.back import PutBack
from workspace_agent.rescue.lines import Header
from workspace_agent.rescue.saving import Outcome
from workspace_agent.rescue.store import Content, opened

RUNS = [f"2026010{n}T000000Z-b00t{n}" for n in range(1, 10)]


@pytest.fixture
def twin(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """On the fake disk, and on the real one."""
    if "fs" in request.fixturenames:  # no kernel behind it
        monkeypatch.setattr("workspace_agent.host.renameat2._call", lambda *_: errno.ENOSYS)
    return World(root)


@pytest.fixture(params=["openat2", "by parts"])
def on_disk(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    """On the real disk alone, with both ways to stay below a folder."""
    if request.param == "by parts":
        monkeypatch.setattr(safe_root, "_call", [None])
    return World(tmp_path)


class World:
    """A container and a volume."""

    def __init__(self, root: Path) -> None:
        self.top, self.volume = root / "container", root / "volume"
        self.top.mkdir()
        self.volume.mkdir()

    def entry(self, path: str, kind: str = "code", value: int = 90, **more: object) -> Entry:
        return replace(Entry.of(path, kind, value, os.lstat(f"{self.top}{path}")), **more)

    def write(self, path: str, content: bytes | str = b"x") -> Path:
        at = Path(f"{self.top}{path}")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content.encode() if isinstance(content, str) else content)
        return at

    def save(self, *entries: Entry | str, run: str = RUNS[0], image: str = "i", **more: object
             ) -> Outcome:  # fmt: skip
        found = [self.entry(one) if isinstance(one, str) else one for one in entries]
        limits = {name: more.pop(name) for name in ("min_free", "most") if name in more}
        with (
            opened(str(self.volume), "me", make=True) as store,
            SafeRoot.at(str(self.top)) as top,
            store.begin(run, Header(image=image), **limits) as writing,
        ):
            return writing.save(top, found, **more)

    def step(self, run: str = RUNS[1], **more: object) -> PutBack:
        usual = {"header": Header(image="i"), "untouched": lambda _: False, "root": str(self.top)}
        return PutBack(str(self.volume), "me", run, **{**usual, **more})

    def dies(self) -> None:
        """Give the container up, and begin a fresh one."""
        self.top.rename(self.top.parent / f"dead-{len(os.listdir(self.top.parent))}")
        self.top.mkdir()

    def chain(self) -> Content:
        with opened(str(self.volume), "me") as store:
            return store.chain()

    def bytes(self, path: str) -> bytes | None:
        """Return what is stored of *path*, put together."""
        line = self.chain().saved.get(path)
        if line is None:
            return None
        data = bytearray(line.size)
        with opened(str(self.volume), "me") as store:
            if line.stored:
                fd = store.data.open(line.file, os.O_RDONLY)
                os.lseek(fd, line.at, os.SEEK_SET)
                for start, length in line.parts:
                    data[start : start + length] = os.read(fd, length)
                os.close(fd)
        return bytes(data)


def reasons(outcome: Outcome) -> dict[str, str]:
    return {entry.path: why for entry, why in outcome.left}
