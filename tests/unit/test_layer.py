"""By what the container's own layer is told, for each kind of root."""

from __future__ import annotations

import pytest

from workspace_agent.watch import layer
from workspace_agent.watch.layer import EXACT, NO_PRUNE, SINCE_START, Layer

BORN, STARTED = 1_000 * 10**9, 2_000 * 10**9


@pytest.mark.parametrize(
    ("kind", "born", "redirects", "mode", "since", "word"),
    [
        ("overlay", BORN, False, EXACT, BORN, ""),
        ("overlay", BORN, True, EXACT, BORN, "redirect_dir"),
        ("overlay", 0, False, SINCE_START, STARTED, "no birth"),
        ("btrfs", BORN, False, NO_PRUNE, STARTED, "btrfs"),
        ("fuse-overlayfs", BORN, False, NO_PRUNE, STARTED, "fuse-overlayfs"),
        ("", 0, False, NO_PRUNE, STARTED, "unknown"),
    ],
)
def test_the_mode_follows_from_the_root(
    kind: str, born: int, redirects: bool, mode: str, since: int, word: str
) -> None:
    found = layer.decide(kind, (), born, STARTED, redirects)

    assert (mode, since) == found[:2]
    assert word in found[2]


def test_the_last_mount_on_the_root_counts() -> None:
    text = (
        "1 0 0:1 / / rw - rootfs none rw\n"
        "2 1 0:2 / / rw,relatime - overlay overlay rw,redirect_dir=on,upperdir=/u\n"
        "3 2 0:3 / /workspace rw - nfs4 server:/ rw\n"
        "broken\n"
    )

    kind, options = layer.root_mount(text)

    assert "overlay" == kind
    assert "redirect_dir=on" in options


def test_a_clock_that_is_set_back_lowers_both_instants() -> None:
    ahead = layer.ahead_ns()
    first = Layer(EXACT, born=ahead, since=ahead + 10**9, ahead=ahead)
    back = 3600 * 10**9

    now = first.at(ahead - back)

    made = layer.now_ns() - back  # what a file gets that is made now
    assert now.born <= made
    assert now.since <= made
    assert "set back by 3600 s" in now.why


def test_a_clock_that_is_corrected_changes_nothing() -> None:
    first = Layer(EXACT, 1, 2, ahead=10**12)

    assert first.at(10**12 - 10**8) is first
    assert first.at(10**12 + 10**12) is first
