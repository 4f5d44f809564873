"""Nothing that a user or an image does to Python touches the agent; the workload keeps its own."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.container

KILL = "import os; os._exit(66)\n"
# What the agent, or something that it imports, could take for a module of its own.
NAMES = (
    "json",
    "click",
    "os",
    "sitecustomize",
    "usercustomize",
    "marshal",
    "tomli",
    "workspace_agent",
)
SHOW = """
import json, os
print(json.dumps({n: v for n, v in os.environ.items() if n.startswith("PYTHON")}))
"""


@pytest.fixture
def poison(tmp_path):
    """A folder in which every module ends the interpreter that imports it."""
    folder = tmp_path / "poison"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(KILL)
    return folder


@pytest.fixture(params=["first", "warm"])
def ready(request, pod, volume):
    """The volume before its first boot, and after it."""
    if request.param == "warm":
        first = pod("true", volume=volume)
        assert first.wait() == 0, first.err
        first.remove()
    return volume


def booted(done) -> None:
    """The agent did its work: it did not give up and hand over."""
    assert done.wait() == 9, done.err
    assert done.out.splitlines()[0] == "/workspace/home", done.err
    assert "Traceback" not in done.err


def test_a_poisoned_pythonpath(pod, ready, poison) -> None:
    done = pod(
        "sh", "-c", 'echo "$HOME"; echo "$PYTHONPATH"; exit 9',
        volume=ready, env={"PYTHONPATH": "/poison"}, options=[f"--volume={poison}:/poison:ro"],
    )  # fmt: skip

    booted(done)
    # ours may stand before it; the workload's own is still there
    assert "/poison" in done.out.splitlines()[1].split(":")


def test_pythonhome_that_leads_nowhere(pod, ready) -> None:
    done = pod(
        "sh", "-c", 'echo "$HOME"; echo "$PYTHONHOME"; exit 9',
        volume=ready, env={"PYTHONHOME": "/nonexistent"},
    )  # fmt: skip

    booted(done)
    assert done.out.splitlines()[1] == "/nonexistent"


def test_variables_that_steer_python(pod, ready, poison) -> None:
    given = {
        "PYTHONSTARTUP": "/poison/os.py",
        "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": "/poison",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "ascii:strict",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPLATLIBDIR": "nowhere",
    }
    show = " ".join(f'"${name}"' for name in given)
    done = pod(
        "sh", "-c", f'echo "$HOME"; printf "%s\\n" {show}; exit 9',
        volume=ready, env=given, options=[f"--volume={poison}:/poison:ro"],
    )  # fmt: skip

    booted(done)
    assert done.out.splitlines()[1:] == list(given.values())


@pytest.mark.parametrize("name", ["poison.pth", "usercustomize.py", "sitecustomize.py"])
def test_an_image_whose_site_packages_kill(pod, ready, name) -> None:
    # site runs each of them in every interpreter that does not say -S
    target = f"/usr/lib/python3/dist-packages/{name}"
    if name == "sitecustomize.py":
        # Debian has one already, and it comes first
        target = "$(python3 -c 'import sitecustomize as s; print(s.__file__)')"
    script = f"""echo '{KILL.strip()}' > "{target}"
exec /opt/workspace-agent/entrypoint.sh "$@"
"""
    done = pod(
        "-c", script, "sh",
        "sh", "-c", 'echo "$HOME"; python3 -c pass; test $? = 66 || echo not poisoned; exit 9',
        volume=ready, options=["--entrypoint", "/bin/sh"],
    )  # fmt: skip

    booted(done)
    assert "not poisoned" not in done.out


def test_a_working_directory_full_of_modules(pod, ready, poison) -> None:
    done = pod(
        "sh", "-c", 'echo "$HOME"; pwd; exit 9',
        volume=ready, options=[f"--volume={poison}:/poison:ro", "--workdir=/poison"],
    )  # fmt: skip

    booted(done)
    assert done.out.splitlines()[1] == "/poison"


def test_the_packages_of_the_volume_cannot_reach_the_agent(pod, volume) -> None:
    find = 'echo "${PYTHONPATH%%:*}"'
    first = pod("sh", "-c", find, volume=volume)
    assert first.wait() == 0, first.err
    packages = first.out.strip()
    assert packages.startswith("/workspace/"), first.err
    first.remove()
    folder = volume / packages.removeprefix("/workspace/")
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / f"{name}.py").write_text(KILL)

    done = pod("sh", "-c", 'echo "$HOME"; exit 9', volume=volume)
    booted(done)


def test_the_workload_gets_no_variable_of_the_agents_own(pod, ready) -> None:
    # -I and -S are for our interpreter; the workload's Python is as it would be without us
    done = pod("python3", "-c", SHOW, volume=ready)

    assert done.wait() == 0, done.err
    assert set(json.loads(done.out)) <= {"PYTHONPATH"}


@pytest.mark.parametrize("variant", ["image", "unbaked_image"])
def test_the_volume_cannot_replace_the_agents_python(pod, volume, request, variant) -> None:
    # /workspace/bin comes first on the PATH of every shell; the entrypoint must not look there
    (volume / "bin").mkdir()
    for name in ("python3", "python", "sh", "workspace-agent", "env", "cat"):
        fake = volume / "bin" / name
        fake.write_text("#!/bin/sh\necho replaced\nexit 66\n")
        fake.chmod(0o755)

    which = request.getfixturevalue(variant)
    done = pod("/bin/sh", "-c", 'echo "$HOME"; exit 9', image=which, volume=volume)
    booted(done)
    assert "replaced" not in done.err
