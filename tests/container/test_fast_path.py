"""The fast path is taken when there is nothing to do, and only then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.container

PATH_TAKEN = ("cat", "/run/workspace-agent/status.json")


@pytest.fixture
def profiled(build: Callable, guide: tuple[str, str], base: str) -> Callable[[str], str]:
    """Build the guide's image with a profile of its own in place before the bake."""

    def make(name: str, text: str) -> str:
        folder = "/etc/workspace-agent"
        profile = f"RUN mkdir -p {folder} && printf '{text}' > {folder}/profile.toml\n"
        agent = "COPY entrypoint.sh"
        return build(f"fast-{name}", guide[0].replace(agent, profile + agent), base)

    return make


def taken(pod: Callable, *command: str, **more: object) -> str:
    """Return which path the boot of a pod took."""
    one = pod(*(command or PATH_TAKEN), **more)
    assert 0 == one.wait(), one.err
    return json.loads(one.out)["path"]


def test_a_known_volume_is_enough(pod: Callable, volume: Path, settled: Callable) -> None:
    first = taken(pod, *settled(" ".join(PATH_TAKEN)), volume=volume)

    assert ["engine", "fast", "fast"] == [first, *(taken(pod, volume=volume) for _ in range(2))]


def test_an_image_with_a_profile_of_its_own_takes_it_too(
    pod: Callable, volume: Path, profiled: Callable, settled: Callable
) -> None:
    image = profiled("env", '[env]\\nA = "1"\\n')
    first = taken(pod, *settled(" ".join(PATH_TAKEN)), image=image, volume=volume)

    assert ["engine", "fast"] == [first, taken(pod, image=image, volume=volume)]


def test_links_are_made_in_every_new_container(
    pod: Callable, volume: Path, profiled: Callable
) -> None:
    image = profiled("links", '[home]\\nmode = "links"\\n')
    said = []
    for _ in range(3):
        one = pod("readlink", "/root/.config", image=image, volume=volume)
        said.append((one.wait(), one.out))

    assert [(0, "/workspace/home/.config\n")] * 3 == said


def test_another_path_may_mean_another_python(pod: Callable, volume: Path) -> None:
    taken(pod, volume=volume)
    env = {"PATH": "/opt/other/bin:/usr/local/bin:/usr/bin:/bin"}

    assert "engine" == taken(pod, volume=volume, env=env)


def test_a_runtime_folder_that_everybody_may_write_to_is_closed_and_used(
    pod: Callable, volume: Path, tmp_path: Path
) -> None:
    taken(pod, volume=volume)
    shared = tmp_path / "run"
    shared.mkdir()
    shared.chmod(0o777)
    script = "env -i bash -lc 'echo $HOME'; stat -c %a /run/workspace-agent"
    one = pod(
        "sh", "-c", script, volume=volume, options=(f"--volume={shared}:/run/workspace-agent",)
    )

    assert (0, "/workspace/home\n755\n") == (one.wait(), one.out)


def test_a_restarted_container_still_knows_the_images_home(
    pod: Callable, volume: Path, podman: Callable
) -> None:
    one = pod("true", volume=volume)
    one.wait()
    home = volume / "home"
    (home / ".packet-init").unlink()
    (home / ".bashrc").unlink()
    podman("start", one.name)
    one.wait()

    assert (home / ".bashrc").exists(), one.err
    assert "/root" == json.loads((home / ".packet-init").read_text())["home"]


@pytest.mark.parametrize("name", ["image", "unbaked_image"])
def test_the_supervisor_stays_under_12_mb(
    pod: Callable, volume: Path, request: pytest.FixtureRequest, name: str
) -> None:
    image = request.getfixturevalue(name)
    for _ in range(2):
        one = pod("grep", "VmRSS", "/proc/1/status", image=image, volume=volume)
        assert 0 == one.wait(), one.err

    assert int(one.out.split()[1]) * 1024 <= 12_000_000
