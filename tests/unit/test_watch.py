"""The eye on hand installs, by histories: what the looks find, and when a child works."""

from __future__ import annotations

import pytest

from workspace_agent.supervise.watch import _LATER, NOT_NOW, Lookout

END = "the end"
LATER, FAILED, DONE = NOT_NOW, 1, 0


def works(history: list[object], first: list[int] | None = None) -> list[int]:
    """Return at which steps of *history* work is begun: looks are lists, exits of a child codes."""
    lookout = Lookout(first or [1, 1])
    begun = []
    for step, event in enumerate(history):
        if isinstance(event, int):
            lookout.on_exit(event)
        elif lookout.on_last_look(event[1]) if event[0] == END else lookout.on_look(event):
            begun.append(step)
    return begun


@pytest.mark.parametrize(
    ("history", "begun"),
    [
        ([[1, 1], [1, 1], [1, 1]], []),
        ([[1, 2], [1, 2], [1, 2], [1, 2]], [1]),
        ([[1, 2], [1, 3], [1, 4], [1, 4]], [3]),
        ([[1, 2], [1, 2], DONE, [5, 2], [5, 2]], [1, 4]),
        ([[1, 2], [1, 1], [1, 1]], []),
        ([[0, 1], [0, 1]], [1]),
        ([[1, 2], [1, 2], FAILED, [1, 2], [1, 2]], [1]),
    ],
    ids=["nothing", "once", "not while it changes", "twice", "there and back", "gone", "failed"],
)
def test_work_begins_once_the_folders_have_changed_and_are_quiet(
    history: list[object], begun: list[int]
) -> None:
    assert begun == works(history)


def test_a_child_that_came_at_a_bad_moment_is_asked_again_after_a_while() -> None:
    looks = [[1, 2]] * _LATER

    assert [1, 2 + _LATER] == works([[1, 2], [1, 2], LATER, *looks, DONE, [1, 2], [1, 2]])


@pytest.mark.parametrize(
    ("history", "begun"),
    [
        ([(END, [1, 1])], []),
        ([[1, 2], (END, [1, 2])], [1]),
        ([(END, [1, 2]), (END, [1, 2])], [0]),
        ([[1, 2], [1, 2], DONE, (END, [1, 2])], [1]),
        ([[1, 2], [1, 2], LATER, (END, [1, 2])], [1, 3]),
    ],
    ids=["nothing new", "not quiet yet", "told twice", "done already", "what was put off"],
)
def test_the_end_waits_for_no_quiet_and_does_only_what_is_left(
    history: list[object], begun: list[int]
) -> None:
    assert begun == works(history)
