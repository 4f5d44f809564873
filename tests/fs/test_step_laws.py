"""The four laws, for every step, on the fake disk and on the real one.

1. `check` writes nothing. 2. After `apply` it has nothing to do. 3. Twice is once. 4. Killed at
any write, the next boot ends as if never killed.

BindHome is missing: its one write is mount(2), which needs CAP_SYS_ADMIN and is atomic.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workspace_agent.app.bake import File
from workspace_agent.app.boot import run
from workspace_agent.host.command import Finished
from workspace_agent.model.outcome import Ok, Report, Status, Todo
from workspace_agent.steps.home import HomeSeed
from workspace_agent.steps.identity import LinkHome, PasswdHome
from workspace_agent.steps.python import PythonPath
from workspace_agent.steps.scripts import SetupScripts
from workspace_agent.steps.shell import EnvFiles, ShellHooks, hooks
from workspace_agent.steps.volume import VolumeReady

if TYPE_CHECKING:
    from workspace_agent.model.outcome import Step

RECIPE = {
    "set": {"WORKSPACE_VOLUME": "/vol", "QUOTED": "it's $HOME\n`here`"},
    "default": {"PAGER": "less"},
    "prepend": {"PATH": ["/vol/bin"]},
    "home": "/vol/home",
    "image_home": "/root",
    "allow": ["HF_*"],
    "secret": ["*TOKEN*"],
}
ENVIRON = {"PATH": "/usr/bin:/bin", "HF_HOME": "/cache", "HF_TOKEN": "canary", "HOME": "/root"}

PASSWD = "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/sh\n"

IMAGE_HOME = {
    ".bashrc": "export A=1\n",
    ".config/app/settings": "x" * 9000,
    ".config/empty/": None,
    "notes": Path(".bashrc"),
    "gone": Path("/nowhere"),
}


@dataclass(frozen=True)
class Row:
    """One step: what its world holds, how it is made for a boot, and what is there afterwards."""

    content: dict[str, object]
    step: Callable[[Path, str], Step]


def _tell(_: str) -> None: ...


def _volume(at: Path, _: str) -> Step:
    path = str(at / "volume")
    return VolumeReady(path, "ext4", (f"{path}/bin", f"{path}/a/b"), (f"{path}/.workspace-agent",))


def _home(at: Path, boot: str) -> Step:
    volume = str(at / "volume")
    return HomeSeed(
        source=str(at / "image"),
        target=f"{volume}/home",
        marker=".packet-init",
        state=f"{volume}/.workspace-agent",
        prune=(volume,),
        boot_id=boot,
        sync=lambda _: None,
    )


def _passwd(at: Path, _: str) -> Step:
    return PasswdHome("ubuntu", "/volume/home", str(at / "etc/passwd"))


def _links(at: Path, _: str) -> Step:
    return LinkHome(str(at / "volume/home"), str(at / "image"), (".bashrc", ".config/", ".new/"))


def _hooks(at: Path, _: str) -> Step:
    return ShellHooks(hooks(RECIPE, ENVIRON, "/run/agent", etc=str(at / "etc")))


def _env(at: Path, _: str) -> Step:
    return EnvFiles(str(at / "run"), RECIPE, ENVIRON)


def _python(at: Path, _: str) -> Step:
    return PythonPath(str(at / "python3/dist-packages"), ["/volume/pip-packages/cp311-x86_64"])


def _scripts(at: Path, _: str) -> Step:
    def fake_run(argv: list[str], **_: object) -> Finished:
        (at / "volume/ran").mkdir(exist_ok=True)
        name = os.path.basename(argv[-1])
        fd = os.open(str(at / "volume/ran" / name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.close(fd)
        return Finished(0, 0.1, "")

    volume = str(at / "volume")
    return SetupScripts(
        file=f"{volume}/setup.sh",
        folder=f"{volume}/setup.d",
        volume=volume,
        runtime=str(at / "run"),
        env={},
        timeout=5.0,
        run=fake_run,
    )


def _file(at: Path, _: str) -> Step:
    return File(str(at / "usr/local/bin/tool"), b"#!/bin/sh\n", "image.command", 0o755)


STATE = {"volume/.workspace-agent/": None}
USERS = {
    "volume/home/.bashrc": "mine\n",
    "volume/home/.config/app/own": "mine too\n",
    "volume/home/notes/": None,
}
ETC = {
    "etc/profile.d/": None,
    "etc/bash.bashrc": "case $- in *i*) ;; *) return;; esac\n",
    "etc/zsh/zshenv": "# no end of line",
    "etc/fish/conf.d/": None,
    "etc/environment": "LANG=C\n",
    "etc/ssh/sshd_config.d/": None,
    "etc/sudoers.d/": None,
}
SCRIPTS = {"volume/setup.sh": "1", "volume/setup.d/10-a.sh": "2", "volume/setup.d/20-b.sh": "3"}

ROWS = {
    "volume.ready": Row({}, _volume),
    "home.seed fresh": Row({**STATE, "image/": None}, _home),
    "home.seed onto an empty folder": Row({**STATE, "volume/home/": None}, _home),
    "home.seed merge": Row({**STATE, **USERS}, _home),
    "home.seed reset": Row({**STATE, **USERS, "volume/.workspace-agent/seeded": "boot\n"}, _home),
    "home.use redirect": Row({"etc/passwd": PASSWD}, _passwd),
    "home.use links": Row({"volume/home/.bashrc": "seeded"}, _links),
    "shell.hooks": Row(ETC, _hooks),
    "env.files": Row({"run/": None}, _env),
    "python.path": Row({"python3/": None}, _python),
    "scripts": Row({**SCRIPTS, "run/": None}, _scripts),
    "image.command": Row({"usr/": None}, _file),
}


@pytest.fixture(params=ROWS.values(), ids=ROWS)
def law(request: pytest.FixtureRequest) -> Row:
    if request.param.step is _home and "fake" in request.node.callspec.params.values():
        pytest.skip("the fake disk has no descriptors of folders to list")
    return request.param


@pytest.fixture
def world(root: Path, plant: Callable[..., Path], law: Row) -> Callable[[str], Path]:
    """Return `world(name)`: a fresh folder with what the row's step finds."""

    def made(name: str) -> Path:
        at = plant(root / name, {f"image/{path}": what for path, what in IMAGE_HOME.items()})
        (at / "image/linked").hardlink_to(at / "image/.bashrc")
        (at / "image/.config/empty").chmod(0o2750)
        return plant(at, law.content)

    return made


@pytest.fixture
def outcome(tree: Callable[..., dict[str, object]]) -> Callable[[Path], dict[str, object]]:
    """Return `outcome(at)`: the tree with what may differ between boots taken out."""

    def normal(what: object, at: Path) -> object:
        if isinstance(what, str):
            return what.replace(str(at), "@")
        mode, data = what
        data = data.replace(os.fsencode(str(at)), b"@")
        data = re.sub(rb"(/setup\S*) \d+ ", rb"\1 TIME ", data)
        data = data.replace(b'"mode": "reset"', b'"mode": "merge"')  # killed after its last write
        data = re.sub(rb'"began": \d+', b"", data)
        return mode, re.sub(rb'"(boot_id|created|at|backup|uuid|image|base)": "[^"]*"', b"", data)

    def named(name: str) -> str:
        return re.sub(r"(backup/)\d{4}-\d\d-\d\d-[a-z]+", r"\1DAY-BOOT", name)

    return lambda at: {
        named(name): normal(what, at)
        for name, what in tree(at).items()
        if "/lease." not in name  # the last lease says how many there were
    }


def test_check_writes_nothing(law: Row, world: Callable[..., Path], tree: Callable) -> None:
    at = world("w")
    before = tree(at, times=True)

    law.step(at, "boot").check()

    assert before == tree(at, times=True)


def test_check_writes_nothing_after_apply(
    law: Row, world: Callable[..., Path], tree: Callable
) -> None:
    at = world("w")
    law.step(at, "boot").apply(_tell)
    before = tree(at, times=True)

    law.step(at, "boot").check()

    assert before == tree(at, times=True)


def test_there_is_something_to_do_and_afterwards_nothing(
    law: Row, world: Callable[..., Path]
) -> None:
    at = world("w")

    first = law.step(at, "boot").check()
    law.step(at, "boot").apply(_tell)
    second = law.step(at, "another").check()

    assert (Todo, Ok) == (type(first), type(second))


def test_applied_twice_is_applied_once(law: Row, world: Callable, outcome: Callable) -> None:
    once, twice = world("once"), world("twice")

    law.step(once, "boot").apply(_tell)
    law.step(twice, "boot").apply(_tell)
    law.step(twice, "another").apply(_tell)

    assert outcome(once) == outcome(twice)


def test_killed_at_any_write_the_next_boot_ends_as_if_never_killed(
    law: Row, world: Callable, outcome: Callable, fated: Callable, killed: Callable
) -> None:
    whole = world("whole")
    with fated() as fate:
        law.step(whole, "boot").apply(_tell)
    expected, writes = outcome(whole), fate.seen
    ended = {}
    for k in range(1, writes + 1):
        at = world(str(k))
        killed(k, lambda at=at: law.step(at, "killed").apply(_tell))
        step = law.step(at, "next")
        report = run([step], Report())
        assert not isinstance(step, HomeSeed) or step.tidy()
        left = [p for p in _stages(at) if p.is_dir()]
        ended[k] = (report.status, outcome(at), left)

    assert writes > 0
    assert {k: ("ok", expected, []) for k in range(1, writes + 1)} == ended


def test_a_second_boot_reports_ok_and_writes_nothing(
    law: Row, world: Callable, tree: Callable, fated: Callable
) -> None:
    at = world("w")
    first = run([law.step(at, "one")], Report())
    before = tree(at, times=True)
    with fated() as fate:
        second = run([law.step(at, "two")], Report())

    assert [Status.CHANGED] == [row.status for row in first.rows]
    assert [Status.OK] == [row.status for row in second.rows]
    assert second.rows[0].why in ("", first.rows[0].why)
    assert before == tree(at, times=True)
    assert fate.seen == 0


def _stages(at: Path) -> list[Path]:
    state = at / "volume/.workspace-agent"
    return list(state.glob("stage-*")) if state.is_dir() else []
