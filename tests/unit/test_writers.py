"""Who wrote a file: what is fact, what is a guess, and what is said of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workspace_agent.watch import kinds, writers
from workspace_agent.watch.writers import INFERRED, OBSERVED, Sampler, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

S = 10**9
PIP = ["/usr/bin/python3.11", "-m", "pip", "install", "numpy"]


class Machine:
    """Processes as values: number, command line, and what each has open for writing."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.processes: dict[int, list[str]] = {}
        self.open: dict[int, list[str]] = {}
        self.began: dict[int, float] = {}
        self.environ: dict[str, str] | None = {}
        self.sampler = Sampler(lambda path: True, keep=("HF_HOME",))

    def writing(self, pids: list[int], wanted: object) -> Iterator[tuple[str, int]]:
        return ((path, pid) for pid in pids for path in self.open.get(pid, []))

    def look(self, *, after: float = 1.0) -> None:
        self.now += after
        self.sampler.sample()

    def who(self, path: str, kind: str, born: float, changed: float) -> Writer:
        return self.sampler.who(path, kind, int(born * S), int(changed * S))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    one = Machine()
    monkeypatch.setattr(writers.time, "time_ns", lambda: int(one.now * S))
    monkeypatch.setattr(writers.open_files, "processes", lambda: list(one.processes))
    monkeypatch.setattr(writers.open_files, "argv", lambda pid: one.processes.get(pid, []))
    monkeypatch.setattr(writers.open_files, "writing", one.writing)
    monkeypatch.setattr(
        writers.open_files, "details", lambda pid: (int(one.began.get(pid, 0) * S), one.environ)
    )
    one.sampler = Sampler(lambda path: True, keep=("HF_HOME",))
    return one


@pytest.mark.parametrize(
    ("argv", "name", "tool"),
    [
        (PIP, "python3.11 pip", "pip"),
        (["python3", "/usr/local/bin/pip3.12", "install", "x"], "python3 pip3.12", "pip"),
        (["/usr/bin/uv", "pip", "install"], "uv", "uv"),
        (["python", "train.py", "--token=secret"], "python train.py", ""),
        (["python", "-c", "print('a secret')"], "python", ""),
        (["bash", "-c", "pip install x"], "bash", ""),
        (["node", "/usr/bin/npm", "ci"], "node npm", "npm"),
        (["vim", "git"], "vim", ""),
        (["git", "clone"], "git", "git"),
        (["python"], "python", ""),
        (["\x1b[2Jx"], "\\x1b[2Jx", ""),
        ([], "", ""),
        ([""], "", ""),
    ],
)
def test_a_command_line_is_named_and_its_arguments_are_not(argv, name, tool) -> None:
    assert (name, tool) == (writers.program(argv), writers.installer(argv))


def test_what_an_installer_makes_are_kinds_that_there_are() -> None:
    assert set() == set().union(*writers.MAKES.values()) - set(kinds.KINDS)


def test_who_was_seen_to_write_did_it(machine: Machine) -> None:
    machine.processes, machine.open = {7: ["python", "train.py"]}, {7: ["/root/a"]}
    machine.look()
    writer = machine.who("/root/a", "checkpoints", 1000, 1001)

    assert Writer(OBSERVED, "python train.py", 7) == writer
    assert "written by python train.py (pid 7)" == str(writer)


def test_of_a_later_file_of_the_same_name_nothing_was_seen(machine: Machine) -> None:
    machine.processes, machine.open = {7: ["python", "train.py"]}, {7: ["/root/a"]}
    machine.look()

    assert Writer() == machine.who("/root/a", "checkpoints", machine.now + 1, machine.now + 2)


def test_a_shell_that_became_a_program_is_called_by_the_program(machine: Machine) -> None:
    machine.processes, machine.open = {7: ["bash", "-c", "x > log"]}, {7: ["/root/log"]}
    machine.look()
    machine.processes = {7: ["python", "x.py"]}
    machine.look()

    assert "python x.py" == machine.who("/root/log", "logs", 0, 1).name


def test_what_fanotify_saw_is_a_fact_also_when_the_process_is_over(machine: Machine) -> None:
    machine.sampler.saw("/root/a", 9)

    assert "written by a process (pid 9)" == str(machine.who("/root/a", "other", 0, 1))


def test_an_installer_that_lived_meanwhile_is_a_guess_and_is_called_one(machine: Machine) -> None:
    machine.processes = {7: PIP}
    machine.look()
    machine.look()
    machine.processes = {}
    machine.look()
    writer = machine.who("/usr/lib/x.so", "pip", 1000.5, 1002.5)

    assert Writer(INFERRED, "pip", 7) == writer
    assert "probably by pip" == str(writer)


@pytest.mark.parametrize(
    ("kind", "born", "changed"),
    [
        ("notebooks", 1000.5, 1001),  # pip makes none
        ("pip", 998, 1001),  # begun before it
        ("pip", 1000.5, 1004),  # changed after it
    ],
)
def test_what_does_not_fit_is_unknown_and_nothing_is_said(machine, kind, born, changed) -> None:
    machine.processes = {7: PIP}
    machine.look()
    machine.processes = {}
    machine.look()
    writer = machine.who("/a", kind, born, changed)

    assert (Writer(), "") == (writer, str(writer))


def test_between_two_installers_nobody_guesses(machine: Machine) -> None:
    machine.processes = {7: PIP, 8: ["conda", "install"]}
    machine.look()

    assert Writer() == machine.who("/a", "pip", 1000.5, 1000.9)
    assert "conda" == machine.who("/a", "conda", 1000.5, 1000.9).name


def test_an_installer_that_began_before_the_first_look_counts_from_its_start(machine) -> None:
    machine.processes, machine.began = {7: PIP}, {7: 900}
    machine.look()

    assert INFERRED == machine.who("/a", "pip", 950, 960).confidence


def test_a_shell_that_becomes_an_installer_is_noticed(machine: Machine) -> None:
    machine.processes = {7: ["bash", "-c", "exec pip"]}
    machine.look()
    machine.processes = {7: PIP}
    machine.look()

    assert INFERRED == machine.who("/a", "pip", 1001.5, 1002).confidence


def test_memory_has_a_bound(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_MOST_FILES", 10)
    monkeypatch.setattr(writers, "_MOST_SPANS", 5)
    for pid in range(100):
        machine.processes, machine.open = {pid: PIP}, {pid: [f"/{pid}"]}
        machine.look()
    sampler = machine.sampler

    assert (10, 5) == (len(sampler._seen), len(sampler._environs))
    assert (1, 1) == (len(sampler._reads), len(sampler._alive))
    assert ("", "pip") == (
        machine.who("/3", "logs", 0, 1).name,
        machine.who("/99", "logs", 0, 1).name.rpartition(" ")[2],
    )


def test_only_the_variables_that_matter_are_remembered(machine: Machine) -> None:
    machine.environ = {"HF_HOME": "/workspace/hf", "TOKEN": "secret"}
    machine.processes, machine.open = {7: ["hf"]}, {7: ["/root/a"]}
    machine.look()
    machine.processes = {}
    machine.look()
    sampler = machine.sampler

    assert ("/workspace/hf", "") == (
        sampler.environ_of(7, "HF_HOME"),
        sampler.environ_of(7, "TOKEN"),
    )
    assert "secret" not in repr(vars(sampler))


def test_an_environment_that_nobody_may_read_is_not_an_empty_one(machine: Machine) -> None:
    machine.environ = None
    machine.sampler.saw("/root/a", 9)

    assert (None, None) == (
        machine.sampler.environ_of(9, "HF_HOME"),
        machine.sampler.environ_of(10, "HF_HOME"),
    )


def test_a_number_that_is_used_again_has_another_environment(machine: Machine) -> None:
    machine.environ = {"HF_HOME": "/old"}
    machine.processes, machine.open = {7: ["hf"]}, {7: ["/root/a"]}
    machine.look()
    machine.processes = {}
    machine.look()
    machine.environ, machine.processes = {}, {7: ["hf"]}
    machine.look()

    assert "" == machine.sampler.environ_of(7, "HF_HOME")


def test_looks_are_rare_and_after_a_ring_frequent_but_never_dear(machine, monkeypatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(writers.time, "monotonic", lambda: clock[0])
    sampler = Sampler(lambda path: True)
    sampler.sample()
    quiet = sampler.due()
    sampler.ring()
    quick = sampler.due()
    sampler._cost = 0.1  # many processes: a look takes a tenth of a second
    dear = sampler.due()
    clock[0] += 5.5

    assert [1.0, 0.1, 5.0, 14.5] == pytest.approx([quiet, quick, dear, sampler.due()])
