"""What becomes of one thing that was saved: every row."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from workspace_agent.rescue.decide import (
    ABSENT,
    ANOTHER_TYPE,
    KINDS,
    OTHER,
    SAME,
    beside,
    decide,
)  # fmt: skip
from workspace_agent.rescue.lines import Saved

CODE = Saved("/home/a.py", "f", 0o644, 0, 0, 0, 10**18, "code", True)
CHANGED = replace(CODE, added=False)
UNKNOWN = replace(CODE, added=None)
DATA = replace(CODE, kind="datasets")
ETC = replace(CHANGED, path="/etc/motd", kind="config")
FOLDER = replace(CODE, type="d")

# (what was saved, what is there, untouched, of the same image) -> what becomes of it.
ROWS = [
    (CODE, ABSENT, False, True, "restored"),
    (CODE, ABSENT, False, False, "restored"),
    (CHANGED, ABSENT, False, False, "restored"),
    (CODE, SAME, False, True, "same"),
    (CHANGED, SAME, True, False, "same"),
    (DATA, SAME, False, True, "same"),
    (ETC, SAME, False, True, "same"),
    (CODE, OTHER, False, True, "beside"),
    (CHANGED, OTHER, False, True, "beside"),
    (CHANGED, OTHER, False, False, "beside"),
    (CHANGED, OTHER, True, True, "replaced"),
    (CHANGED, OTHER, True, False, "beside"),
    (CODE, OTHER, True, True, "replaced"),  # by a rename, as editors do
    (UNKNOWN, OTHER, True, True, "replaced"),
    (CODE, OTHER, True, False, "beside"),
    (CODE, ANOTHER_TYPE, False, True, "beside"),
    (CHANGED, ANOTHER_TYPE, True, True, "beside"),
    (DATA, ABSENT, False, True, "offered"),
    (DATA, OTHER, True, True, "offered"),
    (ETC, ABSENT, False, True, "offered"),
    (ETC, OTHER, True, True, "offered"),
    (replace(CODE, path="/etc"), ABSENT, False, True, "offered"),
    (replace(CODE, path="/etcetera/a"), ABSENT, False, True, "restored"),
    (FOLDER, ABSENT, False, True, "restored"),
    (FOLDER, SAME, False, True, "same"),
    (FOLDER, ANOTHER_TYPE, False, True, "never"),
    (replace(FOLDER, kind="datasets"), ABSENT, False, True, "offered"),
    (replace(FOLDER, path="/etc/new"), ABSENT, False, True, "offered"),
    (replace(CODE, path="/proc/1/mem"), ABSENT, False, True, "never"),
    (replace(CODE, path="/dev/sda"), OTHER, True, True, "never"),
    (replace(CODE, path="/sys/x"), ABSENT, False, True, "never"),
    (replace(CODE, path="/run/x"), ABSENT, False, True, "never"),
]


@pytest.mark.parametrize(("saved", "here", "untouched", "same_image", "expected"), ROWS)
def test_the_row(saved: Saved, here: str, untouched: bool, same_image: bool, expected: str) -> None:
    found = decide(saved, here, untouched=untouched, same_image=same_image, kinds=KINDS)

    assert expected == found.how
    assert found.why


@pytest.mark.parametrize(("saved", "expected"), [(DATA, "restored"), (ETC, "restored")])
def test_what_somebody_asks_for_is_not_only_offered(saved: Saved, expected: str) -> None:
    assert expected == decide(saved, ABSENT, untouched=False, same_image=True, kinds=None).how


def test_only_an_untouched_file_of_the_same_image_is_ever_replaced() -> None:
    found = {
        (saved, here, untouched, same_image)
        for saved, here, untouched, same_image in product(
            (CODE, CHANGED, UNKNOWN, DATA, ETC, FOLDER),
            (ABSENT, SAME, OTHER, ANOTHER_TYPE), (True, False), (True, False),
        )
        if decide(saved, here, untouched=untouched, same_image=same_image, kinds=KINDS).how
        == "replaced"
    }  # fmt: skip

    assert {(one, OTHER, True, True) for one in (CODE, CHANGED, UNKNOWN)} == found


def test_the_name_beside_is_the_same_at_every_boot_and_fits() -> None:
    long = replace(CODE, path="/" + "\N{SNOWMAN}" * 85)

    assert "/home/a.py.rescued-20010909T014640Z" == beside(CODE)
    assert len(beside(long).encode("utf-8", "surrogateescape")) <= 256
    assert beside(long) == beside(long)
