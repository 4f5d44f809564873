"""Process numbers: which command stays low, and how the cursor is moved."""

from __future__ import annotations

import os

import pytest

from workspace_agent.supervise import numbers


@pytest.mark.parametrize(
    ("argv", "waits"),
    [
        (["workspace-agent", "placeholder"], True),
        (["/usr/local/bin/workspace-agent", "--volume", "/v", "placeholder", "--", "x"], True),
        (["python", "-I", "/opt/workspace_agent/__main__.py", "placeholder", "--", "x"], True),
        (["workspace-agent", "status"], False),
        (["python", "train.py", "placeholder"], False),
        (["placeholder"], False),
        ([], False),
    ],
)
def test_a_placeholder_is_known_by_its_command(argv: list[str], waits: bool) -> None:
    assert numbers.is_placeholder(argv) is waits


def test_the_next_process_comes_after_the_number_that_was_to_be_reached() -> None:
    now = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(now, 0)
    numbers.reach(now + 50)
    after = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(after, 0)

    assert after > now + 50 or after < now  # the numbers may have wrapped around


def test_a_number_that_was_passed_long_ago_costs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    start = numbers._thread.start_new_thread
    monkeypatch.setattr(numbers._thread, "start_new_thread", lambda *a: made.append(1) or start(*a))
    monkeypatch.setattr(numbers, "_CURSOR", "/nowhere")
    numbers.reach(1)

    assert len(made) == 1
