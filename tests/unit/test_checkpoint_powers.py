"""What a container may do with processes, from what it says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workspace_agent.checkpoint import powers
from workspace_agent.checkpoint.powers import CHECKPOINT_RESTORE, SYS_ADMIN, SYS_PTRACE, Powers

# A container's default set.
DEFAULT = 0xA80425FB
LEAST = Powers(DEFAULT | CHECKPOINT_RESTORE, 0, 0, 0, 0, "6.18.0", (4, 2, 1))
FULL = replace(LEAST, effective=(1 << 41) - 1)


def reasons(problems: list[powers.Problem]) -> list[str]:
    return [f"{one.slug.partition('.')[2]}: {one.why}" for one in problems]


def test_the_least_that_does_is_checkpoint_restore_without_a_filter() -> None:
    assert [] == powers.against_dump(LEAST) == powers.against_restore(LEAST)
    assert not powers.is_full(LEAST)


def test_sys_admin_stands_for_checkpoint_restore() -> None:
    may = replace(LEAST, effective=DEFAULT | SYS_ADMIN)

    assert [] == powers.against_dump(may) == powers.against_restore(may)


def test_a_filter_forbids_the_dump_and_not_the_restore() -> None:
    may = replace(FULL, seccomp=2)

    assert ["checkpoint.seccomp"] == [one.slug for one in powers.against_dump(may)]
    assert [] == powers.against_restore(may)


def test_all_reasons_are_given_at_once() -> None:
    may = Powers(0, 0, 2, 1000, 1, "6.18.0", (3, 17, 1))

    assert ["old-criu", "no-right", "no-right", "seccomp"] == [
        one.partition(":")[0] for one in reasons(powers.against_dump(may))
    ]
    assert ["old-criu", "no-right", "no-right", "no-right"] == [
        one.partition(":")[0] for one in reasons(powers.against_restore(may, SYS_PTRACE))
    ]


@pytest.mark.parametrize(
    ("scope", "ptrace", "possible"),
    [(0, False, True), (1, False, False), (1, True, True), (2, True, True), (3, True, False)],
)
def test_yama_forbids_tracing_but_for_who_may_trace_all(
    scope: int, ptrace: bool, possible: bool
) -> None:
    may = replace(LEAST, ptrace_scope=scope)
    if ptrace:
        may = replace(may, effective=may.effective | SYS_PTRACE)

    assert possible is (not powers.against_dump(may))
    assert [] == powers.against_restore(may)


def test_what_the_processes_had_has_to_be_here() -> None:
    (one,) = powers.against_restore(LEAST, LEAST.effective | SYS_PTRACE | SYS_ADMIN)

    assert "SYS_PTRACE,SYS_ADMIN" in one.why
    assert "--cap-add SYS_PTRACE,SYS_ADMIN" in one.fix


def test_another_user_than_root_never_has_all_rights() -> None:
    assert powers.is_full(FULL)
    assert not powers.is_full(replace(FULL, uid=1000))


def test_the_names_are_those_of_the_bits() -> None:
    assert ["CHOWN", "SETPCAP", "SYS_TIME", "CHECKPOINT_RESTORE"] == powers.names(
        1 | powers.SETPCAP | powers.SYS_TIME | CHECKPOINT_RESTORE
    )


def test_without_criu_that_is_said_first() -> None:
    found = powers.against_dump(replace(LEAST, criu=()))

    assert ["checkpoint.no-criu"] == [one.slug for one in found]


def test_a_process_reads_its_own_powers() -> None:
    may = powers.read("/nonexistent/criu")

    assert () == may.criu
    assert may.effective & ~may.bounding == 0
