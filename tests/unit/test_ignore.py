"""Lines as in a .gitignore."""

from __future__ import annotations

import pytest

from workspace_agent.watch.ignore import ignoring


@pytest.mark.parametrize(
    ("lines", "path", "said"),
    [
        (["*.tmp"], "/a/b.tmp", True),
        (["*.tmp"], "/a/b.tmpx", False),
        (["*.tmp"], "/a.tmp/b", True),
        (["/data"], "/data/x/y", True),
        (["/data"], "/more/data", False),
        (["data/"], "/more/data/x", True),
        (["data/"], "/more/data", False),
        (["data/raw"], "/data/raw/x", True),
        (["data/raw"], "/more/data/raw", False),
        (["**/raw"], "/more/data/raw", True),
        (["/data/**/x"], "/data/a/b/x", True),
        (["/data/**/x"], "/data/x", True),
        (["/data/**"], "/data/a", True),
        (["a?c"], "/abc", True),
        (["a?c"], "/a/c", False),
        (["[a-c]x"], "/bx", True),
        (["[!a-c]x"], "/bx", False),
        (["*.log", "!keep.log"], "/keep.log", False),
        (["*.log", "!keep.log"], "/other.log", True),
        (["# no", "", "  "], "/# no", False),
        (["\\#yes"], "/#yes", True),
        (["a.c"], "/abc", False),
        (["a\nb"], "/ab", False),
        (["[z-a]", "x"], "/x", True),
        (["[[a]x"], "/[x", True),
        (["[a||b]x"], "/|x", True),
    ],
)
def test_a_path_is_ignored(lines: list[str], path: str, said: bool) -> None:
    is_ignored = ignoring(lines)

    assert said == bool(is_ignored and is_ignored(path))


def test_without_lines_nobody_is_asked() -> None:
    assert ignoring(["", "# only words"]) is None


@pytest.mark.parametrize(
    "lines",
    [["*a" * 20 + "b"], ["**/" * 12 + "b"], ["a/**/" * 10 + "b"], ["[" * 10**5], ["x*"] * 10**5],
)
def test_a_line_that_would_hold_up_everything_is_left_out(lines: list[str]) -> None:
    """Without the limits these take hours."""
    is_ignored = ignoring(lines)

    assert not (is_ignored and is_ignored("/" + "a/" * 60 + "a" * 250))
