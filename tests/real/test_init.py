"""The init: what its workload hears, how it ends, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from agents import PYTHON, RECORDER, REPOSITORY, children, is_over, state, wait_until

SUSPEND = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

# Whatever can be caught, and is not for the init itself; TERM last, for it ends the workload.
FORWARDED = [
    int(number)
    for number in sorted(signal.valid_signals(), key=lambda number: number == signal.SIGTERM)
    if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, *SUSPEND)
]

# Those that end a process unless it says otherwise.
DEADLY = [
    int(number)
    for number in FORWARDED
    if number not in (signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)
] + [int(signal.SIGKILL)]

# The C library's own two signals, as bits of a mask: its posix_spawn leaves them ignored.
LIBRARY = 1 << 31 | 1 << 32

PID1 = str(REPOSITORY / "workspace_agent/pid1.py")

IGNORES_TERM = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True)\n"
)

# Runs each argv of a list as the init would, one after the other, and says the exit codes.
HARNESS = """
import json, os, resource, signal, sys
sys.path.insert(0, sys.argv[1])
from workspace_agent.supervise import init, spawn
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
codes = []
for argv in json.loads(sys.argv[2]):
    pid = os.fork()
    if pid == 0:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, init.EVERY)
        started = spawn.spawn(argv, os.environ, mask)
        os._exit(init.attend(started.pid, init.Duty(25.0, started.tty)))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
"""


def codes(*workloads: list[str]) -> list[int]:
    """Return what an init exits with for each of *workloads*."""
    argv = [*PYTHON, HARNESS, str(REPOSITORY), json.dumps(workloads)]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


# Signals


def test_every_signal_reaches_the_workload_and_its_group_once(agent) -> None:
    running = agent(*PYTHON, RECORDER)
    running.until("workload ready").until("child ready")
    for number in FORWARDED:
        running.signal(number)
        running.until(f"workload {number}\n").until(f"child {number}\n")
    running.wait()
    expected = [f"{who} {number}" for who in ("child", "workload") for number in FORWARDED]

    assert sorted(expected) == sorted(x for x in running.out.splitlines() if "ready" not in x)


@pytest.mark.parametrize("number", SUSPEND)
def test_a_suspend_stops_the_whole_group_until_a_continue(agent, number: int) -> None:
    running = agent(*PYTHON, RECORDER)
    everyone = [int(running.word(f"{who} ready")) for who in ("workload", "child")]
    everyone.append(running.pid)
    running.signal(number)
    wait_until(lambda: {"T"} == {state(pid) for pid in everyone}, "all stopped")
    running.signal(signal.SIGCONT)
    running.until(f"workload {signal.SIGCONT:d}\n").until(f"child {signal.SIGCONT:d}\n")
    wait_until(lambda: "T" not in {state(pid) for pid in everyone}, "all continued")
    running.signal(signal.SIGTERM)

    assert 143 == running.wait()


def test_a_stop_by_term_kills_a_group_without_handlers(agent) -> None:
    running = agent("sh", "-c", "sleep infinity & echo child $!; wait; :")
    child = int(running.word("child"))
    running.signal(signal.SIGTERM)

    assert 143 == running.wait()
    wait_until(lambda: is_over(child), "the child has ended")


def test_a_workload_that_ignores_a_term_is_killed_when_its_grace_is_over(agent, place) -> None:
    env = place.environ(WORKSPACE_AGENT__WORKLOAD__GRACE="500ms")
    running = agent(*PYTHON, f"{IGNORES_TERM}while True: time.sleep(1)", env=env)
    running.until("ready").signal(signal.SIGTERM)

    assert 137 == running.wait()


def test_a_workload_that_puts_its_things_away_within_its_grace_is_not_killed(agent, place) -> None:
    env = place.environ(WORKSPACE_AGENT__WORKLOAD__GRACE="20s")
    text = "trap 'sleep 0.3; echo done; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    running = agent("sh", "-c", text, env=env)
    running.until("ready").signal(signal.SIGTERM)

    assert (7, True) == (running.wait(), "done" in running.out)


def test_a_workload_that_ends_well_after_a_term_does_not_count_as_done(agent) -> None:
    text = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    running = agent("sh", "-c", text)
    running.until("ready").signal(signal.SIGTERM)

    assert 143 == running.wait()


def test_an_interrupt_that_the_workload_handles_is_no_stop(agent) -> None:
    text = "trap 'exit 0' INT; echo ready; while :; do sleep 0.01; done"
    running = agent("sh", "-c", text)
    running.until("ready").signal(signal.SIGINT)

    assert 0 == running.wait()


# Exit codes


def test_every_exit_code_is_the_workloads() -> None:
    assert list(range(256)) == codes(*(["sh", "-c", f"exit {code}"] for code in range(256)))


def test_a_workload_killed_by_any_signal_is_128_plus_it() -> None:
    workloads = [[*PYTHON, f"{reset(n)}; os.kill(os.getpid(), {n})"] for n in DEADLY]

    assert [128 + number for number in DEADLY] == codes(*workloads)


@pytest.mark.parametrize("code", [0, 1, 2, 7, 77, 100, 125, 126, 127, 128, 143, 255])
def test_the_entrypoint_exits_with_the_code_of_the_workload(agent, code: int) -> None:
    assert code == agent("sh", "-c", f"exit {code}").wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_the_entrypoint_exits_with_128_plus_the_signal_of_the_workload(agent, number: int) -> None:
    assert 128 + number == agent("sh", "-c", f"kill -{number:d} $$").wait()


def test_a_command_that_is_not_there_is_127_and_named(agent) -> None:
    running = agent("no-such-command")

    assert 127 == running.wait()
    assert "`no-such-command` was not found" in running.err


@pytest.mark.parametrize("name", ["missing/file", "file/inside", ""])
def test_a_path_that_leads_nowhere_is_127(agent, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()

    assert 127 == agent(f"{tmp_path}/{name}" if name else "").wait()


def test_a_script_whose_interpreter_is_missing_is_127(agent, tmp_path: Path) -> None:
    script(tmp_path / "run", "#!/no/such/interpreter\n")

    assert 127 == agent(f"{tmp_path}/run").wait()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_cannot_be_executed_is_126_and_named(agent, tmp_path: Path, kind: str) -> None:
    (tmp_path / "folder").mkdir()
    script(tmp_path / "file", "#!/bin/sh\n", 0o644)
    running = agent(f"{tmp_path}/{kind}")

    assert 126 == running.wait()
    assert f"`{tmp_path}/{kind}` cannot be executed" in running.err


def test_a_name_that_only_means_a_plain_file_is_126(agent, place, tmp_path: Path) -> None:
    script(tmp_path / "bin/tool", "#!/bin/sh\n", 0o644)
    env = place.environ(PATH=f"{tmp_path}/bin:{os.environ['PATH']}")

    assert 126 == agent("tool", env=env).wait()


def test_a_plain_file_does_not_hide_a_command_further_on(agent, place, tmp_path: Path) -> None:
    script(tmp_path / "one/tool", "#!/bin/sh\n", 0o644)
    script(tmp_path / "two/tool", "#!/bin/sh\nexit 9\n")
    env = place.environ(PATH=f"{tmp_path}/one:{tmp_path}/two:{os.environ['PATH']}")

    assert 9 == agent("tool", env=env).wait()


def test_a_script_without_an_interpreter_line_runs_under_sh(agent, tmp_path: Path) -> None:
    script(tmp_path / "run", 'echo "$0|$1|$2"\nexit 3\n')
    running = agent(f"{tmp_path}/run", "a b", "*")

    assert (3, f"{tmp_path}/run|a b|*\n") == (running.wait(), running.out)


def test_a_command_on_the_volume_is_found(agent, place) -> None:
    script(place.volume / "bin/mine", "#!/bin/sh\nexit 11\n")

    assert 11 == agent("mine").wait()


def test_a_required_volume_that_is_not_usable_is_our_own_failure(agent, place) -> None:
    place.volume.write_text("a file")
    running = agent("touch", str(place.folder / "ran"),
                    env=place.environ(WORKSPACE_AGENT__VOLUME__REQUIRED="true"))  # fmt: skip

    assert 125 == running.wait()
    assert "required" in running.err
    assert not (place.folder / "ran").exists()


def test_a_volume_that_is_not_usable_keeps_no_workload_from_running(agent, place) -> None:
    place.volume.write_text("a file")
    running = agent("sh", "-c", "exit 4")

    assert (4, True) == (running.wait(), "(volume.not-a-folder)" in running.err)


# What the workload gets


def test_the_workload_gets_no_signal_blocked_or_ignored(agent) -> None:
    running = agent("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    running.wait()
    masks = [int(line.split()[1], 16) & ~LIBRARY for line in running.out.splitlines()]

    assert [0, 0] == masks


def test_the_workload_gets_a_pipe_that_ends_it(agent) -> None:
    running = agent("bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}")
    running.wait()

    assert "y\n141\n" == running.out


def test_the_workload_inherits_what_the_container_blocked(agent) -> None:
    # Of PID 1 itself: a /bin/sh that has to look for a Python may clear the mask on the way.
    blocked = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.execv(sys.argv[1], sys.argv[1:])
"""
    before = (*PYTHON, blocked, sys.executable, "-I", "-S")
    running = agent("grep", "^SigBlk", "/proc/self/status", before=before, entrypoint=PID1)
    running.wait()

    assert f"{1 << 9:016x}" == running.out.split()[1]


def test_the_workload_inherits_no_descriptor_of_ours(agent) -> None:
    text = """
import os
for name in os.listdir("/proc/self/fd"):
    if os.path.exists(f"/proc/self/fd/{name}"):
        print(name)
"""
    running = agent(*PYTHON, text)
    running.wait()

    assert ["0", "1", "2"] == sorted(running.out.split())


def test_the_workload_leads_a_session_and_a_group_of_its_own(agent) -> None:
    running = agent(*PYTHON, "import os; print(os.getpid(), os.getsid(0), os.getpgid(0))")
    running.wait()
    pid, *rest = running.out.split()

    assert [pid, pid] == rest


def test_the_workload_starts_where_the_container_does(agent, tmp_path: Path) -> None:
    running = agent("pwd", cwd=tmp_path)
    running.wait()

    assert f"{tmp_path}\n" == running.out


def test_our_interpreters_locale_is_not_the_workloads(agent) -> None:
    running = agent("printenv", "LC_CTYPE", before=("env", "-u", "LANG", "-u", "LC_ALL"))

    assert (1, "") == (running.wait(), running.out)


def test_an_lc_ctype_of_the_containers_stays(agent, place) -> None:
    running = agent("printenv", "LC_CTYPE", env=place.environ(LC_CTYPE="C.UTF-8"))
    running.wait()

    assert "C.UTF-8\n" == running.out


HOSTILE = [
    b"",
    b" ",
    b"caf\xe9",
    b"\xff\xfe\x80",
    "日本語 \U0001f600".encode(),
    b"a\nb\t'\"$(x)`\\",
    b"-x=*",
]


@pytest.mark.parametrize(
    "locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "POSIX"}]
)
def test_arguments_pass_byte_for_byte(agent, place, locale: dict[str, str]) -> None:
    text = "import sys; sys.stdout.buffer.write(open('/proc/self/cmdline', 'rb').read())"
    running = agent(*PYTHON, text, *HOSTILE, env=place.environ(**locale))
    running.wait()

    assert HOSTILE == running.raw.split(b"\0")[-len(HOSTILE) - 1 : -1]


@pytest.mark.parametrize(
    "locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "POSIX"}]
)
def test_the_environment_passes_byte_for_byte(agent, place, locale: dict[str, str]) -> None:
    given = {b"V%d" % at: value for at, value in enumerate(HOSTILE)}
    env = {os.fsencode(k): os.fsencode(v) for k, v in place.environ(**locale).items()}
    running = agent("cat", "/proc/self/environ", env={**env, **given})
    running.wait()
    got = dict(item.split(b"=", 1) for item in running.raw.split(b"\0") if item)

    assert given == {name: got.get(name) for name in given}


def test_pid_1_itself_drops_no_odd_name(agent, place) -> None:
    # A /bin/sh that is dash does: it passes on only what could be a variable of its own.
    given = {b"spring.profile": b"x", b"odd name": b"", b"caf\xe9": b"\xff"}
    env = {os.fsencode(k): os.fsencode(v) for k, v in place.environ().items()}
    running = agent(
        "cat", "/proc/self/environ",
        before=(sys.executable, "-I", "-S"),
        entrypoint=PID1,
        env={**env, **given},
    )  # fmt: skip
    running.wait()
    got = dict(item.split(b"=", 1) for item in running.raw.split(b"\0") if item)

    assert given == {name: got.get(name) for name in given}


@pytest.mark.parametrize("word", [[], ["--"]])
def test_a_double_dash_before_the_command_is_ours(agent, word: list[str]) -> None:
    running = agent(*word, "printf", "%s|", "--", "-x")
    running.wait()

    assert "--|-x|" == running.out


# Where somebody else is PID 1


def test_an_orphan_becomes_ours_and_leaves_no_zombie(agent) -> None:
    text = "sh -c 'sleep infinity & echo orphan $!'; exec sleep infinity"
    running = agent("sh", "-c", text)
    orphan = int(running.word("orphan"))
    wait_until(lambda: orphan in children(running.pid), "the orphan is a child of the agent")
    os.kill(orphan, signal.SIGKILL)

    assert wait_until(lambda: state(orphan) == "", "the orphan was reaped")


def test_the_agent_stops_its_workload_when_its_parent_dies(agent, place) -> None:
    env = place.environ(WORKSPACE_AGENT_PARENT_DEATH="15")
    parent = ("sh", "-c", '"$@" & echo agent $!; wait', "sh")
    running = agent(*PYTHON, RECORDER, before=parent, env=env)
    pid = int(running.word("agent"))
    running.until("workload ready").until("child ready")
    running.signal(signal.SIGKILL)

    wait_until(lambda: "workload 15\n" in running.out, "the workload was told")
    wait_until(lambda: is_over(pid), "the agent has ended")


# As PID 1 of a namespace


def test_a_thousand_orphans_leave_no_zombie(pid1) -> None:
    text = """
import os, time
for _ in range(1000):
    child = os.fork()
    if child == 0:
        os.fork()
        os._exit(0)
    os.waitpid(child, 0)
def others():
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
until = time.monotonic() + 20
while others() != [1, os.getpid()] and time.monotonic() < until:
    time.sleep(0.01)
print("left", others() == [1, os.getpid()] or others())
"""
    running = pid1(*PYTHON, text)

    assert (0, "left True\n") == (running.wait(), running.out)


def test_pid_1_passes_every_signal_on_once(pid1) -> None:
    running = pid1(*PYTHON, RECORDER)
    running.until("workload ready").until("child ready")
    for number in FORWARDED:
        running.signal(number)
        running.until(f"workload {number}\n").until(f"child {number}\n")
    expected = [f"{who} {number}" for who in ("child", "workload") for number in FORWARDED]

    assert 143 == running.wait()
    assert sorted(expected) == sorted(x for x in running.out.splitlines() if "ready" not in x)


def test_pid_1_stopped_by_a_term_ends_its_group_with_143(pid1) -> None:
    running = pid1("sh", "-c", "sleep infinity & echo ready; wait; :")
    running.until("ready").signal(signal.SIGTERM)

    assert 143 == running.wait()


def test_pid_1_kills_a_workload_that_ignores_the_term(pid1, place) -> None:
    env = place.environ(WORKSPACE_AGENT__WORKLOAD__GRACE="500ms")
    running = pid1(*PYTHON, f"{IGNORES_TERM}while True: time.sleep(1)", env=env)
    running.until("ready").signal(signal.SIGTERM)

    assert 137 == running.wait()


def test_pid_1_never_exits_0_after_a_term(pid1) -> None:
    running = pid1("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done")
    running.until("ready").signal(signal.SIGTERM)

    assert 143 == running.wait()


@pytest.mark.parametrize("code", [0, 3, 255])
def test_pid_1_exits_with_the_code_of_the_workload(pid1, code: int) -> None:
    assert code == pid1("sh", "-c", f"exit {code}").wait()


def test_pid_1_takes_what_outlives_the_workload_with_it(pid1) -> None:
    running = pid1("sh", "-c", "setsid sleep infinity & echo ready; exit 5")

    assert 5 == running.wait()


def script(path: Path, text: str, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def reset(number: int) -> str:
    """Return code that gives *number* back the effect that Python took from it."""
    if number == signal.SIGKILL:
        return "import os"
    return f"import os, signal; signal.signal({number}, signal.SIG_DFL)"


# A workload that dies of a TERM at once, and leaves one in its group that has something to save.
LEAVES_A_SAVER = (
    "sh -c 'trap \"echo saved; exit 0\" TERM; echo ready; while :; do sleep 0.05; done' & wait"
)


def test_after_a_term_the_rest_of_the_group_may_finish(agent) -> None:
    running = agent("sh", "-c", LEAVES_A_SAVER).until("ready")
    running.signal(signal.SIGTERM)

    assert (143, "ready\nsaved\n") == (running.wait(), running.out)


def test_what_does_not_finish_is_killed_when_the_grace_is_over(agent, place) -> None:
    endless = LEAVES_A_SAVER.replace("echo saved; exit 0", "")
    env = place.environ(WORKSPACE_AGENT__WORKLOAD__GRACE="300ms")
    running = agent("sh", "-c", endless, env=env).until("ready")
    running.signal(signal.SIGTERM)

    assert 143 == running.wait()
    wait_until(lambda: all(is_over(pid) for pid in place.started()), "nothing is left")


def test_without_a_term_nobody_is_waited_for(agent) -> None:
    running = agent("sh", "-c", "sleep 1000 & exit 3")

    assert 3 == running.wait()
