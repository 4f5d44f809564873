"""Supervision by histories: what happens when, and what the init does about it."""

from __future__ import annotations

import signal
from signal import SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGUSR1

import pytest

from workspace_agent.supervise import spawn
from workspace_agent.supervise.init import EVERY, LEND, PAUSE, REGAIN, SEND, Duty
from workspace_agent.supervise.spawn import HAND_OVER, NO_TTY

LENT = spawn.LEND

GRACE = 25.0

STOPPED = "the workload stopped"
STOPPED_IN_FRONT = "the workload stopped, and we have the terminal"
CLOCK = "the clock"

SUSPEND = (SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

Action = tuple[float, str, int]


def replay(
    history: list[tuple[float, object]], tty: int = NO_TTY, grace: float = GRACE
) -> list[Action]:
    """Return what is done, each with its second; the clock is asked after every event."""
    duty = Duty(grace, tty)
    done: list[Action] = []
    for second, event in history:
        actions = []
        if event in (STOPPED, STOPPED_IN_FRONT):
            actions += duty.on_stop(foreground=event == STOPPED_IN_FRONT)
        elif event != CLOCK:
            actions += duty.on_signal(int(event), second)
        actions += duty.on_time(second)
        done += [(second, what, number) for what, number in actions]
    return done


@pytest.mark.parametrize("tty", [NO_TTY, LENT])
@pytest.mark.parametrize("number", sorted(EVERY - {SIGCONT, signal.SIGCHLD, *SUSPEND}))
def test_every_signal_is_passed_on_and_as_often_as_it_comes(number: int, tty: int) -> None:
    history = [(0.0, number), (1.0, number)]

    assert [(0.0, SEND, number), (1.0, SEND, number)] == replay(history, tty)


def test_nothing_that_can_be_caught_is_left_out() -> None:
    assert {SIGKILL, SIGSTOP} == set(signal.valid_signals()) - EVERY


@pytest.mark.parametrize("tty", [NO_TTY, HAND_OVER, LENT])
@pytest.mark.parametrize("number", SUSPEND)
def test_a_suspend_stops_the_workload_and_then_ourselves(number: int, tty: int) -> None:
    assert [(0.0, SEND, SIGSTOP), (0.0, PAUSE, 0)] == replay([(0.0, number)], tty)


def test_a_continue_resumes_what_a_suspend_stopped() -> None:
    history = [(0.0, SIGTSTP), (5.0, SIGCONT)]

    assert [(0.0, SEND, SIGSTOP), (0.0, PAUSE, 0), (5.0, SEND, SIGCONT)] == replay(history)


def test_a_workload_that_outlives_its_grace_is_killed_exactly_once() -> None:
    history = [(10.0, SIGTERM), (34.9, CLOCK), (35.0, CLOCK), (36.0, CLOCK), (99.0, CLOCK)]

    assert [(10.0, SEND, SIGTERM), (35.0, SEND, SIGKILL)] == replay(history)


def test_a_second_term_is_passed_on_and_buys_no_time() -> None:
    history = [(0.0, SIGTERM), (20.0, SIGTERM), (25.0, CLOCK), (45.0, CLOCK)]
    expected = [(0.0, SEND, SIGTERM), (20.0, SEND, SIGTERM), (25.0, SEND, SIGKILL)]

    assert expected == replay(history)


def test_a_term_after_the_kill_starts_no_second_budget() -> None:
    history = [(0.0, SIGTERM), (25.0, CLOCK), (26.0, SIGTERM), (99.0, CLOCK)]
    expected = [(0.0, SEND, SIGTERM), (25.0, SEND, SIGKILL), (26.0, SEND, SIGTERM)]

    assert expected == replay(history)


@pytest.mark.parametrize("number", [SIGINT, SIGQUIT, SIGHUP, SIGUSR1])
def test_only_a_term_starts_the_budget(number: int) -> None:
    assert [(0.0, SEND, number)] == replay([(0.0, number), (1e6, CLOCK)])


def test_without_a_grace_the_kill_follows_at_once() -> None:
    expected = [(0.0, SEND, SIGTERM), (0.0, SEND, SIGKILL)]

    assert expected == replay([(0.0, SIGTERM)], grace=0.0)


def test_only_a_term_counts_as_stopping() -> None:
    calm, told = Duty(GRACE), Duty(GRACE)
    calm.on_signal(SIGINT, 0.0)
    told.on_signal(SIGTERM, 0.0)

    assert (False, True) == (calm.stopping, told.stopping)


def test_the_wait_is_what_is_left_of_the_grace_and_for_ever_without_one() -> None:
    duty = Duty(GRACE)
    waits = [duty.wait(0.0)]
    duty.on_signal(SIGTERM, 10.0)
    waits += [duty.wait(10.0), duty.wait(30.0), duty.wait(99.0)]
    duty.on_time(99.0)
    waits += [duty.wait(99.0)]

    assert [None, 25.0, 5.0, 0.0, None] == waits


def test_a_persons_ctrl_z_takes_the_terminal_back_and_fg_lends_it_again() -> None:
    history = [(0.0, STOPPED), (9.0, SIGCONT)]
    expected = [(0.0, REGAIN, 0), (0.0, PAUSE, 0), (9.0, LEND, 0), (9.0, SEND, SIGCONT)]

    assert expected == replay(history, LENT)


@pytest.mark.parametrize("number", SUSPEND)
def test_our_own_stop_is_not_taken_for_a_ctrl_z(number: int) -> None:
    history = [(0.0, number), (0.1, STOPPED)]

    assert [(0.0, SEND, SIGSTOP), (0.0, PAUSE, 0)] == replay(history, LENT)


def test_a_ctrl_z_after_our_own_stop_was_resumed_is_a_ctrl_z_again() -> None:
    history = [(0.0, SIGTSTP), (0.1, STOPPED), (1.0, SIGCONT), (2.0, STOPPED)]
    expected = [
        (0.0, SEND, SIGSTOP), (0.0, PAUSE, 0),
        (1.0, LEND, 0), (1.0, SEND, SIGCONT),
        (2.0, REGAIN, 0), (2.0, PAUSE, 0),
    ]  # fmt: skip

    assert expected == replay(history, LENT)


@pytest.mark.parametrize("tty", [NO_TTY, HAND_OVER])
def test_where_nobody_could_resume_us_a_stopped_workload_does_not_stop_us(tty: int) -> None:
    assert [] == replay([(0.0, STOPPED)], tty)


def test_a_workload_that_stopped_for_a_terminal_which_we_have_gets_it_and_goes_on() -> None:
    expected = [(1.0, LEND, 0), (1.0, SEND, SIGCONT)]

    assert expected == replay([(1.0, STOPPED_IN_FRONT)], LENT)


@pytest.mark.parametrize("tty", [NO_TTY, HAND_OVER])
def test_a_terminal_that_was_not_lent_is_not_given(tty: int) -> None:
    assert [] == replay([(1.0, STOPPED_IN_FRONT)], tty)


def test_our_own_stop_holds_even_when_we_have_the_terminal() -> None:
    history = [(0.0, SIGTSTP), (0.1, STOPPED_IN_FRONT)]

    assert [(0.0, SEND, SIGSTOP), (0.0, PAUSE, 0)] == replay(history, LENT)


@pytest.mark.parametrize("tty, expected", [(LENT, [(REGAIN, 0)]), (NO_TTY, []), (HAND_OVER, [])])
def test_only_a_lent_terminal_is_taken_back_at_the_end(tty: int, expected: list) -> None:
    assert expected == Duty(GRACE, tty).on_end()
