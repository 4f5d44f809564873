"""What pip was told reaches uv, which reads neither its files nor its variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.replay import settings


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, []),
        ({"PIP_NO_INDEX": "1"}, ["--no-index"]),
        ({"PIP_NO_INDEX": "0"}, []),
        (
            {"PIP_ONLY_BINARY": ":all:", "PIP_NO_BINARY": "a,b"},
            ["--no-binary", "a", "--no-binary", "b", "--only-binary", ":all:"],
        ),
    ],
)
def test_what_uv_has_no_variable_for_becomes_a_flag(
    variables: dict[str, str], expected: list[str]
) -> None:
    assert expected == settings.flags_for_uv({"PIP_CONFIG_FILE": "/dev/null", **variables})


def test_a_variable_comes_before_a_file(tmp_path: Path, plant: Callable) -> None:
    plant(tmp_path, {"pip.conf": "[global]\nno-index = true\nindex-url = https://a/\n"})
    env = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path)}

    assert ["--no-index"] == settings.flags_for_uv(env)
    assert [] == settings.flags_for_uv({**env, "PIP_NO_INDEX": "false"})
    assert "https://a/" == settings.for_uv(env)["UV_DEFAULT_INDEX"]
    assert (
        "https://b/" == settings.for_uv({**env, "PIP_INDEX_URL": "https://b/"})["UV_DEFAULT_INDEX"]
    )
