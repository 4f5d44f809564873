"""The workload is asked before a checkpoint and told after it, each exactly once."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from agents import REPOSITORY, wait_until

from workspace_agent.checkpoint import parts
from workspace_agent.checkpoint.contract import Attempt, Contract
from workspace_agent.model.problem import AgentError, Problem

# Reached only by what hangs on purpose; and by what must not.
SHORT, LONG = 0.5, 30.0

FAILED = Problem("checkpoint.no-criu", "the dump failed")
ATTEMPT = Attempt("n1", 0)


@dataclass
class Pair:
    """A contract, and the programs that were started beside it."""

    contract: Contract
    folder: Path
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def control(self) -> Path:
        return Path(self.contract.control)

    def program(self, mode: str = "", processes: int = 1) -> subprocess.Popen[bytes]:
        """Start the workload, and wait until it has registered."""
        env = {**self.contract.environ, **self.contract.variables(), "MODE": mode}
        script = self.folder / "contract_workload.py"
        one = subprocess.Popen(
            [sys.executable, "-I", script], env=env, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self.programs.append(one)
        wanted = len(parts.clients(self.contract.control)) + processes
        wait_until(lambda: len(parts.clients(self.contract.control)) >= wanted, "the library")
        return one

    def said(self, pid: int) -> list[str]:
        path = self.folder / f"log-{pid}"
        return [line for line in path.read_text().splitlines() if line != "running"]

    def hook(self, name: str, body: str) -> None:
        path = self.folder / "hooks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def log_hook(self, name: str, more: str = "") -> None:
        self.hook(
            name, f'echo {name} "$WORKSPACE_CHECKPOINT_OUTCOME" >>{self.folder}/calls\n{more}'
        )

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return [line.strip() for line in path.read_text().splitlines()] if path.exists() else []

    def result(self, name: str) -> dict[str, object]:
        return json.loads((self.control / name).read_text())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    for source in ("workspace_agent/workload.py", "tests/real/contract_workload.py"):
        shutil.copy(f"{REPOSITORY}/{source}", tmp_path)
    contract = Contract(
        str(tmp_path / "control"), str(tmp_path / "hooks"), "", {"PATH": os.environ["PATH"]},
        str(tmp_path / "log"), LONG,
    )  # fmt: skip
    contract.open()
    one = Pair(contract, tmp_path)
    yield one
    for program in one.programs:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def refusal(contract: Contract, attempt: Attempt = ATTEMPT, **options: bool) -> Problem:
    with pytest.raises(AgentError) as refused:
        contract.before(attempt, **options)
    return refused.value.problem


def test_callbacks_before_run_last_first_and_those_after_in_order(pair: Pair) -> None:
    pid = pair.program().pid

    assert [f"library/{pid}"] == pair.contract.before(ATTEMPT)
    assert ["before 2", "before 1"] == pair.said(pid)
    assert [] == pair.contract.resumed(ATTEMPT, None)
    assert ["after 1 generation 0", "after 2"] == pair.said(pid)[2:]
    assert {"nonce": "n1", "generation": 0} == pair.result("snapshot-complete")


def test_a_restored_program_answers_with_the_nonce_of_that_restore(pair: Pair) -> None:
    pid = pair.program().pid
    kinds = tuple(pair.contract.before(ATTEMPT))
    attempt = Attempt("n2", 1, kinds)
    pair.contract.renew({"generation": 1, "seed": "abc"})

    assert not pair.contract.answered(attempt)
    assert [] == pair.contract.restored(attempt)
    assert pair.contract.answered(attempt)
    assert not pair.contract.answered(replace(attempt, nonce="n1"))
    assert ["after 1 generation 1", "restored seed abc", "after 2"] == pair.said(pid)[2:]
    assert (pid,) == parts.clients(pair.contract.control)  # ready for the next checkpoint
    assert 0o600 == stat.S_IMODE((pair.control / "identity.json").stat().st_mode)
    assert ["restore-complete"] == [p.name for p in pair.control.glob("*-complete")]


def test_a_restored_program_goes_through_the_next_checkpoint_and_restore(pair: Pair) -> None:
    pid = pair.program().pid
    for generation in (1, 2):
        kinds = tuple(pair.contract.before(Attempt(f"a{generation}", generation - 1)))
        pair.contract.renew({"generation": generation, "seed": generation})
        assert [] == pair.contract.restored(Attempt(f"b{generation}", generation, kinds))

    assert [f"after 1 generation {n}" for n in (1, 2)] == pair.said(pid)[2::5]
    assert [f"restored seed {n}" for n in (1, 2)] == pair.said(pid)[3::5]


def test_without_the_library_nobody_has_answered(pair: Pair) -> None:
    assert not pair.contract.answered(Attempt("n", 1, ("http", "hook/a")))


def test_an_exception_before_aborts_and_every_callback_still_runs(pair: Pair) -> None:
    pid = pair.program("raises").pid
    problem = refusal(pair.contract)

    assert "checkpoint.before-failed" == problem.slug
    assert f"process {pid}: first: ValueError" == problem.why  # and not a word of the message
    assert ["before 2", "before 1", "after 1 generation 0", "after 2"] == pair.said(pid)
    assert "checkpoint.before-failed" == pair.result("snapshot-failed")["problem"]["slug"]


def test_an_exception_after_is_told_and_the_others_run(pair: Pair) -> None:
    pid = pair.program("after-raises").pid
    pair.contract.before(ATTEMPT)
    (problem,) = pair.contract.resumed(ATTEMPT, None)

    assert ("checkpoint.after-failed", f"process {pid}: second: KeyError") == (
        problem.slug, problem.why
    )  # fmt: skip
    assert "after 2" == pair.said(pid)[-1]


def test_a_hanging_callback_is_given_up_and_its_afters_still_come_once(pair: Pair) -> None:
    pid = pair.program("hangs").pid
    problem = refusal(replace(pair.contract, timeout=SHORT))
    (pair.folder / "go-on").touch()

    assert f"process {pid}: no answer for 500 ms" == problem.why
    wait_until(lambda: "after 2" in pair.said(pid), "the callbacks after")
    assert ["before 2", "before 1", "after 1 generation 0", "after 2"] == pair.said(pid)


def test_a_hanging_callback_hears_of_the_end_before_the_next_attempt(pair: Pair) -> None:
    pid = pair.program("hangs").pid
    refusal(replace(pair.contract, timeout=SHORT))
    late = threading.Thread(target=pair.contract.before, args=[Attempt("n2", 0)])
    late.start()
    wait_until(lambda: pair.result("request")["nonce"] == "n2", "the next attempt")
    (pair.folder / "go-on").touch()
    late.join()

    assert ["before 2", "before 1", "after 1 generation 0", "after 2", "before 2", "before 1"] == (
        pair.said(pid)
    )


def test_a_process_that_crashes_in_its_callback_aborts_at_once(pair: Pair) -> None:
    one = pair.program("crashes")
    problem = refusal(pair.contract)

    assert f"process {one.pid} has ended" == problem.why


def test_a_forked_child_takes_part_with_its_own_callbacks_only(pair: Pair) -> None:
    one = pair.program("forks", processes=2)
    (child,) = (pid for pid in parts.clients(pair.contract.control) if pid != one.pid)
    pair.contract.before(ATTEMPT)

    assert (["before 2", "before 1"], ["child before"]) == (pair.said(one.pid), pair.said(child))


def test_a_file_of_a_process_that_is_gone_is_nobody(pair: Pair) -> None:
    one = pair.program()
    record = json.loads((pair.control / f"client-{one.pid}").read_text())
    (pair.control / f"client-{one.pid}").write_text(
        json.dumps({**record, "started": record["started"] + 1})
    )

    assert [] == pair.contract.before(ATTEMPT)


@pytest.mark.parametrize("result", ["complete", "failed", "restored"])
def test_a_program_that_drives_itself_hears_the_result(pair: Pair, result: str) -> None:
    pair.contract.before(Attempt("n0", 0))
    pair.contract.resumed(Attempt("n0", 0), None if result == "failed" else FAILED)  # an old one
    pid = pair.program("ready").pid
    pair.contract.before(ATTEMPT, wait_ready=True)
    if result == "restored":
        pair.contract.renew({"generation": 1})
        pair.contract.restored(Attempt("n2", 1))
    else:
        pair.contract.resumed(ATTEMPT, FAILED if result == "failed" else None)

    wait_until(lambda: f"result {result}" in pair.said(pid), "the result")
    assert [] == list(pair.control.glob("ready-for-*"))


def test_the_old_name_of_the_ready_file_is_accepted(pair: Pair) -> None:
    (pair.control / "ready-for-checkpoint").touch()

    assert [] == pair.contract.before(ATTEMPT, wait_ready=True)


def test_nobody_ready_is_a_refusal_and_the_afters_run(pair: Pair) -> None:
    pair.log_hook("before.d/a")
    pair.log_hook("after.d/a")
    problem = refusal(replace(pair.contract, timeout=SHORT), wait_ready=True)

    assert "the workload has not said that it is ready" == problem.what
    assert ["before.d/a", "after.d/a failed"] == pair.calls


def test_hooks_run_last_name_first_and_after_in_order(pair: Pair) -> None:
    for name in ("before.d/a", "before.d/b", "after.d/a", "after.d/b", "after.d/c"):
        pair.log_hook(name)

    assert ["hook/c", "hook/b", "hook/a"] == pair.contract.before(ATTEMPT)
    pair.contract.resumed(ATTEMPT, None)
    assert ["before.d/b", "before.d/a", "after.d/a complete", "after.d/b complete",
            "after.d/c complete"] == pair.calls  # fmt: skip


@pytest.mark.parametrize(("fault", "why"), [
    ("exit 3", "exit code 3"),
    ("kill -9 $$", "exit code 137"),
    ("while :; do :; done", "it ran longer than"),
])  # fmt: skip
def test_only_hooks_that_began_are_told_of_the_abort(pair: Pair, fault: str, why: str) -> None:
    for name in ("before.d/c", "before.d/a", "after.d/a", "after.d/b", "after.d/c"):
        pair.log_hook(name)
    pair.log_hook("before.d/b", fault)
    problem = refusal(replace(pair.contract, timeout=SHORT if "while" in fault else LONG))

    assert problem.why.startswith(why)
    assert ["before.d/c", "before.d/b", "after.d/b failed", "after.d/c failed"] == pair.calls


def test_what_a_hook_prints_is_in_the_log_and_not_in_the_problem(pair: Pair) -> None:
    pair.hook("before.d/a", 'echo "token=$TOKEN"; exit 1')
    problem = refusal(replace(pair.contract, environ={"TOKEN": "hunter2"}))

    assert "hunter2" not in "".join(problem.lines())
    assert "token=hunter2" in Path(pair.contract.log).read_text()


def test_a_failing_after_hook_does_not_keep_the_others_from_running(pair: Pair) -> None:
    pair.log_hook("after.d/a", "exit 1")
    pair.log_hook("after.d/b")
    pair.contract.before(ATTEMPT)
    (problem,) = pair.contract.resumed(ATTEMPT, None)

    assert ("hook/a did not take up its work", "exit code 1") == (problem.what, problem.why)
    assert ["after.d/a complete", "after.d/b complete"] == pair.calls


def test_another_process_tells_those_whom_a_dead_one_has_asked_and_nobody_twice(
    pair: Pair,
) -> None:
    pair.log_hook("before.d/b")
    pair.hook("before.d/a", "kill -9 $PPID")  # the one that asks
    pair.log_hook("after.d/a")
    pair.log_hook("after.d/b")
    if (asker := os.fork()) == 0:
        pair.contract.before(ATTEMPT)
        os._exit(0)

    assert signal.SIGKILL == os.WTERMSIG(os.waitpid(asker, 0)[1])
    pair.contract.resumed(ATTEMPT, FAILED)
    pair.contract.resumed(ATTEMPT, FAILED)
    assert ["before.d/b", "after.d/a failed", "after.d/b failed"] == pair.calls


def test_the_next_attempt_ends_one_that_nobody_ended(pair: Pair) -> None:
    pair.log_hook("before.d/a")
    pair.log_hook("after.d/a")
    pair.contract.before(ATTEMPT)
    pair.contract.before(Attempt("n2", 0))

    assert ["before.d/a", "after.d/a failed", "before.d/a"] == pair.calls
    pair.contract.resumed(ATTEMPT, None)  # it is not open any more
    assert 3 == len(pair.calls)


def test_what_one_process_has_told_another_does_not_tell_again(pair: Pair) -> None:
    for name in ("after.d/a", "after.d/b"):
        pair.log_hook(name, '[ "${0##*/}" = b ] || kill -9 $PPID')  # a: the one that tells
    pair.contract.before(ATTEMPT)
    if (teller := os.fork()) == 0:
        pair.contract.resumed(ATTEMPT, None)
        os._exit(0)

    assert signal.SIGKILL == os.WTERMSIG(os.waitpid(teller, 0)[1])
    pair.contract.resumed(ATTEMPT, FAILED)
    assert ["after.d/a complete", "after.d/b failed"] == pair.calls


def test_a_workload_that_is_ready_stays_so_after_an_attempt_that_nobody_ended(pair: Pair) -> None:
    pair.log_hook("before.d/a")
    pid = pair.program("ready").pid
    pair.contract.before(ATTEMPT, wait_ready=True)
    pair.contract.before(Attempt("n2", 0), wait_ready=True)
    pair.contract.resumed(Attempt("n2", 0), None)

    wait_until(lambda: "result complete" in pair.said(pid), "the result")


def test_one_that_ended_leaves_nothing_for_the_next(pair: Pair) -> None:
    pair.log_hook("before.d/a")
    pair.contract.before(ATTEMPT)
    pair.contract.resumed(ATTEMPT, None)

    assert ["snapshot-complete"] == [path.name for path in pair.control.iterdir()]


def test_only_programs_that_are_not_hidden_are_hooks(pair: Pair) -> None:
    for name in ("before.d/.a.swp", "before.d/README"):
        pair.log_hook(name)
    (pair.folder / "hooks/before.d/README").chmod(0o644)
    (pair.folder / "hooks/before.d/folder").mkdir()

    assert [] == pair.contract.before(ATTEMPT)


def test_a_restore_runs_the_hooks_of_those_that_the_checkpoint_asked(pair: Pair) -> None:
    pair.log_hook("after.d/a")
    pair.log_hook("after.d/new")
    pair.contract.restored(Attempt("n2", 1, ("hook/a", "hook/gone")))

    assert ["after.d/a restored"] == pair.calls


class Server(http.server.ThreadingHTTPServer):
    """Answers with *status*, and keeps what it heard."""

    def __init__(self, status: int) -> None:
        self.heard: list[tuple[str, dict[str, object]]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            server: Server

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.server.heard.append((self.path, json.loads(body)))
                self.send_response(status if self.path.endswith("before") else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Callable[[int], Server]]:
    made: list[Server] = []

    def make(status: int) -> Server:
        made.append(Server(status))
        return made[-1]

    yield make
    for one in made:
        one.shutdown()
        one.server_close()


def test_a_server_is_asked_and_told_with_the_nonce(
    pair: Pair, server: Callable[[int], Server]
) -> None:
    one = server(200)
    contract = replace(pair.contract, http=f"http://localhost:{one.server_port}/api/")

    assert ["http"] == contract.before(ATTEMPT)
    assert [] == contract.resumed(ATTEMPT, None)
    body = {"nonce": "n1", "generation": 0}
    assert [
        ("/api/checkpoint/before", body),
        ("/api/checkpoint/after", {**body, "outcome": "complete"}),
    ] == one.heard


@pytest.mark.parametrize("status", [302, 404, 503])
def test_a_server_that_is_not_ready_aborts_and_is_told(
    pair: Pair, server: Callable[[int], Server], status: int
) -> None:
    one = server(status)
    problem = refusal(replace(pair.contract, http=f"http://127.0.0.1:{one.server_port}"))

    assert f"status {status}" == problem.why
    assert ["/checkpoint/before", "/checkpoint/after"] == [path for path, _ in one.heard]


def test_a_server_that_never_answers_or_only_in_drops_is_given_up(pair: Pair) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        problem = refusal(replace(pair.contract, http=url, timeout=SHORT))

    assert "no answer for 500 ms" == problem.why.replace("499", "500")


def test_the_folder_is_private_and_nothing_of_an_earlier_container_stays(pair: Pair) -> None:
    (pair.control / "restore-complete").touch()
    pair.contract.open()

    assert [] == list(pair.control.iterdir())
    assert 0o700 == stat.S_IMODE(pair.control.stat().st_mode)


def test_what_the_pod_says_about_the_folder_stays(pair: Pair) -> None:
    contract = replace(pair.contract, environ={"SNAPSHOT_CONTROL_DIR": "/snapshot-control"})

    assert {
        "WORKSPACE_CHECKPOINT_DIR": contract.control,
        "SNAPSHOT_CONTROL_DIR": "/snapshot-control",
        "DYN_SNAPSHOT_CONTROL_DIR": contract.control,
    } == contract.variables()


NO_AGENT = """
import threading, workload
workload.before_checkpoint(print); workload.after_checkpoint(print); workload.after_restore(print)
print(workload.ready(), workload.generation(), workload.identity(), threading.active_count())
"""


@pytest.mark.parametrize("folder", [None, "/nonexistent", "/proc"])
def test_without_an_agent_the_library_does_nothing(pair: Pair, folder: str | None) -> None:
    env = {"WORKSPACE_CHECKPOINT_DIR": folder} if folder else {}
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(pair.folder)!r})"
         + NO_AGENT], env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ("\n 0 {} 1\n".strip("\n"), "") == (done.stdout.strip("\n"), done.stderr)
