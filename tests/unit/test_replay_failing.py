"""What a person reads when an installer failed."""

from __future__ import annotations

import pytest

from workspace_agent.host.command import Finished
from workspace_agent.replay import failing


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("/usr/bin/python3: No module named pip", "put uv, or pip"),
        ("ERROR: No matching distribution found for pip", "see /log"),
    ],
)
def test_an_image_without_an_installer_is_told_which_ones_do(said: str, fix: str) -> None:
    assert failing.problem("planning", Finished(1, 0.1, said), (), "/log").fix.startswith(fix)
