"""The modes of `home.mode`: each makes the home on the volume the one that programs use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.container

MODE = "WORKSPACE_AGENT__HOME__MODE"


def said(pod: Callable, volume: Path, mode: str, script: str, **more: object) -> str:
    """Return what *script* says as the workload of a pod in *mode*."""
    one = pod("sh", "-c", script, env={MODE: mode}, volume=volume, **more)
    assert 0 == one.wait(), one.err
    return one.out


def test_redirect_leads_home_and_passwd_to_the_volume(pod: Callable, volume: Path) -> None:
    text = said(pod, volume, "redirect", 'echo "$HOME"; getent passwd root | cut -d: -f6')

    assert "/workspace/home\n/workspace/home\n" == text


def test_bind_puts_the_home_on_the_volume_over_the_images(pod: Callable, volume: Path) -> None:
    script = 'echo "$HOME"; echo kept >~/mine; cat /workspace/home/mine'
    text = said(pod, volume, "bind", script, options=("--cap-add=SYS_ADMIN",))

    assert "/root\nkept\n" == text


def test_bind_without_the_capability_is_named_and_the_workload_runs(
    pod: Callable, volume: Path
) -> None:
    one = pod("sh", "-c", "exit 7", env={MODE: "bind"}, volume=volume)

    assert 7 == one.wait()
    assert "(home.not-bound)" in one.err


def test_links_lead_the_entries_to_the_volume_and_home_stays(pod: Callable, volume: Path) -> None:
    script = 'echo "$HOME"; readlink ~/.config; echo x >~/.config/x; cat /workspace/home/.config/x'
    text = said(pod, volume, "links", script)

    assert "/root\n/workspace/home/.config\nx\n" == text


def test_copy_is_what_the_old_script_did(pod: Callable, volume: Path) -> None:
    script = 'echo "$HOME"; test -f /workspace/home/.bashrc && cat /workspace/home/.packet-init'
    home, marker = said(pod, volume, "copy", script).split("\n", 1)

    assert "/root" == home
    assert "fresh" == json.loads(marker)["mode"]


def test_off_leaves_the_home_alone(pod: Callable, volume: Path) -> None:
    text = said(pod, volume, "off", 'echo "$HOME"; ls -A /workspace')

    assert ["/root", ".workspace-agent", "bin", "pip-packages"] == text.split()
