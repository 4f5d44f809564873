"""Whatever is wrong with the volume or the container, the workload starts and its code counts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.container

NINE = ("sh", "-c", "exit 9")
# A shell, an editor and Jupyter write to HOME when they start.
NINE_WITH_A_HOME = ("sh", "-c", 'echo text > "$HOME/.probe" && exit 9')
TERMINATION_LOG = "/dev/termination-log"


def fill(enter, path: Path) -> None:
    """Leave not one block free."""
    enter("sh", "-c", f"cat /dev/zero > {path}/ballast 2>/dev/null")


def exhaust_inodes(enter, path: Path) -> None:
    """Leave no room for one more name."""
    enter("sh", "-c", f"i=0; while : > {path}/file-$i; do i=$((i + 1)); done 2>/dev/null")


def seeded(pod, volume: Path, **options: object) -> None:
    """Give *volume* its home while all is well."""
    first = pod("true", volume=volume, **options)
    assert first.wait() == 0, first.err
    first.remove()


def after(pod, script: str, volume: Path):
    """Boot with *script* run in front of the entrypoint."""
    line = f'{script}\nexec /opt/workspace-agent/entrypoint.sh "$@"'
    return pod("-c", line, "sh", *NINE, volume=volume, options=["--entrypoint", "/bin/sh"])


def test_no_volume(pod) -> None:
    boot = pod(*NINE)

    assert boot.wait() == 9
    assert "volume.absent" in boot.err


def test_a_read_only_volume(pod, volume) -> None:
    boot = pod(*NINE, volume=f"{volume}:ro")

    assert boot.wait() == 9
    assert "volume.read-only" in boot.err


def test_a_read_only_volume_that_has_a_home(pod, volume) -> None:
    seeded(pod, volume)
    boot = pod(*NINE_WITH_A_HOME, volume=f"{volume}:ro")

    assert boot.wait() == 9, boot.err
    assert "volume.read-only" in boot.err


@pytest.mark.parametrize("run_out_of", [fill, exhaust_inodes])
def test_a_full_volume(pod, mounted, enter, run_out_of) -> None:
    path = mounted("tmpfs", "size=256k,nr_inodes=64")
    run_out_of(enter, path)
    boot = pod(*NINE, volume=path)

    assert boot.wait() == 9
    assert "volume.full" in boot.err


@pytest.mark.parametrize("run_out_of", [fill, exhaust_inodes])
def test_a_volume_that_filled_up_after_its_home_was_made(pod, mounted, enter, run_out_of) -> None:
    path = mounted("tmpfs", "size=80m,nr_inodes=512")  # the profile wants 64 MiB for a copy
    seeded(pod, path)
    run_out_of(enter, path)
    boot = pod(*NINE_WITH_A_HOME, volume=path)

    assert boot.wait() == 9, boot.err
    assert "volume.full" in boot.err


def test_a_home_that_does_not_fit_leaves_no_half_home(pod, mounted, enter) -> None:
    path = mounted("tmpfs", "size=80m")
    boot = after(pod, "head -c 100000000 /dev/zero > /root/big", path)

    assert boot.wait() == 9
    assert "volume.full" in boot.err
    assert enter("test", "-e", f"{path}/home/.packet-init").returncode != 0


def test_a_volume_that_the_containers_user_may_not_write(pod, volume) -> None:
    volume.chmod(0o755)
    boot = pod(*NINE, volume=volume, user="12345:12345")

    assert boot.wait() == 9
    assert "volume.not-writable" in boot.err


@pytest.mark.parametrize("tmpfs", [(), ("--tmpfs=/run",), ("--tmpfs=/run", "--tmpfs=/tmp")])
def test_a_read_only_root_file_system(pod, volume, tmpfs) -> None:
    boot = pod("sh", "-c", 'echo "$HOME"; exit 9', volume=volume, read_only=True, options=tmpfs)

    assert boot.wait() == 9, boot.err
    assert boot.out == "/workspace/home\n"
    assert "Traceback" not in boot.err


def test_a_read_only_root_file_system_and_no_volume(pod) -> None:
    boot = pod(*NINE, read_only=True)

    assert boot.wait() == 9
    assert "volume.absent" in boot.err
    assert "Traceback" not in boot.err


@pytest.mark.parametrize("passwd", [True, False])
def test_a_user_whom_the_image_does_not_know(pod, volume, passwd) -> None:
    volume.chmod(0o777)
    options = [] if passwd else ["--passwd=false"]
    boot = pod("sh", "-c", "id -u; exit 9", volume=volume, user="12345:0", options=options)

    assert boot.wait() == 9
    assert boot.out == "12345\n"
    assert "Traceback" not in boot.err


def test_home_unset(pod, volume) -> None:
    # podman always sets HOME; a shell in front takes it away again
    boot = after(pod, "unset HOME", volume)

    assert boot.wait() == 9
    assert "Traceback" not in boot.err


def test_a_home_that_is_the_whole_file_system(pod, volume) -> None:
    boot = pod(*NINE, volume=volume, env={"HOME": "/"})

    assert boot.wait() == 9
    assert "home.unusable" in boot.err
    # the seed's script copied / in this case
    assert not (volume / "home" / "usr").exists()


def test_a_home_inside_the_volume_is_not_copied_into_itself(pod, volume) -> None:
    boot = pod(*NINE, volume=volume, env={"HOME": "/workspace"})

    assert boot.wait() == 9
    assert not (volume / "home" / "home").exists()


def test_the_termination_log_holds_one_line_with_the_code(pod, volume, tmp_path) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    boot = pod(*NINE, volume=f"{volume}:ro", options=[f"--volume={log}:{TERMINATION_LOG}"])

    assert boot.wait() == 9
    text = log.read_bytes()
    assert len(text) <= 4096
    assert text.count(b"\n") == 1
    last = json.loads(text)
    assert last["exit_code"] == 9
    assert "volume.read-only" in json.dumps(last)


@pytest.mark.parametrize("packages", ["dash", "python3-minimal"])
def test_an_image_without_what_the_agent_needs(
    pod, build, guide, make_base, volume, packages
) -> None:
    bare = build(f"bare-{packages}", guide[1], make_base(packages))
    boot = pod(*NINE, image=bare, volume=volume)

    assert boot.wait() == 9, boot.err
    assert "workspace-agent" in boot.err


def test_a_broken_agent(pod, volume) -> None:
    # somebody's half-finished copy of the package over ours
    boot = after(pod, "rm -rf /opt/workspace-agent/workspace_agent/host", volume)

    assert boot.wait() == 9, boot.err
    assert "workspace-agent" in boot.err


def test_a_profile_with_mistakes(pod, volume, tmp_path) -> None:
    profile = tmp_path / "profile.toml"
    profile.write_text("schema = 1\n[volume\npath = ")
    boot = pod(
        *NINE, volume=volume, options=[f"--volume={profile}:/etc/workspace-agent/profile.toml:ro"]
    )

    assert boot.wait() == 9
    assert "profile" in boot.err
    assert "Traceback" not in boot.err


def test_a_state_folder_that_is_a_file(pod, volume) -> None:
    (volume / ".workspace-agent").write_text("not a folder")
    boot = pod(*NINE, volume=volume)

    assert boot.wait() == 9
    assert "Traceback" not in boot.err
    assert (volume / ".workspace-agent").read_text() == "not a folder"


def test_a_home_that_leads_out_of_the_volume_is_not_written(pod, volume) -> None:
    os.symlink("/etc", volume / "home")
    boot = pod("sh", "-c", "test ! -e /etc/.packet-init && exit 9", volume=volume)

    assert boot.wait() == 9
    assert "Traceback" not in boot.err
