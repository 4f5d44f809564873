from __future__ import annotations

import errno
import signal

import pytest

from workspace_agent.supervise.exitcode import exit_code, not_started

CORE = 0x80  # the wait status says so beside the signal

SIGNALS = sorted(int(number) for number in signal.valid_signals())


@pytest.mark.parametrize("code", range(256))
def test_the_code_is_the_workloads_own(code: int) -> None:
    assert code == exit_code(code << 8)


@pytest.mark.parametrize("core", [0, CORE])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_killed_workload_is_128_plus_the_signal(number: int, core: int) -> None:
    assert 128 + number == exit_code(number | core)


@pytest.mark.parametrize("code", range(256))
def test_a_stopped_pod_never_counts_as_done(code: int) -> None:
    assert (code or 143) == exit_code(code << 8, stopping=True)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stop_does_not_hide_the_signal_that_killed(number: int) -> None:
    assert 128 + number == exit_code(number, stopping=True)


@pytest.mark.parametrize("error", sorted(errno.errorcode))
def test_only_a_command_that_is_not_there_is_127(error: int) -> None:
    assert (127 if error == errno.ENOENT else 126) == not_started(error)
