"""What the first container leaves, the second one finds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.container

LEAVE = """
echo kept > "$HOME/notes"
cp "$HOME/notes" /workspace/bin/tool
chmod 755 /workspace/bin/tool
"""


@pytest.fixture(params=["baked", "unbaked"])
def variant(request: pytest.FixtureRequest) -> str:
    """Both images keep the same promises; only what they cost differs."""
    return request.getfixturevalue({"baked": "image", "unbaked": "unbaked_image"}[request.param])


def listing(volume: Path) -> dict[str, tuple[int, ...]]:
    """Every entry with what a write would change; not atime, which reading changes."""
    found = {}
    for folder, folders, names in os.walk(volume):
        for name in (".", *folders, *names):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            found[path] = (
                info.st_ino,
                info.st_mode,
                info.st_mtime_ns,
                info.st_ctime_ns,
                info.st_size,
            )
    return found


def test_the_first_boot_copies_home_and_marks_it(pod, variant, volume) -> None:
    first = pod("sh", "-c", 'test "$HOME" = /workspace/home', image=variant, volume=volume)

    assert first.wait() == 0, first.err
    assert (volume / "home" / ".bashrc").read_bytes()
    marker = json.loads((volume / "home" / ".packet-init").read_text())
    assert isinstance(marker, dict)


def test_the_second_container_finds_what_the_first_one_left(pod, variant, volume) -> None:
    first = pod("sh", "-c", LEAVE, image=variant, volume=volume)
    assert first.wait() == 0, first.err
    first.remove()

    second = pod(
        "sh", "-c", 'cat "$HOME/notes"; command -v tool; echo "$HOME"', image=variant, volume=volume
    )
    assert second.wait() == 0, second.err
    assert second.out.splitlines() == ["kept", "/workspace/bin/tool", "/workspace/home"]


def test_a_warm_boot_says_one_line(pod, variant, volume) -> None:
    first = pod("true", image=variant, volume=volume)
    assert first.wait() == 0, first.err
    first.remove()

    second = pod("true", image=variant, volume=volume)
    assert second.wait() == 0
    lines = second.err.splitlines()
    assert len(lines) == 1, second.err
    assert lines[0].startswith("workspace-agent: ")


def test_a_warm_boot_writes_nothing_on_the_volume(pod, variant, volume) -> None:
    # the second boot may still note what it learned of the first one's end; the third is warm
    for _ in range(2):
        before = pod("true", image=variant, volume=volume)
        assert before.wait() == 0, before.err
        before.remove()
    left = listing(volume)

    warm = pod("true", image=variant, volume=volume)
    assert warm.wait() == 0, warm.err
    warm.remove()
    assert listing(volume) == left


def test_the_second_boot_writes_nothing_on_the_volume(pod, variant, volume) -> None:
    first = pod("true", image=variant, volume=volume)
    assert first.wait() == 0, first.err
    first.remove()
    left = listing(volume)

    second = pod("true", image=variant, volume=volume)
    assert second.wait() == 0, second.err
    second.remove()
    assert listing(volume) == left


def test_deleting_the_marker_gives_fresh_defaults_and_keeps_the_old_ones(pod, volume) -> None:
    first = pod(
        "sh", "-c", 'echo "# mine" > "$HOME/.bashrc"; echo kept > "$HOME/notes"', volume=volume
    )
    assert first.wait() == 0, first.err
    first.remove()
    (volume / "home" / ".packet-init").unlink()

    second = pod("true", volume=volume)
    assert second.wait() == 0, second.err
    assert (volume / "home" / ".bashrc").read_text() != "# mine\n"
    copies = [path.read_text() for path in volume.rglob(".bashrc")]
    assert "# mine\n" in copies


def test_an_upgrade_from_unbaked_to_baked_keeps_the_home(pod, image, unbaked_image, volume) -> None:
    first = pod("sh", "-c", 'echo kept > "$HOME/notes"', image=unbaked_image, volume=volume)
    assert first.wait() == 0, first.err
    first.remove()

    second = pod("sh", "-c", 'cat "$HOME/notes"', image=image, volume=volume)
    assert second.wait() == 0, second.err
    assert second.out == "kept\n"


def test_a_home_of_the_old_script_is_adopted_and_not_copied_again(pod, volume) -> None:
    # what the bash script of the first generation leaves: a copied home and an empty marker
    home = volume / "home"
    home.mkdir()
    (home / ".bashrc").write_text("# mine\n# packet-persist marker\n")
    (home / ".packet-init").touch()

    boot = pod("sh", "-c", 'cat "$HOME/.bashrc"', volume=volume)
    assert boot.wait() == 0, boot.err
    assert boot.out == "# mine\n# packet-persist marker\n"
