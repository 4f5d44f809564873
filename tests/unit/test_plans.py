"""The fast path: a stamp only after a clean boot, and no trust in it after any change."""

from __future__ import annotations

import marshal
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from workspace_agent import __version__, fastpath
from workspace_agent.app import plans
from workspace_agent.app.recipes import recipe_for
from workspace_agent.config.schema import HomeSection, Profile, ReplaySection, ScriptsSection
from workspace_agent.host.interpreter import Interpreter
from workspace_agent.model.outcome import Report, Row, Status
from workspace_agent.model.problem import Problem

CLEAN = Report(
    (Row("volume.ready", Status.OK), Row("home.seed", Status.CHANGED), Row("x", Status.SKIPPED))
)


@dataclass
class World:
    """A baked install, a volume that a clean boot has stamped, and a container on them."""

    at: Path
    facts: object
    plan: dict[str, object]
    environ: dict[str, str]
    mounts: dict[str, tuple[str, str, bool]] = field(default_factory=dict)

    @property
    def volume(self) -> Path:
        return self.at / "volume"

    def holds(self) -> bool:
        return fastpath.holds(self.plan, self.environ, self.mounts)

    def bake(self, plan: object = None) -> None:
        (self.at / "install/baked").write_bytes(marshal.dumps(plan or self.plan))

    def stamp(self, report: Report = CLEAN) -> bool:
        recipe, _ = recipe_for(Profile(), self.facts, Report())
        plans.stamp(self.facts, report, recipe)
        return os.path.exists(self.plan["stamp"])


@pytest.fixture
def fresh(tmp_path: Path, facts: Callable, plant: Callable) -> World:
    """Return a world before its first boot has ended."""
    plant(tmp_path, {
        "install/": None, "image.toml": "", "volume/.workspace-agent/": None,
        "volume/home/.packet-init": "", "volume/pip-packages/cp311-x86_64/": None,
    })  # fmt: skip
    environ = {
        "HOME": f"{tmp_path}/image",
        "PATH": "/bin",
        "WORKSPACE_VOLUME": f"{tmp_path}/volume",
    }
    here = facts(tmp_path, environ=environ, uid=os.geteuid())
    recipe, _ = recipe_for(Profile(), here, Report())
    plan = plans.compiled(Profile(), here, recipe, [str(tmp_path / "image.toml")])
    world = World(
        tmp_path,
        here,
        dict(plan),
        environ,
        {f"{tmp_path}/volume": ("nfs4", "server:/", False)},
    )
    world.bake()
    return world


@pytest.fixture
def world(fresh: World) -> World:
    assert fresh.stamp()
    return fresh


@pytest.mark.parametrize("kind", ["nfs4", "ext4", "overlay", "fuse.s3fs"])
def test_an_unchanged_world_holds_on_any_kind_of_volume(kind: str, world: World) -> None:
    world.mounts[str(world.volume)] = (kind, "source", False)

    assert world.holds()


def test_without_a_stamp_nothing_holds(fresh: World) -> None:
    assert not fresh.holds()


CHANGES: dict[str, Callable[[World], object]] = {
    "the packages folder has changed": lambda w: os.utime(
        w.volume / "pip-packages/cp311-x86_64", ns=(1, 1)
    ),
    "the packages folder is gone": lambda w: (w.volume / "pip-packages/cp311-x86_64").rmdir(),
    "setup.sh has appeared": lambda w: (w.volume / "setup.sh").write_text(""),
    "setup.d has appeared": lambda w: (w.volume / "setup.d").mkdir(),
    "the volume has a profile": lambda w: (w.volume / ".workspace-agent/profile.toml").write_text(
        ""
    ),
    "a boot has died": lambda w: (w.volume / ".workspace-agent/attempts").write_text("1\n"),
    "the marker is gone": lambda w: (w.volume / "home/.packet-init").unlink(),
    "the stamp is another's": lambda w: Path(w.plan["stamp"]).write_text("26.1 0\n"),
    "the stamp is gone": lambda w: Path(w.plan["stamp"]).unlink(),
    "the stamp is a folder": lambda w: (
        Path(w.plan["stamp"]).unlink(),
        Path(w.plan["stamp"]).mkdir(),
    ),
    "the image's profile has changed": lambda w: (w.at / "image.toml").write_text("# new"),
    "the image's profile is gone": lambda w: (w.at / "image.toml").unlink(),
    "nothing is mounted": lambda w: w.mounts.clear(),
    "HOME differs": lambda w: w.environ.update(HOME="/elsewhere"),
    "a setting differs": lambda w: w.environ.update(WORKSPACE_AGENT__HOME__MODE="copy"),
    "a setting is gone": lambda w: w.environ.pop("WORKSPACE_VOLUME"),
    "another profile is chosen": lambda w: w.environ.update(WORKSPACE_AGENT_PROFILE="gpu"),
    "the user differs": lambda w: w.plan.update(uid=os.geteuid() + 1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_any_change_the_engine_is_asked(
    change: Callable[[World], object], world: World
) -> None:
    change(world)

    assert not world.holds()


@pytest.mark.parametrize("name", ["DISABLE", "BANNER", "QUIET", "JSON", "PRIVATE", "VERBOSE"])
def test_settings_that_change_nothing_of_the_plan_do_not_matter(name: str, world: World) -> None:
    world.environ[f"WORKSPACE_AGENT_{name}"] = "1"

    assert world.holds()


def test_a_home_that_is_not_set_is_the_images(world: World) -> None:
    del world.environ["HOME"]

    assert world.holds()


def test_variables_that_are_not_ours_do_not_matter(world: World) -> None:
    world.environ.update(HF_TOKEN="x", TERM="dumb")

    assert world.holds()


def test_a_path_that_may_lead_to_another_python_is_the_engines(world: World) -> None:
    inside = world.plan["volume"]
    world.environ["PATH"] = f"{inside}/bin:{world.environ['PATH']}"
    same = world.holds()
    world.environ["PATH"] = f"/opt/conda/bin:{world.environ['PATH']}"

    assert (True, False) == (same, world.holds())


def test_a_read_only_volume_is_the_engines_to_explain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert not world.holds()


@pytest.mark.parametrize(
    ("room", "holds"),
    [((0, 10, 10), False), ((10, 10, 0), False), ((10, 10, 10), True), ((10, 0, 0), True)],
)
def test_a_full_volume_is_the_engines_to_explain(
    room: tuple[int, int, int], holds: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Room:
        f_bavail, f_files, f_favail = room

    monkeypatch.setattr(os, "statvfs", lambda _: Room)

    assert holds is world.holds()


def test_a_volume_that_fails_while_it_is_asked_is_the_engines_to_explain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "statvfs", refuse)

    assert not world.holds()


def test_a_volume_that_hangs_is_left_to_the_engine_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    gate = threading.Event()
    monkeypatch.setattr(fastpath, "PATIENCE", 0.05)
    monkeypatch.setattr(fastpath, "volume_holds", lambda _: gate.wait(30))
    held = world.holds()
    gate.set()

    assert not held


@pytest.mark.parametrize(
    "report",
    [
        replace(CLEAN, notes=(Problem("volume.absent", "x"),)),
        Report((*CLEAN.rows, Row("y", Status.FAILED, problem=Problem("a", "b")))),
        Report((*CLEAN.rows, Row("y", Status.BLOCKED))),
        Report((*CLEAN.rows, Row("y", Status.FAILED))),
        Report((*CLEAN.rows, Row("y", Status.WOULD_CHANGE))),
    ],
    ids=["note", "problem", "blocked", "failed", "dry run"],
)
def test_only_a_clean_boot_stamps(report: Report, fresh: World) -> None:
    assert not fresh.stamp(report)


@pytest.mark.parametrize("name", ["setup.sh", ".workspace-agent/attempts"])
def test_a_volume_with_something_left_to_do_is_not_stamped(name: str, fresh: World) -> None:
    (fresh.volume / name).write_text("")

    assert not fresh.stamp()


@pytest.mark.parametrize(
    "change", [{"recipe": {}}, {"volume": "/other"}, {"version": "0"}], ids=lambda c: next(iter(c))
)
def test_a_boot_that_is_not_the_baked_one_does_not_stamp(
    change: dict[str, object], fresh: World
) -> None:
    fresh.bake({**fresh.plan, **change})

    assert not fresh.stamp()


def test_an_image_that_is_not_baked_does_not_stamp(fresh: World) -> None:
    (fresh.at / "install/baked").unlink()

    assert not fresh.stamp()


def test_a_stamp_that_is_right_is_not_written_again(world: World) -> None:
    before = os.stat(world.plan["stamp"])
    world.stamp()
    after = os.stat(world.plan["stamp"])

    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert (0o100600, 0o40700) == (
        after.st_mode,
        os.stat(os.path.dirname(world.plan["stamp"])).st_mode,
    )


def test_stamps_of_old_images_go_oldest_first(fresh: World) -> None:
    folder = Path(fresh.plan["stamp"]).parent
    folder.mkdir()
    (folder / "not a stamp").write_text("")
    for n in range(12):
        (folder / f"{n:016x}").write_text("")
        os.utime(folder / f"{n:016x}", (n, n))
    fresh.stamp()

    expected = {Path(fresh.plan["stamp"]).name, "not a stamp", *(f"{n:016x}" for n in range(5, 12))}
    assert expected == set(os.listdir(folder))


def test_a_volume_that_takes_no_stamp_does_not_end_the_boot(
    fresh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workspace_agent.host.files.commit", refuse)

    assert not fresh.stamp()


def test_the_key_changes_with_everything_that_the_plan_rests_on(
    fresh: World, tmp_path: Path
) -> None:
    recipe, _ = recipe_for(Profile(), fresh.facts, Report())
    image = [str(tmp_path / "image.toml")]
    other = replace(Profile(), name="other")
    keys = [
        plans.compiled(Profile(), fresh.facts, recipe, image)["key"],
        plans.compiled(other, fresh.facts, recipe, image)["key"],
        plans.compiled(Profile(), fresh.facts, {**recipe, "home": "/x"}, image)["key"],
        plans.compiled(Profile(), fresh.facts, recipe, [])["key"],
    ]

    assert fresh.plan["key"] == keys[0]
    assert 4 == len(set(keys))


@pytest.mark.parametrize(
    ("uid", "mode", "user", "moved"),
    [
        (0, "auto", "root", "root"),
        (0, "redirect", "root", "root"),
        (0, "links", "root", ""),
        (1000, "auto", "coder", ""),
        (0, "auto", "", ""),
    ],
)
def test_only_root_in_a_mode_that_redirects_moves_the_passwd_line(
    uid: int, mode: str, user: str, moved: str, tmp_path: Path, facts: Callable
) -> None:
    profile = replace(Profile(), home=replace(HomeSection(), mode=mode))
    here = facts(tmp_path, uid=uid, user=user)
    recipe, _ = recipe_for(profile, here, Report())

    assert moved == plans.compiled(profile, here, recipe, [])["user"]


def test_scripts_that_are_switched_off_do_not_ask_for_the_engine(
    tmp_path: Path, facts: Callable
) -> None:
    profile = replace(Profile(), scripts=replace(ScriptsSection(), enabled=False))
    here = facts(tmp_path)
    absent = plans.compiled(profile, here, recipe_for(profile, here, Report())[0], [])["absent"]

    assert ["profile.toml", "attempts", "wanted", "wanted"] == [
        os.path.basename(path) for path in absent
    ]


@pytest.mark.parametrize(
    ("capture", "mode", "watched"),
    [
        ("report", "overlay", ["lib/python3.11/site-packages", "conda-meta"]),
        ("replay", "overlay", ["lib/python3.11/site-packages", "conda-meta"]),
        ("off", "overlay", []),
        ("report", "off", []),
    ],
)
def test_the_plan_says_where_something_may_be_installed_by_hand(
    capture: str, mode: str, watched: list[str], tmp_path: Path, facts: Callable
) -> None:
    section = replace(ReplaySection(), capture=capture, mode=mode)
    profile = replace(Profile(), replay=section)
    site = f"{tmp_path}/opt/lib/python3.11/site-packages"
    python = Interpreter(f"{tmp_path}/opt/bin/python3", site, "cp311-x86_64")
    here = facts(tmp_path, python=python)
    plan = plans.compiled(profile, here, recipe_for(profile, here, Report())[0], [])

    assert [f"{tmp_path}/opt/{name}" for name in watched] == plan["watch"]
    assert (capture == "replay") is any(path.endswith("captured.in") for path in plan["absent"])


def test_what_is_on_the_volume_is_not_watched(tmp_path: Path, facts: Callable) -> None:
    site = f"{tmp_path}/volume/conda/lib/python3.11/site-packages"
    (tmp_path / "opt").symlink_to(tmp_path / "volume/conda")
    linked = site.replace("volume/conda", "opt")
    for one in (site, linked):
        here = facts(tmp_path, python=Interpreter("/x", one, "cp311-x86_64"))
        recipe = recipe_for(Profile(), here, Report())[0]

        assert [] == plans.compiled(Profile(), here, recipe, [])["watch"]


def test_the_plan_survives_marshal(fresh: World) -> None:
    assert fresh.plan == fastpath.load(str(fresh.at / "install"))


@pytest.mark.parametrize(
    "data", [b"", b"junk", b"\xff" * 10, marshal.dumps({"version": "0"}), marshal.dumps({})]
)
def test_a_baked_file_that_is_not_of_this_version_is_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "baked").write_bytes(data)

    assert fastpath.load(str(tmp_path)) is None


def test_a_plan_of_this_version_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "baked").write_bytes(marshal.dumps({"version": __version__}))

    assert {"version": __version__} == fastpath.load(str(tmp_path))
