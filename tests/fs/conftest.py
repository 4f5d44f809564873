"""Dying, and being refused, at the k-th write."""

from __future__ import annotations

import builtins
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from rescued import on_disk, twin  # noqa: F401  (fixtures)

_CALLS = (
    "chmod", "fchmod", "ftruncate", "link", "mkdir", "remove", "rename", "replace", "rmdir",
    "symlink", "truncate", "unlink", "utime", "write",
)  # fmt: skip
_OPENS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Killed(BaseException):
    """A SIGKILL: nothing catches it, and nothing is written after it."""


@dataclass
class Fate:
    """Let *at* - 1 writing calls through; then die, or refuse one call with the errno *refuse*."""

    at: int = 0
    refuse: int = 0
    seen: int = 0
    inside: bool = False

    @property
    def struck(self) -> bool:
        return 0 < self.at <= self.seen

    def meet(self) -> bool:
        """Count one writing call; says whether it must not happen."""
        if self.inside:  # the fake's `open` calls its own chmod
            return False
        self.seen += 1
        return self.seen == self.at if self.refuse else self.struck

    def strike(self) -> None:
        if self.refuse:
            raise OSError(self.refuse, os.strerror(self.refuse))
        raise Killed


@pytest.fixture
def fated() -> Callable[..., object]:
    """Return `with fated(at=k): ...`, which dies at the k-th writing call (never, when 0)."""
    return _fated


@pytest.fixture
def killed() -> Callable[[int, Callable[[], object]], Fate]:
    """Return `killed(k, act)`: do *act*, which dies at its k-th writing call and is buried."""
    return _killed


def _killed(at: int, act: Callable[[], object]) -> Fate:
    with _fated(at) as fate:
        act()
    gc.collect()  # the dead hold no sockets: only so is a lease of theirs free at once
    return fate


@contextmanager
def _fated(at: int = 0, refuse: int = 0) -> Iterator[Fate]:
    fate = Fate(at, refuse)
    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, _watched(fate, getattr(os, name), torn=name == "write"))
        patch.setattr(os, "open", _watched_open(fate, os.open))
        patch.setattr(builtins, "open", _watched_builtin(fate, open))
        patch.setattr(os, "_supports_dir_fd", None, raising=False)  # the fake asks by identity
        try:
            yield fate
        except Killed:
            return


def _watched(fate: Fate, real: Callable[..., object], *, torn: bool) -> Callable[..., object]:
    def call(*args: object, **more: object) -> object:
        first = not fate.struck
        if fate.meet():
            if torn and first:
                fd, data = args
                real(fd, bytes(data)[: len(data) // 2])
            fate.strike()
        return real(*args, **more)

    return call


def _watched_open(fate: Fate, real: Callable[..., int]) -> Callable[..., int]:
    def call(path: str, flags: int, *args: int, **more: int) -> int:
        if flags & _OPENS and fate.meet():
            fate.strike()
        fate.inside = True
        try:
            return real(path, flags, *args, **more)
        finally:
            fate.inside = False

    return call


def _watched_builtin(fate: Fate, real: Callable[..., object]) -> Callable[..., object]:
    def call(path: object, mode: str = "r", *args: object, **more: object) -> object:
        if set(mode) & set("wax+") and fate.meet():
            fate.strike()
        return real(path, mode, *args, **more)

    return call
