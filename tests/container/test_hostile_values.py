"""A value of the environment is data: byte for byte the same in every shell, and never run."""

from __future__ import annotations

import os
import shlex

import pytest

pytestmark = pytest.mark.container

VALUES = {
    "HF_SINGLE": b"it's",
    "HF_DOUBLE": b'say "hi"',
    "HF_BOTH": b"""'"'"'$(touch /tmp/pwned)'"'""",
    "HF_COMMAND": b"$(touch /tmp/pwned)",
    "HF_BACKTICK": b"`touch /tmp/pwned`",
    "HF_CLOSE": b"'; touch /tmp/pwned; '",
    "HF_FISH": b"(touch /tmp/pwned)",
    "HF_NEWLINE": b"one\ntouch /tmp/pwned\nthree",
    "HF_ONLY_NEWLINES": b"\n\n",
    "HF_CARRIAGE": b"one\rtwo\r\n",
    "HF_BACKSLASH": b"ends with \\",
    "HF_BACKSLASHES": b"\\n \\\\ \\' \\$",
    "HF_EQUALS": b"a=b==c",
    "HF_DOLLAR": b"$HOME ${PATH} $$",
    "HF_PERCENT": b"%s %n %%",
    "HF_GLOB": b"* ? [a-z] ~ {a,b}",
    "HF_HASH": b"# no comment",
    "HF_BANG": b"!! !$ ^a^b",
    "HF_SPACES": b"  two  spaces  ",
    "HF_TAB": b"\ttab",
    "HF_ESCAPE": b"\x1b[31mred\x07",
    "HF_EMPTY": b"",
    "HF_BYTES": b"\xff\xfe\x80 not UTF-8",
    "HF_UNICODE": "żółć 漢字 🚀 \u202e \ufeff".encode(),
    "HF_LONG": b"x" * 20_000,
    "NCCL_ALLOWED": b"a b",
    "CUDA_ALLOWED": b"0,1",
    "RUNPOD_ALLOWED": b"pod",
    "HF_TOKEN": b"hf_'secret' $(touch /tmp/pwned)",
}
TELL = "env -0 > /workspace/part && mv /workspace/part /workspace/seen; exec sleep infinity"
# Readers start with none of these variables: what they show came through a file of ours.
SOURCED = ". /run/workspace-agent/env.sh; env -0"
READERS = {
    "bash -lc": ("bash", "-lc", "env -0"),
    "bash -c": ("bash", "-c", "env -0"),
    "bash -ic": ("bash", "-ic", "env -0"),
    "sh that sources env.sh": ("sh", "-c", SOURCED),
    "bash --posix that sources env.sh": ("bash", "--posix", "-c", SOURCED),
    "zsh -c": ("zsh", "-c", "env -0"),
    "zsh -lc": ("zsh", "-lc", "env -0"),
    "fish -c": ("fish", "-c", "env -0"),
    "workspace-agent env": ("workspace-agent", "env", "--", "env", "-0"),
}


def environment(block: bytes) -> dict[str, bytes]:
    pairs = (item.partition(b"=") for item in block.split(b"\0") if b"=" in item)
    return {os.fsdecode(name): value for name, _, value in pairs}


@pytest.fixture(scope="module")
def running(shared_pod, tmp_path_factory):
    """A container whose first process has VALUES, while its configuration has none of them.

    podman keeps a configuration as JSON, which cannot hold every byte; a script in front of the
    entrypoint exports them instead.
    """
    folder = tmp_path_factory.mktemp("hostile")
    volume = folder / "volume"
    volume.mkdir()
    lines = [f"export {name}={shlex.quote(os.fsdecode(value))}\n" for name, value in VALUES.items()]
    last = 'exec /opt/workspace-agent/entrypoint.sh "$@"\n'
    script = folder / "before.sh"
    script.write_bytes(os.fsencode("".join(lines) + last))
    pod = shared_pod(
        "/before.sh", "sh", "-c", TELL,
        volume=volume, options=["--entrypoint", "/bin/sh", f"--volume={script}:/before.sh:ro"],
    )  # fmt: skip
    pod.until("test", "-e", "/workspace/seen", what="the workload has said what it sees")
    return pod


def wrong(seen: dict[str, bytes]) -> dict[str, tuple[bytes | None, bytes]]:
    return {n: (seen.get(n), v) for n, v in VALUES.items() if seen.get(n) != v}


def test_the_workload_gets_every_value_as_it_was(running) -> None:
    seen = environment(running.exec("cat", "/workspace/seen").stdout)

    assert wrong(seen) == {}


@pytest.mark.parametrize("reader", READERS)
def test_a_shell_gets_every_value_as_it_was(running, reader) -> None:
    done = running.exec(*READERS[reader])

    assert wrong(environment(done.stdout)) == {}


def test_no_value_was_run(running) -> None:
    for command in (*READERS.values(), ("su", "-", "-c", "true"), ("sudo", "-i", "true")):
        running.exec(*command)

    assert running.exec("test", "-e", "/tmp/pwned").returncode == 1


def test_a_secret_is_in_no_file_that_others_can_read(running) -> None:
    # what an account without any right finds
    search = "grep -rl hf_ /run /etc /opt /tmp /var /usr/local 2>/dev/null"
    done = running.exec(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", search
    )
    named = [line for line in done.stdout.decode().splitlines() if "/__pycache__/" not in line]
    found = [path for path in named if b"hf_'secret'" in running.exec("cat", path).stdout]

    assert found == []
    assert "hf_'secret'" not in running.err


def test_an_account_without_rights_still_has_a_working_shell(running) -> None:
    done = running.exec(
        # its HOME is not the one of root
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--reset-env",
        "bash", "-lc", 'echo "$HF_EQUALS ${HF_TOKEN-none}"',
    )  # fmt: skip

    assert done.stdout == b"a=b==c none\n"
    assert done.stderr == b""
