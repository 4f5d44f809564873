"""How many threads a copy takes: by histories of what tasks took; and that all of them are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from workspace_agent.host.crew import MOST, Crew, Pace

FAST, SLOW = (0.00006, 0.00005), (0.0041, 0.0001)


def after(*tasks: tuple[float, float]) -> int:
    """Return how many threads there are after *tasks*, each (seconds, of them on the processor)."""
    pace = Pace()
    for took, worked in tasks:
        pace.heard(took, worked)
    return pace.threads


@pytest.mark.parametrize(
    ("history", "threads"),
    [
        ([FAST] * 8, 1),
        ([SLOW] * 7, 1),  # too few to know
        ([SLOW] * 8, 64),  # 1 ms a request
        ([(0.0209, 0.0001)] * 8, MOST),  # 5 ms
        ([(0.0011, 0.0003)] * 8, 8),  # half of it work: a few do
        ([(0.03, 0.0001)] * 3 + [FAST] * 5, 1),  # a busy machine: some wait for the processor
        ([FAST] * 8 + [FAST] * 20, 1),
        ([FAST] * 8 + [SLOW], 64),  # a cache is full, from here on every task waits
        ([(0.5, 0.4999)] * 8, 1),  # large files of a local disk: all of it is work
    ],
)
def test_waiting_and_nothing_else_asks_for_threads(
    history: list[tuple[float, float]], threads: int
) -> None:
    assert threads == after(*history)


@pytest.mark.parametrize(
    ("done", "secs", "threads"),
    [
        (128, 128 * 0.0041 / 20, 64),  # twenty times as fast
        (128, 128 * 0.0041 / 1.2, 1),  # no gain: the volume serves one at a time
        (100, 100 * 0.0041, 64),  # too few for 64 threads to know
    ],
)
def test_threads_that_are_no_gain_are_given_up(done: int, secs: float, threads: int) -> None:
    pace = Pace()
    for _ in range(8):
        pace.heard(*SLOW)
    pace.judge(done, secs)

    assert threads == pace.threads


def test_what_is_given_up_stays_given_up() -> None:
    pace = Pace()
    for _ in range(8):
        pace.heard(*SLOW)
    pace.judge(200, 200 * 0.0041)
    for _ in range(100):
        pace.heard(*SLOW)

    assert 1 == pace.threads


@pytest.mark.parametrize("fixed", [1, 5, 64])
def test_a_number_that_is_given_is_kept(fixed: int) -> None:
    pace = Pace(fixed)
    for _ in range(100):
        pace.heard(*SLOW)
    pace.judge(1000, 1e9)

    assert fixed == pace.threads


@pytest.fixture(params=[1, 7])
def crew(request: pytest.FixtureRequest) -> Crew:
    crew = Crew(Pace(request.param), lambda: None)
    yield crew
    crew.close()


def test_every_task_is_done_once_in_every_round(crew: Crew) -> None:
    done: list[int] = []
    for begin in (0, 1000, 2000):
        crew.run(done.append, range(begin, begin + 1000))

    assert list(range(3000)) == sorted(done)


def test_a_round_begins_when_the_one_before_is_over(crew: Crew) -> None:
    seen: list[str] = []
    crew.run(lambda _: seen.append("first"), range(50))
    crew.run(lambda _: seen.append("second"), range(50))

    assert ["first"] * 50 + ["second"] * 50 == seen


def test_an_error_ends_the_round_and_is_raised(crew: Crew) -> None:
    done: list[int] = []

    def act(task: int) -> None:
        if task == 10:
            raise OSError(28, "No space left on device")
        done.append(task)

    def tasks() -> Iterator[int]:
        for task in range(10_000):
            while task > 100 and crew._error is None:
                time.sleep(0.001)  # a busy machine may let the others run on before it is noted
            yield task

    with pytest.raises(OSError, match="No space left"):
        crew.run(act, tasks())
    assert len(done) <= 101 + MOST


def test_tasks_may_come_from_a_source_that_breaks(crew: Crew) -> None:
    def tasks() -> object:
        yield 1
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        crew.run(lambda _: None, tasks())


def test_nothing_to_do_is_done_at_once(crew: Crew) -> None:
    crew.run(pytest.fail, ())


@pytest.mark.parametrize("most", [0, 3])
def test_a_container_that_may_have_few_threads_does_all_tasks(most: int, monkeypatch) -> None:
    started: list[object] = []
    real = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if len(started) >= most:
            raise RuntimeError("can't start new thread")
        started.append(self)
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    done: list[int] = []
    crew = Crew(Pace(16), lambda: None)
    crew.run(done.append, range(1000))
    crew.run(done.append, range(1000, 2000))
    crew.close()

    assert list(range(2000)) == sorted(done)


def test_threads_work_side_by_side() -> None:
    """Each of seven tasks waits for the other six."""
    crew = Crew(Pace(7), lambda: None)
    together = threading.Barrier(7, timeout=60)
    crew.run(lambda _: together.wait(), range(7))
    crew.close()

    assert not together.broken


def test_the_pulse_is_the_callers_alone_and_only_while_work_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pulse is what keeps PID 1 from killing us: a volume that hangs must give none."""
    pulses: list[int] = []
    crew = Crew(Pace(2), lambda: pulses.append(threading.get_ident()))
    go = threading.Event()
    looks = []
    real = threading.Condition.wait

    def counted(self: threading.Condition, timeout: float | None = None) -> bool:
        if timeout is not None:
            looks.append(len(pulses))
            if len(looks) > 5:
                go.set()
        return real(self, timeout)

    monkeypatch.setattr(threading.Condition, "wait", counted)
    crew.run(lambda _: _hang(go), range(2))
    crew.close()

    assert {threading.get_ident()} == set(pulses)
    assert len(looks) > 5
    assert looks[-1] <= 2  # both tasks were begun; after that, silence


def _hang(go: threading.Event) -> None:
    # Not `wait`, which is counted above.
    while not go.is_set():
        threading.Lock().acquire(timeout=0.001)
