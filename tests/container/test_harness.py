"""The harness itself, on plain containers without the agent."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.container


def test_a_container_ends_with_its_commands_code(plain_pod) -> None:
    pod = plain_pod("sh", "-c", "echo out; echo err >&2; exit 9")

    assert pod.wait() == 9
    assert (pod.out, pod.err) == ("out\n", "err\n")


def test_a_volume_outlives_its_container(plain_pod, volume) -> None:
    assert plain_pod("sh", "-c", "echo kept > /workspace/file", volume=volume).wait() == 0

    second = plain_pod("cat", "/workspace/file", volume=volume)
    assert second.wait() == 0
    assert second.out == "kept\n"


def test_exec_sees_a_running_container(plain_pod) -> None:
    pod = plain_pod("sleep", "infinity", env={"GIVEN": "at the start"})
    pod.until("true")

    assert pod.text("sh", "-c", 'echo "$GIVEN"') == "at the start\n"
    assert pod.exec("cat", input=b"\xff\0").stdout == b"\xff\0"


def test_a_mount_made_for_a_test_is_seen_in_the_container(plain_pod, mounted) -> None:
    small = mounted("tmpfs", "size=64k")
    pod = plain_pod("sh", "-c", "head -c 1000000 /dev/zero > /workspace/big", volume=small)

    assert pod.wait() != 0
    assert "No space left" in pod.err


def test_every_file_of_the_guides_image_is_there(guide) -> None:
    baked, unbaked = guide

    assert "image bake" in baked
    assert "image bake" not in unbaked
