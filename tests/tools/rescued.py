"""A container and a volume as two folders, for what is saved from the one to the other."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from workspace_agent.host import safe_root
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model.atrisk import Entry
from workspace_agent.rescue.back import PutBack
from workspace_agent.rescue.lines import Header
from workspace_agent.rescue.run import Run
from workspace_agent.rescue.saving import Limits, Outcome
from workspace_agent.rescue.store import Content, opened

RUNS = [f"2026010{n}T000000Z-b00t{n}" for n in range(1, 10)]


@dataclass
class Saver:
    """What saves things of a world."""

    world: World
    run: Run
    top: SafeRoot

    def __call__(self, *entries: Entry | str, **limits: object) -> Outcome:
        found = [self.world.entry(one) if isinstance(one, str) else one for one in entries]
        return self.run.save(self.top, found, Limits(**limits))


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
        self.top.mkdir(parents=True)
        self.volume.mkdir()

    def entry(self, path: str, kind: str = "code", **more: object) -> Entry:
        return replace(Entry.of(path, kind, 90, os.lstat(f"{self.top}{path}")), **more)

    def entry_of(self, path: Path) -> Entry:
        return self.entry(str(path)[len(str(self.top)) :])

    def write(self, path: str, content: bytes | str = b"x") -> Path:
        at = Path(f"{self.top}{path}")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content.encode() if isinstance(content, str) else content)
        return at

    def deep(self, name: str, levels: int, content: bytes) -> Entry:
        """Make a file that no one path leads to."""
        fd = os.open(self.top, os.O_RDONLY)
        for _ in range(levels):
            os.mkdir(name, dir_fd=fd)
            inner = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
        file = os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
        os.write(file, content)
        info = os.fstat(file)
        os.close(file)
        os.close(fd)
        return Entry.of("/" + f"{name}/" * levels + "file", "code", 90, info)

    def has_deep(self, entry: Entry, content: bytes) -> bool:
        with SafeRoot.at(str(self.top)) as top:
            fd = top.open(entry.path[1:], os.O_RDONLY)
            try:
                return os.read(fd, 99) == content
            finally:
                os.close(fd)

    @contextmanager
    def running(self, run: str = RUNS[0], image: str = "i", owner: str = "me", **limits: int
                ) -> Iterator[Saver]:  # fmt: skip
        """Run an agent: the result saves, and has the run."""
        with (
            opened(str(self.volume), owner, make=True) as store,
            SafeRoot.at(str(self.top)) as top,
            store.begin(run, Header(image=image), **limits) as writing,
        ):
            yield Saver(self, writing, top)

    def save(self, *entries: Entry | str, **more: object) -> Outcome:
        mine = {n: more.pop(n) for n in ("run", "image", "owner", "min_free", "most") if n in more}
        with self.running(**mine) as save:
            return save(*entries, **more)

    def take(self, run: str) -> None:
        with self.running(run) as save:
            save.run.took()

    def runs(self) -> list[str]:
        try:
            with opened(str(self.volume), "me") as store:
                return store.runs()
        except FileNotFoundError:
            return []

    def read(self, run: str = RUNS[0]) -> Content:
        with opened(str(self.volume), "me") as store:
            return store.read(run)

    def prune(self, keep: int, **more: bool) -> list[str]:
        with opened(str(self.volume), "me") as store:
            return store.prune(keep, **more)

    def files(self, part: str = "") -> list[Path]:
        """List the files of what is saved."""
        top = self.volume / ".workspace-agent/rescue"
        return sorted(p for p in (top / "me" / part if part else top).rglob("*") if p.is_file())

    def data(self) -> list[str]:
        return [path.name for path in self.files("data")]

    def stored(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.files()}

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
