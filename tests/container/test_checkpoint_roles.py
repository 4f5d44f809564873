"""Where checkpoints have to work: Kubernetes, all rights, any stdio, any user, another init."""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workspace_agent.checkpoint.artifact import sealed

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from checkpoint_tools import LEAST, command, goes_on, ledger, more, of, starts, ticks, versions
from wheels import wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.container

GUIDE = Path(__file__).parents[2] / "docs/guide/checkpoint.md"

FULL = ("--privileged", *LEAST[1:])

# A machine that has been up for a day and more than ours; time_namespaces(7).
AHEAD = ("unshare", "--time", "--monotonic=100000")


@pytest.fixture
def pod(placeholder_pod: Callable) -> Callable:
    """Starts containers that may freeze: `pod("plain", volume)`; *rights* say what they may."""

    def start(
        name: str | tuple[str, ...], volume: Path, *options: str,
        rights: tuple[str, ...] = LEAST, **more: Any,
    ) -> Any:  # fmt: skip
        words = command(name) if isinstance(name, str) else name
        return placeholder_pod(*words, volume=volume, options=(*rights, *options), **more)

    return start


def why(volume: Path) -> str:
    """Return why the last attempt was not what it was to be."""
    return ledger(volume)[-1].get("why", "")


# Kubernetes


@pytest.fixture
def kube(podman: Callable, placeholder_image: str, tmp_path: Path) -> Iterator[Callable]:
    """The guide's Pod, with an init container and a workload that checks itself."""
    name = f"workspace-agent-test-{uuid.uuid4().hex[:12]}"
    blocks = re.findall(r"^```yaml\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    text = next(one for one in blocks if "kind: Pod" in one)
    for old, new in (
        ("  name: serve\nspec:\n", f"  name: {name}\n  annotations:\n"  # of podman before 5
         "    container.seccomp.security.alpha.kubernetes.io/serve: unconfined\n"
         "spec:\n  hostNetwork: true\n  restartPolicy: Never\n"),
        ("  containers:\n", "  initContainers:\n  - name: before\n"
         f"    image: {placeholder_image}\n    command: [sh, -c, echo before >>/workspace/init]\n"
         "    volumeMounts: [{name: workspace, mountPath: /workspace}]\n  containers:\n"),
        ("your/image:placeholder", placeholder_image),
        ('["python3", "serve.py"]', '["python3", "/lab/lives.py", "plain"]'),
        ("    volumeMounts:\n    - ", "    volumeMounts:\n"
         "    - {name: lab, mountPath: /lab}\n    - "),
        ("  volumes:\n", f"  volumes:\n  - name: lab\n    hostPath: {{path: {LEAST[2][9:-8]}}}\n"),
        ("my-claim", name),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "pod.yaml"
    path.write_text(text)

    def run(*words: str) -> Any:
        return podman("kube", *words, str(path))

    run.main = f"{name}-serve"
    yield run
    podman("kube", "down", str(path), check=False)
    podman("volume", "rm", "--force", name, check=False)


def test_the_guides_pod_goes_on_in_the_next_pods(
    kube: Callable, placeholder_pod: Callable, until: Callable, podman: Callable
) -> None:
    said = []
    for _ in range(3):
        kube("play")
        one = placeholder_pod.named(kube.main)
        more(one, until)
        podman("stop", one.name)  # with the Pod's own grace
        assert one.wait() == 143
        said += ticks(one)
        kube("down")

    assert [n for n, _, _ in said] == list(range(1, len(said) + 1))
    assert {verdict for _, verdict, _ in said} == {"ok"}


# All rights


def test_with_all_rights_a_checkpoint_is_tried_before_it_counts(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("tree", volume, rights=FULL)
    more(first, until)
    before = processes(first)
    first.text("workspace-agent", "checkpoint", "--leave-running")
    assert of(volume, "trial") == "passed"
    assert processes(first) == before  # nothing of the trial is left
    more(first, until)
    first.stop()
    second = pod("tree", volume, rights=FULL)
    more(second, until)

    goes_on(first, second)
    assert len(starts(volume)) == 1
    assert of(volume, "trial") == "passed"


def processes(pod: Any) -> list[str]:
    """Return the workload's processes, and those of CRIU."""
    return [line for line in pod.text("ps", "-e", "-o", "pid=,args=").splitlines()
            if "lives.py" in line or ("criu" in line and "pid1" not in line)]  # fmt: skip


@pytest.mark.parametrize("name", ["linked", "outside", *(
    pytest.param(name, marks=pytest.mark.long) for name in ("pool", "server")
)])  # fmt: skip
def test_a_trial_takes_nothing_away(
    name: str, pod: Callable, volume: Path, until: Callable
) -> None:
    port = {"PORT": "8765"}
    first = pod(name, volume, rights=FULL, env=port)
    more(first, until)
    first.text("workspace-agent", "checkpoint", "--leave-running")
    more(first, until)
    waived = name in ("linked", "pool")  # CRIU has made links
    assert of(volume, "trial").startswith("waived: it has a file open" if waived else "passed")
    first.text("workspace-agent", "checkpoint", "--leave-running")
    first.stop()
    second = pod(name, volume, rights=FULL, env=port)
    more(second, until)

    goes_on(first, second)
    assert len(starts(volume)) == 1
    assert not [one for one in os.listdir(volume) if "link" in one]


def test_what_does_not_come_back_in_the_trial_does_not_count(
    pod: Callable, volume: Path, until: Callable
) -> None:
    criu = volume / "criu"  # says that all went well, and has written rubbish
    criu.write_text('#!/bin/sh\n/opt/criu/criu "$@" || exit\n[ "$1" != dump ] || '
                    "for one in core-*.img; do echo >$one; done\n")  # fmt: skip
    criu.chmod(0o755)
    env = {"WORKSPACE_AGENT__CHECKPOINT__CRIU": "/workspace/criu"}
    first = pod("plain", volume, rights=FULL, env=env)
    more(first, until)
    before = processes(first)
    done = first.exec("workspace-agent", "checkpoint")

    assert done.returncode == 1 and b"checkpoint.trial-failed" in done.stderr
    assert not versions(volume)
    more(first, until)
    goes_on(first)
    assert processes(first) == before


def test_with_all_rights_a_clock_goes_on_where_it_was(
    pod: Callable, volume: Path, until: Callable
) -> None:
    pods = [pod("plain", volume, rights=FULL, under=AHEAD)]
    more(pods[0], until)
    pods[0].stop()
    assert of(volume, "facts")["uptime"] > 100000
    for _ in range(2):
        pods.append(pod("plain", volume, rights=FULL))
        more(pods[-1], until)
        pods[-1].stop()

    goes_on(*pods)
    assert len(starts(volume)) == 1
    assert of(volume, "facts")["uptime"] > 100000


def test_without_them_a_clock_that_would_go_back_is_a_reason_to_start_afresh(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume, under=AHEAD)
    more(first, until)
    first.stop()
    second = pod("plain", volume)
    more(second, until)

    assert len(starts(volume)) == 2
    assert "this machine's clock is 27 h" in second.err and "behind the other's" in second.err
    assert [one["state"] for one in ledger(volume)] == ["done", "refused"]


def test_with_fewer_rights_it_is_foretold_that_it_cannot_go_on(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume, rights=FULL)
    more(first, until)
    first.stop()
    second = pod("plain", volume)
    more(second, until)
    assert "these processes cannot be restored here: without" in second.err
    assert [one["state"] for one in ledger(volume)] == ["done", "refused"]

    manifest = versions(volume)[-1] / "MANIFEST.json"  # and that is true
    said = json.loads(manifest.read_text())
    said["facts"]["needs_capabilities"] = 0
    del said["sum"]
    manifest.write_bytes(sealed(said))
    third = pod("plain", volume, env={"WORKSPACE_AGENT__VOLUME__DEADLINE": "2s"})
    more(third, until)
    assert [one["state"] for one in ledger(volume)][2:] == ["claimed", "failed"]
    assert len(starts(volume)) == 3


def test_with_more_rights_it_goes_on_but_has_a_time_namespace_from_then_on(
    pod: Callable, volume: Path, until: Callable
) -> None:
    pods = []
    for rights in (LEAST, FULL, FULL, LEAST):
        pods.append(pod("plain", volume, rights=rights))
        more(pods[-1], until)
        pods[-1].stop()

    goes_on(*pods[:3])
    assert "it has a time namespace" in pods[3].err
    states = [one["state"] for one in ledger(volume) if one["what"] == "restore"]
    assert states == ["claimed", "done"] * 2 + ["refused"]
    assert len(starts(volume)) == 2


# Standard input and output


def shell(redirect: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return options and words with which a shell redirects the agent, and goes away."""
    script = f'exec /opt/workspace-agent/entrypoint.sh "$@" {redirect}'
    return ("--entrypoint=/bin/sh",), ("-c", script, "sh")


KINDS = {
    "detached": ((), ()),
    "interactive": (("--interactive",), ()),
    "terminal": (("--tty",), ()),
    "both": (("--tty", "--interactive"), ()),
    "same": shell("2>&1"),
    "file": shell(">>/workspace/log 2>&1"),
    "layer": shell(">>/root/log 2>&1"),
}


@pytest.mark.parametrize(("one", "two"), [
    ("interactive", "interactive"), ("both", "both"), *(
        pytest.param(*pair, marks=pytest.mark.long) for pair in (
            ("terminal", "terminal"), ("terminal", "both"), ("detached", "interactive"),
            ("interactive", "detached"), ("detached", "same"), ("same", "detached"),
            ("detached", "terminal"), ("same", "same"),
        )
    ),
])  # fmt: skip
def test_the_log_goes_on_without_gap_or_repeat(
    one: str, two: str, pod: Callable, volume: Path, until: Callable
) -> None:
    pods = []
    for options, words in (KINDS[one], KINDS[two], KINDS[two]):
        pods.append(pod((*words, *command("plain")), volume, *options))
        more(pods[-1], until)
        assert pods[-1].stop() == 143

    goes_on(*pods)
    assert len(starts(volume)) == 1


@pytest.mark.parametrize("name", ["file", pytest.param("layer", marks=pytest.mark.long)])
def test_a_log_in_a_file_goes_on(name: str, pod: Callable, volume: Path, until: Callable) -> None:
    options, words = KINDS[name]
    path = words[1].split(">>")[1].split()[0]
    said: list[str] = []
    for _ in range(2):
        one = pod((*words, *command("plain")), volume, *options)
        one.until("sh", "-c", f"[ $(wc -l <{path}) -gt {len(said) + 10} ]")
        said = one.text("cat", path).splitlines()
        one.stop()

    numbers = [int(line.split()[0]) for line in said if " ok " in line]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(starts(volume)) == 1


def controls(pod: Any, number: str) -> tuple[bool, bool]:
    """Say whether a terminal controls a process, and whether that is in its foreground."""
    words = pod.text("cat", f"/proc/{number}/stat").rpartition(")")[2].split()
    return words[4] != "0", words[5] == number


def test_the_terminal_is_the_workloads_again_however_it_starts(
    pod: Callable, volume: Path, until: Callable
) -> None:
    said = []
    for _ in range(3):
        one = pod("plain", volume, "--tty")
        more(one, until)
        agent = json.loads(one.text("cat", "/run/workspace-agent/agent.json"))
        said.append((len(starts(volume)), *controls(one, str(agent["workload"]))))
        one.stop()
        for image in (versions(volume)[-1] / "criu").glob("core-*.img") if said[1:] else ():
            image.write_bytes(b"")

    assert said == [(1, True, True), (1, True, True), (2, True, True)]


def test_without_a_terminal_one_that_had_one_starts_afresh(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume, "--tty")
    more(first, until)
    first.stop()
    second = pod("plain", volume)
    more(second, until)

    assert "this container has no terminal" in second.err
    assert [one["state"] for one in ledger(volume)] == ["done", "refused"]


# Who is the first process, and who waits


BARE = LEAST[:-1]  # the image's own entrypoint, which is none

UNDER = ("workspace-agent", "run", "--", *command("plain"))


def test_beneath_another_init_the_agent_freezes_at_a_term(
    pod: Callable, volume: Path, until: Callable
) -> None:
    pods = []
    for _ in range(3):
        pods.append(pod(UNDER, volume, "--init", rights=BARE))
        more(pods[-1], until)
        assert pods[-1].stop() == 143

    goes_on(*pods)
    assert len(starts(volume)) == 1


def test_beneath_a_shell_a_checkpoint_by_hand_ends_the_agent(
    pod: Callable, volume: Path, until: Callable
) -> None:
    pods = []
    for _ in range(2):
        pods.append(pod(("sh", "-c", '"$@"; exit $?', "sh", *UNDER), volume, rights=BARE))
        more(pods[-1], until)
        # the shell ends at once, and with it whoever came in by exec
        assert pods[-1].exec("workspace-agent", "checkpoint").returncode in (0, 137)
        assert pods[-1].wait() == 143

    goes_on(*pods)
    assert len(starts(volume)) == 1


def test_a_container_without_an_agent_goes_on_by_hand(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume)
    more(first, until)
    first.stop()
    second = pod(("sleep", "infinity"), volume, rights=BARE)
    second.text("workspace-agent", "restore", versions(volume)[-1].name)
    more(second, until)

    goes_on(first, second)
    done = second.exec("workspace-agent", "checkpoint")
    assert done.returncode == 1 and b"no agent runs here" in done.stderr


def test_in_standby_the_entrypoint_waits_with_its_own_command(
    pod: Callable, volume: Path, until: Callable
) -> None:
    waiting = pod("plain", volume, env={"SNAPSHOT_RESTORE_STANDBY": "1"})
    until(lambda: "waiting for a checkpoint" in waiting.err, "it waits")
    first = pod("plain", volume)
    more(first, until)
    first.stop()
    more(waiting, until)
    assert waiting.stop() == 143
    third = pod("plain", volume)
    more(third, until)

    goes_on(first, waiting, third)
    assert len(starts(volume)) == 1


@pytest.mark.parametrize("options", [("--tty",), pytest.param((), marks=pytest.mark.long)])
def test_a_wait_that_is_over_starts_the_command_which_can_be_frozen(
    options: tuple[str, ...], pod: Callable, volume: Path, until: Callable
) -> None:
    waits = ("workspace-agent", "placeholder", "--for", "3", "--", *command("plain"))
    first = pod(waits, volume, *options)
    more(first, until)
    ((number, _),) = starts(volume)
    assert int(number) >= 500
    assert controls(first, number) == (bool(options), bool(options))
    assert first.stop() == 143
    second = pod("plain", volume, *options)
    more(second, until)

    goes_on(first, second)
    assert len(starts(volume)) == 1


def test_a_placeholder_goes_on_with_the_one_that_it_was_told(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume)
    more(first, until)
    first.text("workspace-agent", "checkpoint", "--leave-running")
    wanted = versions(volume)[-1].name
    more(first, until)
    first.stop()
    waits = ("workspace-agent", "placeholder", "--artifact", wanted, "--", *command("plain"))
    second = pod(waits, volume)
    more(second, until)

    assert [one["version"] for one in ledger(volume) if one["what"] == "restore"][-1] == wanted
    assert ticks(second)[0][0] <= ticks(first)[-5][0]  # it goes on from the older one
    assert len(starts(volume)) == 1


def test_a_placeholder_that_waits_ends_at_a_term(
    pod: Callable, volume: Path, until: Callable
) -> None:
    one = pod(("workspace-agent", "placeholder", "--", *command("plain")), volume)
    until(lambda: "waiting for a checkpoint" in one.err, "it waits")

    assert one.stop(300) == 143
    assert "checkpoint.no-workload" not in one.err


# Users and rights


USER = "--cap-add=CHECKPOINT_RESTORE,SYS_PTRACE"


@pytest.mark.parametrize(("added", "foretold", "begun"), [
    (f"{USER},SETPCAP", ("yes", "yes"), 1), (USER, ("yes", "no: without SETPCAP"), 2),
    pytest.param("", ("no: without CHECKPOINT_RESTORE",) * 2, 2, marks=pytest.mark.long),
])  # fmt: skip
def test_another_user_than_root_goes_on_where_doctor_says_so(
    added: str, foretold: tuple[str, str], begun: int, pod: Callable, volume: Path,
    until: Callable,
) -> None:  # fmt: skip
    os.chown(volume, 1000, 1000)
    script = 'mkdir -p /tmp/own; cd /tmp/own; echo $$ >file; exec "$@"'
    words = ("sh", "-c", script, "sh", *command("plain"))
    rights = (*((added,) if added else ()), *LEAST[1:])
    first = pod(words, volume, rights=rights, user="1000")
    more(first, until)
    said = first.exec("workspace-agent", "doctor", "--for", "checkpoint").stdout.decode()
    for verb, answer in zip(("dump", "restore"), foretold, strict=True):
        assert re.search(rf"^  {verb} +{re.escape(answer)}", said, re.M), said
    assert first.stop() == 143
    second = pod(words, volume, rights=rights, user="1000")
    more(second, until)

    assert len(starts(volume)) == begun
    if begun == 1:
        goes_on(first, second)
        assert second.text("stat", "-c", "%u %n", "/tmp/own/file") == "1000 /tmp/own/file\n"


@pytest.mark.parametrize("added", ["CHECKPOINT_RESTORE", pytest.param(
    "CHECKPOINT_RESTORE,SYS_PTRACE", marks=pytest.mark.long)])  # fmt: skip
def test_a_container_with_a_filter_goes_on_and_is_not_frozen_again(
    added: str, pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume, rights=(f"--cap-add={added}", *LEAST[1:]))
    more(first, until)
    first.stop()
    second = pod("plain", volume, rights=(f"--cap-add={added}", *LEAST[2:]))
    more(second, until)

    goes_on(first, second)
    assert second.stop(300) == 143  # by the workload's own end
    assert len(versions(volume)) == 1
    done = second.err.count("checkpoint")
    assert done == 0


def test_with_less_than_the_workload_had_it_starts_afresh(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("plain", volume)
    more(first, until)
    first.stop()
    second = pod("plain", volume, rights=("--cap-add=CHECKPOINT_RESTORE", *LEAST[2:]))
    more(second, until)

    assert "these processes cannot be restored here: without SYS_PTRACE" in second.err
    assert len(starts(volume)) == 2


# What else a boot does


@pytest.mark.parametrize(("how", "begun"), [("fits", 1), ("does not", 1), ("by hand only", 2)])
def test_a_pre_stop_hook_freezes_or_keeps_files(
    how: str, begun: int, pod: Callable, volume: Path, until: Callable
) -> None:
    env = {"WORKSPACE_AGENT__CHECKPOINT__MODE": "manual"} if how == "by hand only" else {}
    budget = ("--budget", "2") if how == "does not" else ()
    first = pod("outside", volume, env=env)
    more(first, until)
    said = first.exec("workspace-agent", "hooks", "pre-stop", *budget).stdout.decode()
    if how == "fits":
        assert first.wait() == 143
    else:
        assert "files and folders kept" in said
        assert ("there is no time for a checkpoint" in said) == (how == "does not")
        more(first, until)  # it runs on, and a TERM has a grace of its own
        assert first.stop() == 143
        kept = volume.glob(".workspace-agent/rescue/pods/runs/*.jsonl")
        assert any("opt/late.py" in one.read_text() for one in kept)
    assert [one["state"] for one in ledger(volume)] == ["done"] * (2 - begun)
    second = pod("outside", volume, env=env)
    more(second, until)

    assert len(starts(volume)) == begun


@pytest.mark.parametrize("needs", ["", pytest.param("scripts", marks=pytest.mark.long)])
def test_scripts_run_in_each_pod_and_the_home_is_the_volumes(
    needs: str, pod: Callable, volume: Path, until: Callable
) -> None:
    env = {"WORKSPACE_AGENT_JSON": "1"}
    env |= {"WORKSPACE_AGENT__WORKLOAD__NEEDS": needs} if needs else {}
    (volume / "setup.sh").write_text("echo ran >>/workspace/ran\n")
    words = ("sh", "-c", 'cd "$HOME"; exec "$@"', "sh", *command("plain"))
    pods = []
    for n in (1, 2):
        pods.append(pod(words, volume, env=env))
        more(pods[-1], until)
        until(lambda n=n: (volume / "ran").read_text() == n * "ran\n", "the script has run")
        at = f"/proc/{starts(volume)[0][0]}/cwd"
        assert pods[-1].text("readlink", at) == "/workspace/home\n"
        pods[-1].stop()

    goes_on(*pods)
    assert len(starts(volume)) == 1
    steps = [json.loads(line) for line in pods[1].err.splitlines() if line]
    (step,) = [one for one in steps if one.get("name") == "checkpoint.restore"]
    assert (step["status"], step["why"]) == ("changed", "process 504 goes on")
    assert steps[-1]["command"] == ["checkpoint"] and steps[-1]["status"] == "ok"


def test_files_that_were_kept_are_not_put_back_under_a_workload_that_goes_on(
    pod: Callable, volume: Path, until: Callable
) -> None:
    first = pod("outside", volume)
    more(first, until)
    first.text("sh", "-c", "echo kept >/opt/note")
    first.text("workspace-agent", "hooks", "pre-stop", "--budget", "2")  # too short to freeze
    first.text("sh", "-c", "echo newer >/opt/note")
    first.stop()
    second = pod("outside", volume)
    more(second, until)
    goes_on(first, second)
    assert second.text("cat", "/opt/note") == "newer\n"

    second.stop()
    for image in (versions(volume)[-1] / "criu").glob("core-*.img"):
        image.write_bytes(b"")
    third = pod("outside", volume)  # it starts afresh, and what was kept is there
    more(third, until)
    assert len(starts(volume)) == 2
    assert third.text("cat", "/opt/note") == "newer\n"


def test_packages_are_there_before_the_workload_goes_on_and_others_begin_anew(
    pod: Callable, volume: Path, until: Callable
) -> None:
    for name in ("hello", "other"):
        wheel(volume / "wheels", name, "1.0", {f"{name}.py": "VALUE = 1\n"})
    wishes = volume / "requirements.txt"
    wishes.write_text("--no-index\n--find-links ./wheels\nhello\n")
    pods = []
    for _ in range(2):
        pods.append(pod("packages", volume))
        more(pods[-1], until)
        pods[-1].until("sh", "-c", "ls /workspace/.workspace-agent/replay/store/*/*/manifest.json")
        pods[-1].stop()
    wishes.write_text("--no-index\n--find-links ./wheels\nhello\nother\n")
    third = pod("packages", volume)
    more(third, until)

    goes_on(*pods)
    assert len(starts(volume)) == 2
    assert "the environment of packages is another one" in third.err
