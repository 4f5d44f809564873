"""Signs of life among real processes and namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from agents import NAMESPACE, REPOSITORY

from workspace_agent.host.alive import Sign, is_gone

SIGNED = (
    f"import sys; sys.path.insert(0, {str(REPOSITORY)!r});"
    "from workspace_agent.host.alive import Sign, is_gone; import os;"
)
GIVES = SIGNED + "sign = Sign(); print(sign.text, flush=True);"
ASKS = SIGNED + "print(is_gone(os.fsencode(sys.argv[1])))"

OTHER_NETWORK = ("unshare", "--net")


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def start(code: str, *before: str) -> subprocess.Popen[str]:
        argv = [*before, sys.executable, "-c", code]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(argv, **pipes))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def asked(text: str, *before: str) -> str:
    argv = [*before, sys.executable, "-c", ASKS, text]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs root: {done.stderr.strip()[-100:]}")
    return done.stdout.strip()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_is_gone_when_it_has_ended_and_not_before(process, number: int) -> None:
    one = process(GIVES + "sys.stdin.read()")
    text = one.stdout.readline().encode()
    before = is_gone(text)
    one.send_signal(number)
    one.wait()

    assert (False, True) == (before, is_gone(text))


def test_a_paused_process_is_not_gone(process) -> None:
    one = process(GIVES + "os.kill(os.getpid(), 19); sys.stdin.read()")
    text = one.stdout.readline().encode()
    os.waitpid(one.pid, os.WUNTRACED)

    assert is_gone(text) is False


def test_what_it_started_does_not_keep_it_alive(process) -> None:
    child = "import subprocess; subprocess.Popen(['cat'], stdout=subprocess.DEVNULL);"
    one = process(GIVES + "sys.stdin.read(1);" + child + "os._exit(0)")
    text = one.stdout.readline().encode()
    one.stdin.write("x")
    one.stdin.flush()
    one.wait()

    assert is_gone(text) is True


def test_a_sign_that_was_ended_is_gone() -> None:
    sign = Sign()
    before = is_gone(sign.text.encode())
    sign.end()

    assert (False, True) == (before, is_gone(sign.text.encode()))


def test_each_sign_is_another() -> None:
    assert 3 == len({Sign().text for _ in range(3)})


def test_a_container_beside_ours_knows_and_one_with_another_network_does_not(process) -> None:
    one = process(GIVES + "sys.stdin.read()")
    text = one.stdout.readline().strip()
    living = asked(text, *NAMESPACE), asked(text, *OTHER_NETWORK)
    one.kill()
    one.wait()

    assert ("False", "None") == living
    assert ("True", "None") == (asked(text, *NAMESPACE), asked(text, *OTHER_NETWORK))


@pytest.mark.parametrize(
    "text", ["", "x", "host 12 345", "{here}", "{here} ", "{other} abc", "{here} " + "y" * 200]
)
def test_of_what_is_no_sign_of_here_nothing_is_known(text: str) -> None:
    here = Sign().text.rpartition(" ")[0]
    other = here.replace(here[:8], "0" * 8)

    assert is_gone(text.format(here=here, other=other).encode()) is None
