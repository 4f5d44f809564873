"""What the first container leaves, the second one finds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.container

MANY = 3000
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


def test_a_warm_boot_writes_nothing_on_the_volume(pod, variant, volume, settled) -> None:
    # the second boot may still note what it learned of the first one's end; the third is warm
    for _ in range(2):
        before = pod(*settled("true"), image=variant, volume=volume)
        assert before.wait() == 0, before.err
        before.remove()
    left = listing(volume)

    warm = pod("true", image=variant, volume=volume)
    assert warm.wait() == 0, warm.err
    warm.remove()
    assert listing(volume) == left


def test_the_second_boot_writes_nothing_on_the_volume(pod, variant, volume, settled) -> None:
    first = pod(*settled("true"), image=variant, volume=volume)
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


def test_the_same_container_can_be_started_again(pod, podman, volume) -> None:
    # its /run is as the first start left it
    again = pod("sh", "-c", 'echo "$HOME"', volume=volume)
    assert again.wait() == 0, again.err

    podman("start", again.name)
    assert again.wait() == 0, again.err
    assert again.out.splitlines() == ["/workspace/home"] * 2


def many_files(pod, volume: Path, *command: str, **options: object):
    """Boot an image whose home has MANY files."""
    script = f"""mkdir /root/many && cd /root/many
i=0; while [ $i -lt {MANY} ]; do echo $i > $i; i=$((i + 1)); done
cd / && exec /opt/workspace-agent/entrypoint.sh "$@"
"""
    entrypoint = ["--entrypoint", "/bin/sh"]
    return pod("-c", script, "sh", *command, volume=volume, options=entrypoint, **options)


def assert_whole(home: Path) -> None:
    assert {path.name: path.read_text() for path in (home / "many").iterdir()} == {
        str(i): f"{i}\n" for i in range(MANY)
    }
    assert (home / ".packet-init").exists()


def test_a_pod_that_was_killed_in_its_first_copy_is_made_good(pod, podman, volume, until) -> None:
    first = many_files(pod, volume, "sleep", "infinity")
    until(lambda: next(volume.rglob("many"), None), "the copy has begun")
    podman("kill", "--signal", "KILL", first.name)
    first.wait()
    first.remove()

    second = many_files(pod, volume, "true")
    assert second.wait() == 0, second.err
    assert_whole(volume / "home")
    left = [path for path in volume.rglob("many") if path.parent != volume / "home"]
    assert left == []


@pytest.mark.parametrize("once_more", range(3))  # who comes first is chance
def test_two_pods_that_start_at_once_share_one_whole_home(pod, volume, once_more) -> None:
    tell = ("sh", "-c", 'echo "$HOME $(ls "$HOME/many" | wc -l)"')
    both = [many_files(pod, volume, *tell) for _ in range(2)]

    for one in both:
        assert one.wait() == 0, one.err
        # a pod that lost the race and fell back to /root would lose what is done in it
        assert one.out == f"/workspace/home {MANY}\n", one.err
    assert_whole(volume / "home")
    left = [path for path in volume.rglob("many") if path.parent != volume / "home"]
    assert left == []


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
