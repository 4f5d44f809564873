"""The placeholder image: the base with CRIU and the agent, and nothing of the base changed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.container

REPOSITORY = Path(__file__).parents[2]

# What a base may say of itself; the quotes and signs are the point.
TALKATIVE = r"""
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN useradd --create-home --uid 1000 worker
ENV GREETING="hello <world>" EMPTY=
WORKDIR /srv
USER worker
LABEL mine=yes
EXPOSE 8000
ENTRYPOINT ["/bin/sh", "-c", "echo \"$0|$(id -un)|$GREETING|$PWD|$#\"; exec \"$@\"", "the entry"]
CMD ["sh", "-c", "echo \"$0 & <$1>\"", "it's", "a \\ \"cmd\""]
"""
SAYS = 'the entry|worker|hello <world>|/srv|5\nit\'s & <a \\ "cmd">\n'

MISSING = """
import marshal, os, zlib
packed = open("/opt/workspace-agent/image-files", "rb").read()
for folder, names in marshal.loads(zlib.decompress(packed)).items():
    for name in names:
        if not os.path.lexists(f"{folder}/{name}"):
            print(f"{folder}/{name}")
"""

LEAST = ("--cap-add=CHECKPOINT_RESTORE,SYS_PTRACE", "--security-opt=seccomp=unconfined")


@pytest.fixture(scope="module", params=["trixie", pytest.param("bookworm", marks=pytest.mark.long)])
def debian(request: pytest.FixtureRequest, make_base: Callable[..., str]) -> tuple[str, str]:
    return request.param, make_base(suite=request.param)


@pytest.fixture(scope="module")
def talkative(debian: tuple[str, str], build: Callable[[str, str, str], str]) -> tuple[str, str]:
    return debian[0], build(f"talkative-{debian[0]}", TALKATIVE, debian[1])


@pytest.fixture(scope="module")
def superset(talkative: tuple[str, str], make_placeholder: Callable[..., str]) -> str:
    return make_placeholder(f"superset-{talkative[0]}", talkative[1])


@pytest.fixture(scope="module")
def wrapped(talkative: tuple[str, str], make_placeholder: Callable[..., str]) -> str:
    return make_placeholder(f"wrapped-{talkative[0]}", talkative[1], "--wrapped")


@pytest.fixture
def settings(podman: Callable[..., subprocess.CompletedProcess]) -> Callable[[str], dict[str, Any]]:
    return lambda image: json.loads(
        podman("image", "inspect", "--format", "{{json .Config}}", image).stdout
    )


@pytest.fixture
def inside(podman: Callable[..., subprocess.CompletedProcess]) -> Callable[..., str]:
    """Run a shell script as root in a container of an image, and return what it prints."""

    def run(image: str, script: str) -> str:
        flags = ("--rm", "--user=0", "--entrypoint=sh")
        return podman("run", *flags, image, "-euc", script).stdout.decode()

    return run


def test_the_superset_has_every_setting_of_its_base(
    talkative: tuple[str, str], superset: str, settings: Callable[[str], dict[str, Any]]
) -> None:
    base = settings(talkative[1])

    assert "worker" == base["User"]
    assert base == settings(superset)


def test_the_superset_starts_what_its_base_starts(
    talkative: tuple[str, str], superset: str, podman: Callable[..., subprocess.CompletedProcess]
) -> None:
    said = [podman("run", "--rm", image).stdout.decode() for image in (talkative[1], superset)]

    assert [SAYS, SAYS] == said


def test_wrapped_the_workload_is_what_the_base_starts(
    talkative: tuple[str, str], wrapped: str, podman: Callable[..., subprocess.CompletedProcess],
    settings: Callable[[str], dict[str, Any]], volume: Path,
) -> None:  # fmt: skip
    volume.chmod(0o777)
    base, here = settings(talkative[1]), settings(wrapped)
    done = podman("run", "--rm", f"--volume={volume}:/workspace", wrapped)

    assert SAYS == done.stdout.decode()
    assert b"workspace ready" in done.stderr
    changed = {name for name in {*base, *here} if base.get(name) != here.get(name)}
    assert {"Entrypoint", "Env"} == changed
    assert {one for one in base["Env"] if not one.startswith("PATH=")} < set(here["Env"])


def test_a_given_command_replaces_the_bases_in_either(
    superset: str, wrapped: str, podman: Callable[..., subprocess.CompletedProcess], volume: Path
) -> None:
    volume.chmod(0o777)
    said = [podman("run", "--rm", f"--volume={volume}:/workspace", image, "echo", "$HOME mine")
            .stdout.decode() for image in (superset, wrapped)]  # fmt: skip

    assert ["the entry|worker|hello <world>|/srv|2\n$HOME mine\n"] * 2 == said


def test_a_base_without_an_entrypoint_has_the_agent_alone(
    debian: tuple[str, str], make_placeholder: Callable[..., str],
    settings: Callable[[str], dict[str, Any]],
) -> None:  # fmt: skip
    image = make_placeholder(f"bare-{debian[0]}", debian[1], "--wrapped")

    assert ["/opt/workspace-agent/entrypoint.sh"] == settings(image)["Entrypoint"]
    assert settings(debian[1])["Cmd"] == settings(image)["Cmd"]


def test_criu_runs_with_its_own_libraries_and_has_its_licence(
    superset: str, inside: Callable[..., str]
) -> None:
    said = inside(superset, """
        /opt/criu/criu --version | sed -n 's/^Version: //p'
        grep -c 'GNU GENERAL PUBLIC LICENSE' /opt/criu/LICENSE
        cut -f1 /opt/criu/licences/packages
    """)  # fmt: skip
    version, licence, *packages = said.split("\n")

    assert (4, 2) <= tuple(int(part) for part in version.split(".")[:2])
    assert int(licence) > 0
    assert "criu" in packages


def test_nothing_is_left_to_bake_but_what_the_builder_itself_left_out(
    superset: str, inside: Callable[..., str]
) -> None:
    """A bake in the image finds every step done; its list of files has what builders mount."""
    said = inside(superset, "workspace-agent --json image bake")
    steps = {one["name"]: one["status"] for one in json.loads(said)["data"]["steps"]}

    assert "ok" == steps.pop("image.bytecode")
    assert {"ok"} == {status for name, status in steps.items() if name != "image.files"}


def test_every_file_in_the_images_list_is_in_the_image(
    superset: str, inside: Callable[..., str]
) -> None:
    said = inside(superset, f"python3 -I -c '{MISSING}'")

    # the harness mounts pip's configuration while an image is built
    assert [] == [line for line in said.splitlines() if "pip" not in line and "wheels" not in line]


def test_without_the_gnu_c_library_there_is_no_image(
    debian: tuple[str, str], make_placeholder: Callable[..., str],
    build: Callable[[str, str, str], str],
) -> None:  # fmt: skip
    """As on Alpine: confstr knows no such name there."""
    text = """
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN printf '#!/bin/sh\\nexit 1\\n' >/usr/bin/python3.0 && chmod 755 /usr/bin/python3.0 \\
 && ln -sf python3.0 /usr/bin/python3
"""
    with pytest.raises(AssertionError, match="GNU C library"):
        make_placeholder("musl", build(f"musl-{debian[0]}", text, debian[1]))


@pytest.mark.parametrize(("faked", "says"), [
    ("uname() { echo riscv64; }", "riscv64 is not supported"),
    ("command() { return 1; }", "no criu in this stage"),
    ("ldd() { echo '/lib/ld-musl-x86_64.so.1 (0x7f)'; }", "not linked with the GNU C library"),
])  # fmt: skip
def test_the_bundle_says_what_it_cannot_do(
    placeholder_image: str,
    podman: Callable[..., subprocess.CompletedProcess],
    faked: str,
    says: str,
) -> None:
    script = (REPOSITORY / "deploy/bundle-criu").read_text().replace("set -eu", f"set -eu\n{faked}")
    done = podman("run", "--rm", "--interactive", "--entrypoint=sh", placeholder_image, "-c",
                  "cp /opt/criu/criu.bin /usr/bin/criu; sh -s /tmp/bundle",
                  input=script.encode(), check=False)  # fmt: skip

    assert (1, True) == (done.returncode, says in done.stderr.decode()), done.stderr


@pytest.fixture
def frozen(
    debian: tuple[str, str], make_placeholder: Callable[..., str], volume: Path
) -> Callable[..., tuple[str, Path]]:
    """Put a program that uses the library on the volume; returns the image and the volume."""
    for name in ("workspace_agent/workload.py", "tests/real/contract_workload.py",
                 "tests/container/contract_pod.py"):  # fmt: skip
        shutil.copy(REPOSITORY / name, volume)
    return make_placeholder(f"placeholder-{debian[0]}", debian[1]), volume


@pytest.fixture
def container(
    frozen: tuple[str, Path], podman: Callable[..., subprocess.CompletedProcess]
) -> Iterator[Callable[..., str]]:
    """Run contract_pod.py in a fresh container."""

    def run(*argv: str, options: tuple[str, ...] = LEAST, before: tuple[str, ...] = ()) -> str:
        image, volume = frozen
        done = podman("run", "--rm", f"--volume={volume}:/workspace", *options, "--entrypoint", "",
                      image, "timeout", "60", "sh", "-c", '"$@"', "sh", *before,
                      "python3", "-I", "/workspace/contract_pod.py", *argv)  # fmt: skip
        return done.stdout.decode()

    yield run


def test_the_library_goes_through_a_dump_and_a_restore_elsewhere(
    container: Callable[..., str], volume: Path
) -> None:
    container("dump")
    one, two = (
        json.loads(container("restore", options=(*LEAST, f"--hostname=pod-{n}"))) for n in (1, 2)
    )
    said = (volume / f"log-{one['expected']}").read_text().splitlines()

    assert ([], []) == (one["problems"], two["problems"])
    assert (True, True) == (one["answered"], two["answered"])
    assert one["expected"] == one["pid"] == two["pid"] >= 1000
    first, second = one["told"], two["told"]
    assert first["seed"] != second["seed"]
    assert first["attempt"] != second["attempt"]
    assert ("pod-1", True) == (first["hostname"], "hostname" in first["changed"])
    assert {"TOKEN": "new"} == first["environ"]
    after = ["after 1 generation 1", "restored seed {}", "after 2"]
    assert ["running", "before 2", "before 1"] == said[:3]
    assert [line.format(first["seed"]) for line in after] == said[3:6]
    assert [line.format(second["seed"]) for line in after] == said[6:]


def test_the_library_survives_a_clock_that_was_set_back(
    container: Callable[..., str], podman: Callable[..., subprocess.CompletedProcess]
) -> None:
    """`--unprivileged` restores no time namespace: the clock is that of the new machine.

    Both containers are privileged because only that makes the first one's; CRIU hangs where a
    restored process has to have more capabilities than there are.
    """
    ahead = ("unshare", "--time", "--monotonic=500000", "--fork")
    container("dump", options=("--privileged",), before=ahead)
    found = json.loads(container("restore", options=("--privileged",)))

    assert -600000 < found["told"]["monotonic_jump"] < -400000
    assert ([], True) == (found["problems"], found["answered"])
