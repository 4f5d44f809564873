"""A home over the lives of pods: a newer image, a killed copy, a planted link, two pods at once."""

from __future__ import annotations

import json
import os

import pytest

pytestmark = pytest.mark.container

NEWER = """
FROM {base}
RUN echo '# newer' >> /root/.bashrc && echo new > /root/.newrc && echo '# newer' >> /root/.profile
"""

FAR = """
FROM {base}
RUN for d in $(seq 40); do mkdir -p /root/tree/$d; \\
    for f in $(seq 50); do echo $f > /root/tree/$d/$f; done; done
"""


@pytest.fixture(scope="module")
def newer(build, image: str) -> str:
    """The image a month later: two defaults are others, one is new."""
    return build("newer", NEWER.format(base=image), image)


@pytest.fixture(scope="module")
def large(build, image: str) -> str:
    """An image with 2,000 files in its home."""
    return build("large", FAR.format(base=image), image)


def test_a_newer_image_changes_nothing_and_merge_takes_over_what_nobody_changed(
    pod, image, newer, volume, settled
) -> None:
    first = pod(*settled('echo mine > "$HOME/.profile"'), image=image, volume=volume)
    assert 0 == first.wait(), first.err
    second = pod("sleep", "1000", image=newer, volume=volume)
    second.until("test", "-e", "/run/workspace-agent/status.json")
    before = (volume / "home/.bashrc").read_text()
    diff = second.text("workspace-agent", "home", "diff")
    done = second.exec("workspace-agent", "home", "merge")
    verify = second.text("workspace-agent", "home", "verify")

    assert "newer" not in before
    assert {"conflict  .profile", "changed   .bashrc", "new       .newrc"} <= set(diff.split("\n"))
    assert 0 == done.returncode, done.stderr
    assert "# newer" in (volume / "home/.bashrc").read_text()
    assert "mine\n" == (volume / "home/.profile").read_text()
    assert "# newer" in (volume / ".workspace-agent/defaults-new/.profile").read_text()
    assert "damaged" not in verify


def test_a_pod_that_is_killed_while_it_copies_is_made_good_by_the_next(pod, large, volume) -> None:
    """Killed when some files are there, by the runtime, as a node would."""
    first = pod("sleep", "1000", image=large, volume=volume)
    while not list(volume.glob(".workspace-agent/stage-*/tree/tree/*/*")):
        if (volume / "home").exists():
            break  # too fast for us; then the kill comes after the publish
    first.remove()
    look = (
        'find "$HOME/tree" -type f | wc -l;'
        'while ls -d "$HOME"/../.workspace-agent/stage-* 2>/dev/null; do sleep 0.1; done >&2'
    )
    second = pod("sh", "-c", look, image=large, volume=volume)

    assert 0 == second.wait(), second.err
    assert "2000" == second.out.strip()
    left = [name for name in os.listdir(volume / ".workspace-agent") if name.startswith("stage-")]
    assert [] == left


def test_a_planted_link_in_a_home_is_named_and_leads_nowhere(pod, image, volume) -> None:
    (volume / "home").mkdir()
    (volume / "home/.config").symlink_to("/etc")
    os.mkfifo(volume / "home/.bashrc")
    first = pod("sh", "-c", "ls /etc/profile.d; true", image=image, volume=volume)

    assert 0 == first.wait(), first.err
    assert "(home.not-laid)" in first.err
    assert (volume / "home/.bashrc").is_fifo()


def test_two_pods_at_once_have_one_home(pod, large, volume) -> None:
    pods = [pod("sh", "-c", 'find "$HOME" -type f | wc -l', image=large, volume=volume)
            for _ in range(2)]  # fmt: skip
    codes = [one.wait() for one in pods]
    found = {one.out.strip() for one in pods}
    record = json.loads((volume / ".workspace-agent/seeded").read_text())

    assert [0, 0] == codes, pods[0].err + pods[1].err
    assert 1 == len(found)
    assert int(found.pop()) > 2000
    assert "fresh" == record["mode"]
