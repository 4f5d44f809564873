"""Who sees the workspace: real shells in a running container, one row each.

`pytest -s` prints the measured table as it stands in docs/guide/base-image.md.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

pytestmark = pytest.mark.container

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "base-image.md"

COLUMNS = ("HOME", "PATH", "PYTHON", "ENV", "POD")
MEANING = {
    "HOME": "`HOME` is the persistent home",
    "PATH": "programs of the volume",
    "PYTHON": "packages of the volume",
    "ENV": "variables of the profile",
    "POD": "variables of the pod",
}
ALL = frozenset(COLUMNS)

# The table. What is missing from a row is red for the reason that REASONS gives.
EXPECTED = {
    "the workload": ALL,
    "python3 of the workload": ALL,
    "exec CMD": frozenset({"HOME", "PATH", "PYTHON", "POD"}),
    "exec python3 -c": frozenset({"HOME", "PATH", "PYTHON", "POD"}),
    "exec sh -c": frozenset({"HOME", "PATH", "PYTHON", "POD"}),
    "exec bash -c": ALL,
    "exec bash -lc": ALL,
    "exec bash -ic": ALL,
    "exec zsh -c": ALL,
    "exec fish -c": ALL,
    "exec workspace-agent env -- CMD": ALL,
    "exec env -i bash -lc": ALL,
    "exec su -c": ALL,
    "exec su - -c": ALL,
    "exec sudo CMD": frozenset({"HOME", "PATH", "PYTHON", "POD"}),
    "exec sudo -i CMD": ALL,
    "sudo CMD in a shell": ALL,
    "ssh host CMD": ALL,
    "ssh host bash -lc": ALL,
    "ssh host": ALL,
    "tmux pane": ALL,
}
# These are not command lines.
PROSE = {"the workload", "python3 of the workload", "sudo CMD in a shell", "tmux pane"}
EXEC = "the runtime gives an exec the environment of the image and the pod only"
REASONS = {
    ("exec CMD", "ENV"): EXEC,
    ("exec python3 -c", "ENV"): EXEC,
    ("exec sh -c", "ENV"): EXEC,
    ("exec sudo CMD", "ENV"): "sudo passes on what its caller has, and an exec has no more",
}

# What the unbaked image lacks: the bake writes the command.
UNBAKED = {"exec workspace-agent env -- CMD": frozenset()}

ENV_SH = "/run/workspace-agent/env.sh"
PROBE = """#!/bin/sh
# dash reads no start-up file for a script: this shows what the caller hands down, and nothing else
printf 'probe:HOME=%s' "${HOME-}"
case ":$PATH:" in *:/workspace/bin:*) printf ' PATH' ;; esac
/usr/bin/python3 -c 'import kept_on_the_volume' 2>/dev/null && printf ' PYTHON'
[ "${HF_HOME-}" = /workspace/huggingface ] && printf ' ENV'
[ "${NCCL_DEBUG-}" = 'WARN ING' ] && printf ' POD'
echo ' end'
"""

# The workload itself is two rows; its files say when they are whole.
WORKLOAD = """
/probe > /workspace/workload.part && mv /workspace/workload.part /workspace/workload
python3 - <<'PYTHON'
import os, subprocess
import kept_on_the_volume
with open("/workspace/python.part", "wb") as part:
    part.write(subprocess.run(["/probe"], stdout=subprocess.PIPE).stdout)
os.rename("/workspace/python.part", "/workspace/python")
PYTHON
exec sleep infinity
"""
FROM_PYTHON = "import subprocess, kept_on_the_volume; subprocess.run(['/probe'])"


def green(said: str) -> frozenset[str]:
    """Read what the probe printed, wherever it stands in *said*."""
    found = re.search(r"probe:HOME=(\S*)((?: [A-Z]+)*) end", said)
    if not found:
        return frozenset()
    home = {"HOME"} if found[1] == "/workspace/home" else set()
    return frozenset(home | set(found[2].split()))


def free_port() -> int:
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return any_socket.getsockname()[1]


def start_sshd(pod) -> tuple[str, ...]:
    """Start sshd as an image would, and return the command line that logs in."""
    port = free_port()
    pod.text("sh", "-c", "ssh-keygen -A && mkdir -p /run/sshd")
    pod.text("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/test_key")
    listen = ("-p", str(port), "-o", "ListenAddress=127.0.0.1")
    keys = ("-o", "AuthorizedKeysFile=/etc/ssh/test_key.pub")
    # an init script starts sshd with hardly any environment
    pod.text("env", "-i", "/usr/sbin/sshd", *listen, *keys)
    login = ("ssh", "-p", str(port), "-i", "/etc/ssh/test_key", "-o", "StrictHostKeyChecking=no")
    quiet = ("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes")
    login = (*login, *quiet, "root@127.0.0.1")
    pod.until(*login, "true", what="sshd answers")
    return login


def in_tmux(pod) -> str:
    """Type the probe into a pane, as a person does."""
    pod.text("tmux", "-L", "test", "new-session", "-d", env={"TERM": "xterm"})
    pod.text(
        "tmux",
        "-L",
        "test",
        "send-keys",
        "/probe > /tmp/pane.part && mv /tmp/pane.part /tmp/pane",
        "Enter",
    )
    pod.until("test", "-e", "/tmp/pane")
    return pod.text("cat", "/tmp/pane")


@pytest.fixture(scope="module", params=["baked", "unbaked"])
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def profiled_image(variant, build, guide, base) -> str:
    """Both of the guide's images, with a profile that is in place before the bake."""
    lines = r'schema = 1\n[env]\nHF_HOME = "{volume}/huggingface"\n'
    folder = "/etc/workspace-agent"
    profile = f"RUN mkdir -p {folder} && printf '{lines}' > {folder}/profile.toml\n"
    dockerfile = guide[variant == "unbaked"]
    agent = "COPY entrypoint.sh"
    return build(f"profiled-{variant}", dockerfile.replace(agent, profile + agent), base)


@pytest.fixture(scope="module")
def running(shared_pod, profiled_image, tmp_path_factory):
    """A container on a warm volume, with a package that only the volume has."""
    shared_pod.image = profiled_image
    volume = tmp_path_factory.mktemp("matrix") / "volume"
    volume.mkdir()
    first = shared_pod("sh", "-c", 'echo "${PYTHONPATH%%:*}"', volume=volume)
    assert first.wait() == 0, first.err
    packages = first.out.strip()
    assert packages.startswith("/workspace/"), (
        f"PYTHONPATH of the workload: {packages!r}\n{first.err}"
    )
    first.remove()
    inside = volume / Path(packages).relative_to("/workspace")
    inside.mkdir(parents=True, exist_ok=True)
    (inside / "kept_on_the_volume.py").write_text("")

    probe = tmp_path_factory.mktemp("probe") / "probe"
    probe.write_text(PROBE)
    probe.chmod(0o755)
    pod = shared_pod(
        "sh", "-c", WORKLOAD,
        volume=volume, env={"NCCL_DEBUG": "WARN ING"}, options=[f"--volume={probe}:/probe:ro"],
    )  # fmt: skip
    pod.until("test", "-e", "/workspace/python", what="the workload has probed")
    return pod


@pytest.fixture(scope="module")
def measured(running) -> dict[str, frozenset[str]]:
    """Ask every context."""
    commands = {
        "the workload": ("cat", "/workspace/workload"),
        "python3 of the workload": ("cat", "/workspace/python"),
        "exec CMD": ("/probe",),
        "exec python3 -c": ("python3", "-c", FROM_PYTHON),
        "exec sh -c": ("sh", "-c", "/probe"),
        "exec bash -c": ("bash", "-c", "/probe"),
        "exec bash -lc": ("bash", "-lc", "/probe"),
        "exec bash -ic": ("bash", "-ic", "/probe"),
        "exec zsh -c": ("zsh", "-c", "/probe"),
        "exec fish -c": ("fish", "-c", "/probe"),
        "exec workspace-agent env -- CMD": ("workspace-agent", "env", "--", "/probe"),
        "exec env -i bash -lc": ("env", "-i", "bash", "-lc", "/probe"),
        "exec su -c": ("su", "-c", "/probe"),
        "exec su - -c": ("su", "-", "-c", "/probe"),
        "exec sudo CMD": ("sudo", "/probe"),
        "exec sudo -i CMD": ("sudo", "-i", "/probe"),
        "sudo CMD in a shell": ("bash", "-lc", "sudo /probe"),
    }
    said = {}
    for context, command in commands.items():
        done = running.exec(*command)
        said[context] = (done.stdout + done.stderr).decode(errors="replace")
    login = start_sshd(running)
    said["ssh host CMD"] = running.text(*login, "/probe")
    said["ssh host bash -lc"] = running.text(*login, "bash -lc /probe")
    typed = running.exec(login[0], "-tt", *login[1:], input=b"/probe; exit\n")
    said["ssh host"] = typed.stdout.decode(errors="replace")
    said["tmux pane"] = in_tmux(running)
    table = {context: green(text) for context, text in said.items()}
    print("", markdown(table), *(f"{c}: {t!r}" for c, t in said.items() if not table[c]), sep="\n")
    return table


def markdown(table: dict[str, frozenset[str]]) -> str:
    """Render *table* as the guide shows it."""
    head = ["| started by |", *(f" {MEANING[column]} |" for column in COLUMNS)]
    rows = ["".join(head), "| --- |" + " --- |" * len(COLUMNS)]
    for context, cells in table.items():
        words = ("yes" if column in cells else "**no**" for column in COLUMNS)
        name = context if context in PROSE else f"`{context}`"
        rows.append(f"| {name} | {' | '.join(words)} |")
    return "\n".join(rows)


@pytest.mark.parametrize("context", EXPECTED)
def test_a_context_sees_what_the_table_says(measured, variant, context) -> None:
    expected = {**EXPECTED, **(UNBAKED if variant == "unbaked" else {})}

    assert measured[context] == expected[context]


def test_every_red_cell_has_its_reason() -> None:
    red = {(context, column) for context, cells in EXPECTED.items() for column in ALL - cells}

    assert red == set(REASONS)


def test_the_guide_shows_the_same_table() -> None:
    assert markdown(EXPECTED) in GUIDE.read_text()


def test_a_shell_in_a_shell_has_each_entry_of_path_once(running) -> None:
    nested = running.text("bash", "-lc", "bash -lc 'bash -ic \"echo \\$PATH\"'")

    assert nested.split(":").count("/workspace/bin") == 1


def test_what_a_person_sets_stays_in_the_shells_below(running) -> None:
    said = running.text("bash", "-lc", "export HF_HOME=/mine; bash -lc 'echo $HF_HOME'")

    assert said == "/mine\n"


@pytest.mark.long
def test_cron_sees_the_workspace_through_the_wrapper_and_through_the_file(running, variant) -> None:
    # cron starts a job at the next full minute
    ways = {"file": f". {ENV_SH}; /probe"}
    if variant == "baked":
        ways["wrapper"] = "workspace-agent env -- /probe"
    lines = ["PATH=/usr/local/bin:/usr/bin:/bin"]
    lines += [
        f"* * * * * root ({way}) > /tmp/{name}.part && mv /tmp/{name}.part /tmp/{name}"
        for name, way in ways.items()
    ]
    running.text("sh", "-c", 'printf "%s\\n" "$@" > /etc/cron.d/probe && cron', "sh", *lines)

    for name in ways:
        running.until("test", "-e", f"/tmp/{name}", what=f"cron has run the {name}")
        assert green(running.text("cat", f"/tmp/{name}")) == ALL
