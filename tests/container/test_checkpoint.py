"""A fresh container goes on with the processes of the last one: with the least privileges."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from checkpoint_tools import (
    LEAST,
    command,
    goes_on,
    ledger,
    more,
    of,
    starter,
    starts,
    ticks,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.container


@pytest.fixture
def pod(placeholder_pod: Callable) -> Callable:
    """Starts containers that may freeze."""
    return starter(placeholder_pod)


def test_a_pod_that_is_stopped_goes_on_in_the_next_one(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume)
    more(first, until)
    assert first.stop() == 143  # not 0: what goes on elsewhere is not done
    second = pod("plain", volume)
    more(second, until)

    goes_on(first, second)
    assert len(starts(volume)) == 1
    number = of(volume, "root")
    assert number >= 500 and second.text("cat", f"/proc/{number}/stat").split()[3] == "1"
    restored = json.loads(second.text("cat", "/run/workspace-agent/restored.json"))
    assert restored["pid"] == number and restored["generation"] == 1
    done = [one["state"] for one in ledger(volume) if one["what"] == "restore"]
    assert done == ["claimed", "done"]


def test_three_generations_keep_their_numbers_and_the_end_is_the_workloads_own(
    pod: Callable, volume: Path, until: Callable
) -> None:
    lives = []
    for _ in range(3):
        lives.append(pod("plain", volume, env={"ENDS_AT": "150"}))
        more(lives[-1], until)
        assert lives[-1].stop() == 143
    last = pod("plain", volume, env={"ENDS_AT": "150"})

    assert last.wait() == 9
    said = [one for life in (*lives, last) for one in ticks(life)]
    assert [n for n, _, _ in said] == list(range(1, 151))
    assert len(starts(volume)) == 1
    again = pod("plain", volume)  # it has ended: the next one is a new one
    more(again, until)
    assert len(starts(volume)) == 2


def test_after_five_restores_new_processes_still_come_where_no_agent_is(
    pod: Callable, volume: Path, until: Callable
) -> None:
    lives = []
    for _ in range(6):
        lives.append(pod("forks", volume, env={"FLOOR": "500"}))
        more(lives[-1], until)
        assert lives[-1].stop() == 143

    said = [one for life in lives for one in ticks(life)]
    assert [n for n, _, _ in said] == list(range(1, len(said) + 1))
    assert {verdict for _, verdict, _ in said} == {"ok"}
    assert of(volume, "generation") == 5 and min(of(volume, "numbers")) >= 500


@pytest.mark.long
def test_a_gigabyte_of_memory_is_the_same_afterwards(
    pod: Callable, volume: Path, until: Callable
) -> None:
    env = {"SIZE": "1024", "WORKSPACE_AGENT__WORKLOAD__GRACE": "120s"}
    first = pod("memory", volume, env=env)
    more(first, until, 25)
    assert first.stop(120) == 143
    second = pod("memory", volume, env=env)
    more(second, until, 25)

    goes_on(first, second)
    assert len(starts(volume)) == 1 and of(volume, "bytes") > 1 << 30


def test_a_workload_that_is_killed_is_told_as_such(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume)
    more(first, until)
    first.stop()
    second = pod("plain", volume)
    more(second, until)
    second.text("kill", "-9", str(of(volume, "root")))

    assert second.wait() == 137


def test_a_tree_comes_back_whole_at_its_own_numbers(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("tree", volume)
    more(first, until)
    before = of_workload(first)
    first.stop()
    second = pod("tree", volume)
    more(second, until)

    goes_on(first, second)
    assert len(starts(volume)) == 1
    assert len(before) == 7 and of_workload(second) == before
    size = (volume / "daemon").stat().st_size
    until(lambda: (volume / "daemon").stat().st_size > size, "the daemon goes on, too")


def of_workload(pod) -> dict[str, str]:
    """Return state and name of each process of the workload, by its number."""
    rows = (row.split() for row in pod.text("ps", "-e", "-o", "pid=,stat=,args=").splitlines())
    return {pid: f"{stat[0] == 'Z'} {words[0]}" for pid, stat, *words in rows
            if any("lives.py" in word for word in words) or words[0] in ("cat", "[python3]")
            if pid != "1"}  # fmt: skip


def test_who_has_left_the_tree_is_missed_aloud(
    pod: Callable, volume: Path, until: Callable
) -> None:
    """An orphan comes back as PID 1's child: the second checkpoint is without it."""
    for _ in range(2):
        one = pod("tree", volume)
        more(one, until)
        one.stop()
    assert "has left the workload" in one.err
    last = pod("tree", volume)
    more(last, until)

    assert "not all of the workload has come back" in last.err
    assert len(starts(volume)) == 1


@pytest.mark.parametrize("name", ["outside", "pool", "memory"])
def test_what_it_holds_goes_with_it(
    name: str, pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod(name, volume)
    more(first, until, 25)
    first.stop()
    second = pod(name, volume)
    more(second, until, 25)

    goes_on(first, second)
    assert len(starts(volume)) == 1
    if name == "outside":
        assert second.text("python3", "-c", "import sys; sys.path[0] = '/opt';"
                           "import late; print(late.VALUE)") == "42\n"  # fmt: skip


def test_a_server_goes_on_and_clients_come_again(
    pod: Callable, volume: Path, until: Callable
) -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    first = pod("server", volume, env={"PORT": str(port)})
    more(first, until)
    open_client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    assert _asked(open_client) == b"1"
    assert _asked(open_client) == b"2"
    first.stop()  # with that client's connection open
    second = pod("server", volume, env={"PORT": str(port)})
    more(second, until)

    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        assert _asked(client) == b"3"
    open_client.close()
    second.stop()
    with closing(socket.create_server(("127.0.0.1", port))):
        third = pod("server", volume, env={"PORT": str(port)})
        until(lambda: "Address already in use" in third.err, "it says what is in the way")
    assert len(versions(volume)) == 2  # the checkpoint stays for a machine that fits


def _asked(client: http.client.HTTPConnection) -> bytes:
    client.request("GET", "/")
    return client.getresponse().read()


def test_a_checkpoint_by_hand_leaves_the_workload_running(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume)
    more(first, until)
    said = json.loads(first.text("workspace-agent", "--json", "checkpoint", "--leave-running"))
    more(first, until)
    first.text("sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")  # everything but the agent
    assert first.wait() == 137
    second = pod("plain", volume)
    more(second, until)

    assert said["data"]["version"] == versions(volume)[-1].name
    assert len(starts(volume)) == 1
    assert {verdict for _, verdict, _ in ticks(second)} == {"ok"}


def test_a_placeholder_waits_and_then_is_the_workload(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume)
    more(first, until)
    waiting = pod(("workspace-agent", "placeholder", "--", *command("plain")), volume)
    waiting.until("pgrep", "-f", "workspace_agent placeholder")
    first.text("workspace-agent", "checkpoint")
    more(waiting, until)

    goes_on(first, waiting)
    assert waiting.stop() == 143  # and is frozen in its turn
    third = pod("plain", volume)
    more(third, until)
    assert len(starts(volume)) == 1


def test_a_node_agent_restores_in_a_container_without_any_right(
    pod: Callable, placeholder_pod: Callable, volume: Path, until: Callable, enter: Callable,
    podman: Callable,
) -> None:  # fmt: skip
    first = pod("plain", volume)
    more(first, until)
    first.stop()
    repository = Path(__file__).parents[2]
    waiting = placeholder_pod(
        "workspace-agent", "placeholder", "--", *command("plain"),
        volume=volume, options=LEAST[2:],
    )  # fmt: skip
    waiting.until("pgrep", "-f", "workspace_agent placeholder")
    number = podman("inspect", "--format", "{{.State.Pid}}", waiting.name).stdout.decode()
    done = enter(sys.executable, "-c", "import sys; sys.path[:0] = [sys.argv.pop(1)];"
                 "from workspace_agent.cli.main import entry; entry()",
                 str(repository), "nsrestore", "--pid", number.strip())  # fmt: skip

    assert done.returncode == 0, done.stderr
    more(waiting, until)
    goes_on(first, waiting)


def damage(version: Path) -> None:
    """Flip one bit of the memory."""
    path = version / "criu/pages-1.img"
    with path.open("r+b") as pages:
        pages.seek(path.stat().st_size // 2)
        byte = pages.read(1)
        pages.seek(-1, 1)
        pages.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    ("fallback", "begun", "code"), [("cold", 2, None), ("older", 1, None), ("fail", 1, 125)]
)
def test_what_follows_a_checkpoint_that_cannot_be_used_is_the_profiles_choice(
    fallback: str, begun: int, code: int | None, pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume)
    more(first, until)
    first.text("workspace-agent", "checkpoint", "--leave-running")
    more(first, until)
    first.stop()
    damage(versions(volume)[-1])
    second = pod("plain", volume, env={"WORKSPACE_AGENT__CHECKPOINT__FALLBACK": fallback})
    if code is None:
        more(second, until)
    else:
        assert second.wait() == code

    assert len(starts(volume)) == begun
    assert "criu/pages-1.img" in second.err  # whatever follows, it is said


def test_a_label_keeps_a_checkpoint_when_its_workload_ends(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume, env={"ENDS_AT": "300"})
    more(first, until)
    first.text("workspace-agent", "checkpoint", "--leave-running", "--label", "warm")
    assert first.wait() == 9
    lives = [pod("plain", volume, env={"ENDS_AT": "300"}) for _ in range(2)]  # both, at once
    for one in lives:
        assert one.wait() == 9

    assert len(starts(volume)) == 1
    first_said, second_said = ([n for n, _, _ in ticks(one)] for one in lives)
    assert first_said == second_said == list(range(first_said[0], 301))
    nonces = {one["nonce"] for one in ledger(volume) if one.get("state") == "done"
              and one["what"] == "restore"}  # fmt: skip
    assert len(nonces) == 2


def test_a_pod_that_may_not_freeze_passes_the_term_on_without_a_word(
    placeholder_pod: Callable, volume: Path, until: Callable
) -> None:
    one = placeholder_pod(*command("plain"), volume=volume, options=LEAST[2:])
    more(one, until)

    assert one.stop() == 143
    assert ledger(volume) == [] and "checkpoint" not in one.err


def test_by_hand_only_is_by_hand_only(pod: Callable, volume: Path, until: Callable) -> None:
    one = pod("plain", volume, env={"WORKSPACE_AGENT__CHECKPOINT__MODE": "manual"})
    more(one, until)

    assert one.stop() == 143
    assert versions(volume) == []
