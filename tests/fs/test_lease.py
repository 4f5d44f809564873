"""The lease's histories, one look at a time, on the fake disk and on the real one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from workspace_agent.host import alive
from workspace_agent.host.lease import RIVAL, Lease
from workspace_agent.host.safe_root import SafeRoot

TTL = 30.0
NAMES = count()


class Enough(BaseException):
    """The rival would wait for ever."""


@pytest.fixture
def state(root: Path) -> Iterator[SafeRoot]:
    with SafeRoot.at(str(root)) as opened:
        yield opened


@pytest.fixture
def lease(state: SafeRoot, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lease]:
    """Return `lease(*meanwhile)`: each wait does the next of these; after the last it is enough.

    Nobody here knows of anybody whether he is gone: the clock alone decides.
    """
    monkeypatch.setattr(alive, "_here", lambda: "")

    def made(*meanwhile: Callable[[], object]) -> Lease:
        events = iter(meanwhile)

        def wait(_: float) -> None:
            event = next(events, None)
            if event is None:
                raise Enough
            event()

        return Lease(state, f"boot{next(NAMES)}", ttl=TTL, wait=wait)

    return made


def never() -> bool:
    return False


def take(one: Lease, done: Callable[[], bool] = never) -> object:
    """Take *one*; None when it would still be waiting."""
    try:
        return one.take(done, lambda _: None)
    except Enough:
        return None


def age(root: Path, number: int, secs: float) -> None:
    """Make the lease *number* *secs* old, by the clock of its own disk."""
    (root / "now").write_text("")
    then = os.lstat(root / "now").st_mtime - secs
    os.unlink(root / "now")
    os.utime(root / f"lease.{number}", (then, then))


def test_the_first_comes_at_once_and_leaves_one_file(root: Path, lease: Callable) -> None:
    one = lease()

    assert (True, 1, True) == (take(one), one.token, one.held())
    assert ["lease.1"] == os.listdir(root)


def test_a_rival_waits_for_who_holds_it_and_says_so_at_each_look(lease: Callable) -> None:
    one, said = lease(), []
    take(one)
    two = lease(lambda: None, lambda: None)
    with pytest.raises(Enough):
        two.take(never, said.append)

    assert ([RIVAL] * 3, 0, True) == (said, two.token, one.held())


def test_a_release_lets_the_next_one_in_at_the_next_look(root: Path, lease: Callable) -> None:
    one = lease()
    take(one)
    two = lease(one.release)

    assert (True, 2, True) == (take(two), two.token, two.held())
    assert (0, False, ["lease.2"]) == (one.token, one.held(), os.listdir(root))


def test_whoever_waits_leaves_when_somebody_else_did_the_work(lease: Callable) -> None:
    one, done = lease(), []
    take(one)
    two = lease(lambda: done.append(True))

    assert (False, 0) == (take(two, lambda: bool(done)), two.token)


def test_who_comes_after_the_work_is_done_gives_the_lease_back(root: Path, lease: Callable) -> None:
    answers = iter([False, True])
    one, two = lease(), lease()

    assert (False, 0) == (take(one, lambda: next(answers)), one.token)
    assert (True, 2) == (take(two), two.token)


@pytest.mark.parametrize(
    ("secs", "over"),
    [(0, False), (TTL - 5, False), (TTL + 5, True), (5 - TTL, False), (-TTL - 5, True),
     (-1e8, True)],
)  # fmt: skip
def test_a_holder_is_over_when_he_is_silent_for_too_long_or_forged_a_later_time(
    root: Path, lease: Callable, secs: float, over: bool
) -> None:
    one, two = lease(), lease()
    take(one)
    age(root, 1, secs)

    assert (over or None) == take(two)
    assert (not over) == one.held()


def test_who_was_paused_before_the_look_takes_no_fresh_lease_for_forged(
    root: Path, lease: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = lease(), lease()
    take(one)
    now = two._now
    asked = iter([now() - 2 * TTL])  # and then TTL and more go by
    monkeypatch.setattr(two, "_now", lambda: next(asked, None) or now())

    assert take(two) is None


def test_a_holder_who_beats_stays(root: Path, lease: Callable) -> None:
    one = lease()
    take(one)
    age(root, 1, TTL + 5)
    one._every = 0.0
    one.beat()

    assert take(lease()) is None


def test_a_beat_is_no_request_until_it_is_time(lease: Callable, fated: Callable) -> None:
    one = lease()
    one.beat()
    take(one)
    with fated() as fate:
        one.beat()

    assert 0 == fate.seen


def test_a_lost_lease_is_noticed_whatever_is_left_of_it(root: Path, lease: Callable) -> None:
    one, two = lease(), lease()
    take(one)
    age(root, 1, TTL + 5)
    (root / "lease.2").write_text("")  # made, and its holder not yet further
    before = one.held()
    os.unlink(root / "lease.2")
    age(root, 1, TTL + 5)
    take(two)
    one.release()

    assert (False, True, 2) == (before, two.held(), two.token)


def test_nobody_holds_what_he_never_took(lease: Callable) -> None:
    one = lease()
    one.release()

    assert (0, False) == (one.token, one.held())


def test_a_claim_from_long_ago_is_no_lease(
    root: Path, lease: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One looks, is paused; two others come and go, and sweep the number away that he wanted."""
    (root / "lease.1").write_text("")
    slow, others = lease(), [lease(), lease()]

    def paused(*_: object) -> bool:
        age(root, 1, TTL + 5)
        for other in others:
            take(other)
            other.release()
        return True

    monkeypatch.setattr(slow, "_is_over", paused)

    assert (None, 0, 3) == (take(slow), slow.token, slow._last())
    assert ["lease.3"] == os.listdir(root)


def test_a_claim_that_a_new_holder_swept_away_is_tried_again(
    root: Path, lease: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, swept = os.link, []

    def gone(*names: str, **more: object) -> None:
        if not swept:
            swept.append(True)
            raise FileNotFoundError(errno.ENOENT, "no such file")
        link(*names, **more)

    monkeypatch.setattr(os, "link", gone)
    one = lease(lambda: None)

    assert (True, 1) == (take(one), one.token)


def test_a_new_holder_sweeps_what_killed_ones_left_and_nothing_else(
    root: Path, lease: Callable
) -> None:
    left = ("lease.3", "lease.7", "lease.8.12-ab.new", "lease.x.probe", "lease.", "lease.09")
    odd = ("lease.9a", "lease.\u0663", "lease.1234567890123456789")
    for name in (*left, *odd, "boots", "xlease.9"):
        (root / name).write_text("")
    for number in (3, 7):
        age(root, number, TTL + 5)
    one = lease()

    assert (True, 8) == (take(one), one.token)
    assert {"boots", "lease.8", "xlease.9"} == set(os.listdir(root))


def test_where_there_are_no_hard_links_the_lease_works_as_well(
    lease: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    one = lease()

    assert (True, None, True) == (take(one), take(lease()), one.held())


def test_where_no_lease_can_be_made_that_is_told(lease: Callable, fated: Callable) -> None:
    with fated(at=1, refuse=errno.EROFS), pytest.raises(OSError, match="Read-only"):
        lease().take(never, lambda _: None)


def test_killed_at_any_write_the_next_one_takes_it_and_leaves_one_file(
    root: Path, lease: Callable, fated: Callable
) -> None:
    for k in range(1, 20):
        with fated(at=k):
            lease().take(never, lambda _: None)
        for number in [int(n[6:]) for n in os.listdir(root) if n[6:].isdigit()]:
            age(root, number, TTL + 5)
        one = lease()
        taken = take(one)

        assert (True, [f"lease.{one.token}"]) == (taken, os.listdir(root))
        one.release()
