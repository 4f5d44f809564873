"""Which mounts go with a checkpoint: those that end with the container, and are its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.app.carrying import points
from workspace_agent.app.facts import Facts

TMPFS, READ_ONLY, DISK = ("tmpfs", "tmpfs", False), ("tmpfs", "tmpfs", True), ("ext4", "sda", False)


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ({"/": ("overlay", "overlay", False)}, []),
        ({"/dev": TMPFS, "/dev/shm": TMPFS, "/dev/pts": ("devpts", "", False)}, ["dev/shm"]),
        ({"/run": TMPFS, "/tmp": TMPFS}, ["run", "tmp"]),
        ({"/run/lock": TMPFS, "/run/secrets": TMPFS, "/run/secrets/token": TMPFS}, ["run/lock"]),
        ({"/run/secrets/kubernetes.io/serviceaccount": READ_ONLY, "/tmp": READ_ONLY}, []),
        ({"/proc/acpi": TMPFS, "/sys/firmware": TMPFS}, []),
        ({"/tmp": DISK, "/dev/shm": DISK}, []),
        ({"/root": TMPFS}, ["root"]),
        ({"/root/volume": TMPFS, "/root/run": TMPFS}, []),
    ],
)
def test_what_ends_with_the_container_is_carried(
    facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch, mounts: dict, expected: list
) -> None:
    monkeypatch.setattr("os.path.isdir", lambda _: True)

    assert expected == points(facts(Path("/root")), mounts)


def test_a_mount_on_a_file_is_not_a_place(
    facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.isdir", lambda _: False)

    assert [] == points(facts(Path("/root")), {"/tmp": TMPFS})
