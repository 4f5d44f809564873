"""Terminals: handed over where the agent leads the session, lent where a person's shell does."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from agents import ENTRYPOINT, NAMESPACE, PYTHON, RECORDER, Terminal, children, state, wait_until

SHELL = ("bash", "--norc", "--noprofile", "-i")

CTRL_C, CTRL_D, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x04", "\x1a", "\x1c"

# Answers each line of the keyboard, from when the file of its argument is there; Ctrl-D ends it.
READER = (sys.executable, "-I", "-S", str(Path(__file__).parent / "reader.py"))


@pytest.fixture(params=["session leader", "PID 1"])
def leader(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return what makes the agent the leader of its terminal's session: as `-t` does it."""
    if request.param == "session leader":
        return ()
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make PID namespaces (root)")
    return (*NAMESPACE, "setsid", "--ctty")


def recorder(terminal, leader: tuple[str, ...]) -> Terminal:
    screen = terminal(*leader, ENTRYPOINT, *PYTHON, RECORDER)
    names = ("workload ready", "child ready")
    wait_until(lambda: all(name in screen.text for name in names), "both are ready")
    return screen


def recorded(screen: Terminal) -> list[str]:
    """Return what the recorder and its child said of signals."""
    return re.findall(r"(?:workload|child) \d+(?=\n)", screen.text)


def typed(*argv: str) -> str:
    """Return the line that a person types to run the agent with *argv*."""
    return shlex.join([ENTRYPOINT, *argv]) + "\n"


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def has_the_keyboard(screen: Terminal, name: str) -> None:
    wait_until(lambda: name_of(screen.foreground) == name, f"{name} has the terminal")


# The agent leads the session: the workload's session gets the terminal


def test_a_shell_has_job_control(terminal, leader) -> None:
    screen = terminal(*leader, ENTRYPOINT, *SHELL).until("$ ").type("sleep 1000\n")
    has_the_keyboard(screen, "sleep")
    screen.type(CTRL_Z).until("Stopped").until("$ ")
    screen.type("bg\n").until("sleep 1000 &").until("$ ")
    screen.type("jobs\n").until("Running").until("$ ")
    screen.type("fg\n")
    has_the_keyboard(screen, "sleep")
    screen.type(CTRL_C).until("$ ").type("echo alive-$((40 + 2))\n").until("alive-42").until("$ ")
    screen.type("exit 3\n")

    assert 3 == screen.wait()
    assert "job control" not in screen.text


def test_a_script_with_job_control_has_it_too(terminal, leader) -> None:
    screen = terminal(*leader, ENTRYPOINT, "bash", "-mc", "sleep 1000; echo rc-$?; exit 4")
    has_the_keyboard(screen, "sleep")
    screen.type(CTRL_BACKSLASH).until("rc-131")

    assert 4 == screen.wait()
    assert "job control" not in screen.text


def test_the_workload_has_the_terminal_for_itself(terminal) -> None:
    screen = terminal(ENTRYPOINT, *READER).until("\r\nready")
    assert screen.foreground in children(screen.pid)

    screen.type("hello\n").until("got hello").type(CTRL_D)

    assert 9 == screen.wait()


def test_the_kernels_hup_and_cont_do_not_reach_the_workload(terminal, leader) -> None:
    screen = recorder(terminal, leader)
    agent = children(screen.pid)[0] if leader else screen.pid
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGCONT):
        os.kill(agent, number)
        screen.until(f" {number:d}\r\n").until(f" {number:d}\r\n")
    expected = [f"{who} {number}" for number in (1, 10, 18) for who in ("child", "workload")]

    assert sorted(expected) == sorted(recorded(screen))


def test_a_ctrl_c_reaches_the_workload_and_its_group_once(terminal, leader) -> None:
    screen = recorder(terminal, leader)
    screen.type(CTRL_C).until(" 2\r\n").until(" 2\r\n")
    screen.type(CTRL_BACKSLASH).until(" 3\r\n").until(" 3\r\n")

    assert ["child 2", "child 3", "workload 2", "workload 3"] == sorted(recorded(screen))


# A person's shell leads the session: the workload is lent the terminal, as any command is


@pytest.fixture
def shell(terminal) -> Terminal:
    return terminal(*SHELL).until("$ ")


def test_a_command_at_a_prompt_reads_the_keyboard_and_gives_it_back(shell) -> None:
    shell.type(typed(*READER)).until("\r\nready")
    assert shell.foreground in children(children(shell.pid)[0])

    shell.type("hello\n").until("got hello").type(CTRL_D).until("$ ")
    shell.type("echo rc-$?\n").until("rc-9").until("$ ").type("exit\n")

    assert 0 == shell.wait()


@pytest.mark.parametrize(
    "workload, code", [(("sh", "-c", "exit 5"), 5), (("no-such-command",), 127)]
)
def test_a_script_around_the_agent_has_the_keyboard_back(shell, workload, code: int) -> None:
    text = f"{shlex.join([ENTRYPOINT, *workload])}; echo rc-$?; read -r line; echo got-$line"
    shell.type(shlex.join(["sh", "-c", text]) + "\n").until(f"\r\nrc-{code}")
    shell.type("hello\n").until("got-hello").until("$ ")


def test_a_ctrl_c_at_a_prompt_ends_the_command_and_not_the_shell(shell) -> None:
    shell.type(typed("sleep", "1000"))
    has_the_keyboard(shell, "sleep")
    shell.type(CTRL_C).until("$ ").type("echo rc-$?\n").until("rc-130").until("$ ")

    assert shell.pid == shell.foreground


def test_a_ctrl_z_suspends_agent_and_workload_and_fg_resumes_both(shell) -> None:
    shell.type(typed(*READER)).until("\r\nready")
    agent = children(shell.pid)[0]
    workload = shell.foreground
    for _ in range(2):
        shell.type(CTRL_Z).until("Stopped").until("$ ")
        stopped = {state(workload), state(agent)}
        shell.type("echo alive-$((40 + 2))\n").until("alive-42").until("$ ")
        shell.type("fg\n").until("resumed").type("hello\n").until("got hello")

        assert ({"T"}, workload) == (stopped, shell.foreground)


def test_a_suspended_command_that_goes_on_in_the_background_leaves_the_keyboard(shell) -> None:
    shell.type(typed("sleep", "1000"))
    has_the_keyboard(shell, "sleep")
    workload = shell.foreground
    shell.type(CTRL_Z).until("Stopped").until("$ ").type("bg\n").until("$ ")
    wait_until(lambda: state(workload) == "S", "the workload goes on")
    shell.type("echo alive-$((40 + 2))\n").until("alive-42").until("$ ")
    assert shell.pid == shell.foreground

    shell.type("fg\n").until("sleep")
    wait_until(lambda: shell.pid != shell.foreground, "the job is in the foreground")
    shell.type(CTRL_C).until("$ ").type("echo rc-$?\n").until("rc-130")


def test_a_command_that_ends_in_the_background_leaves_the_keyboard(shell) -> None:
    shell.type(typed("sleep", "1000"))
    has_the_keyboard(shell, "sleep")
    agent, workload = children(shell.pid)[0], shell.foreground
    shell.type(CTRL_Z).until("Stopped").until("$ ").type("bg\n").until("$ ")
    os.kill(workload, signal.SIGKILL)
    wait_until(lambda: not state(agent), "the shell has noticed the end of its job")
    shell.type("echo alive-$((40 + 2))\n").until("alive-42").until("$ ")

    assert shell.pid == shell.foreground


@pytest.mark.parametrize("start", ["in the background", "bg after Ctrl-Z"])
def test_a_background_command_that_wants_the_keyboard_waits_for_its_fg(shell, start: str) -> None:
    line = typed(*READER)
    if start == "in the background":
        shell.type(f"{line.rstrip()} &\n").until("\r\nready")
    else:
        shell.type(line).until("\r\nready")
        shell.type(CTRL_Z).until("Stopped").until("$ ").type("bg\n").until("resumed")
    wait_until(lambda: state(children(shell.pid)[0]) == "T", "the agent is suspended")
    shell.type("echo alive-$((40 + 2))\n").until("alive-42").until("$ ")
    shell.type("fg\n").until("resumed").type("hello\n").until("got hello").type(CTRL_D)
    shell.until("$ ").type("echo rc-$?\n").until("rc-9").until("$ ")

    assert shell.pid == shell.foreground


def test_a_command_back_in_the_foreground_gets_the_keyboard_when_it_wants_it(shell, place) -> None:
    shell.type(typed(*READER, f"{place.folder}/want")).until("\r\nready")
    shell.type(CTRL_Z).until("Stopped").until("$ ").type("bg\n").until("$ ")
    shell.type("fg\n").until("want")
    wait_until(lambda: shell.pid != shell.foreground, "the job is in the foreground")
    (place.folder / "want").touch()
    shell.type("hello\n").until("got hello").type(CTRL_D).until("$ ")

    assert shell.pid == shell.foreground


def test_a_command_in_a_pipe_can_be_interrupted(shell) -> None:
    shell.type(typed("sleep", "1000").strip() + " | cat\n")
    wait_until(lambda: len(children(shell.pid)) == 2, "the pipe")
    agent = children(shell.pid)[0]
    wait_until(lambda: any(name_of(one) == "sleep" for one in children(agent)), "the workload")
    shell.type(CTRL_C).until("$ ").type("echo rc-${PIPESTATUS[0]}\n").until("rc-130")
