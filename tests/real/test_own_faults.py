"""A fault of the agent's own: the workload runs all the same, and only once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from agents import REPOSITORY, Running

if TYPE_CHECKING:
    from agents import Place

# The agent's own main, with one function replaced by one that breaks.
BROKEN = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from workspace_agent import start
def breaks(*_):
    raise RuntimeError("a fault of ours")
start.NAME = breaks
start.main(["sh", "-c", "echo once; exit 4"])
"""


@pytest.mark.parametrize(
    "name", ["_adopt_orphans", "_lock", "_prepare", "_run", "_record", "_terminate_log"]
)
def test_whatever_breaks_the_workload_runs_once_and_its_code_is_ours(
    place: Place, name: str
) -> None:
    argv = [sys.executable, "-I", "-S", "-c", BROKEN.replace("NAME", name)]
    running = Running(place, argv, env=place.environ())

    assert (4, "once\n") == (running.wait(), running.out)
    assert "a fault of ours" in running.err


def test_a_runtime_folder_that_cannot_be_written_costs_only_the_record(agent, place: Place) -> None:
    place.runtime.write_text("a file where the folder should be")
    running = agent("sh", "-c", 'echo "$HOME"; exit 5')

    assert (5, f"{place.volume}/home\n") == (running.wait(), running.out)
