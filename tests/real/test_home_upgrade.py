"""Two images, one volume: what the boots and the verbs make of a home, by real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from agents import REPOSITORY, Place, wait_until

VERB = (
    f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
    "from workspace_agent.cli.main import entry; entry()"
)
UNTIL = ("sh", "-c", 'until [ -e "$WORKSPACE_VOLUME/go" ]; do sleep 0.01; done')

OLD = {".bashrc": "old\n", ".profile": "p\n", "conf/a": "a\n", "odd\n\x1b[31m": "odd\n"}
NEW = {".bashrc": "new\n", ".profile": "p2\n", "conf/new": "new\n", "odd\n\x1b[31m": "very\n"}


class World:
    """A place with two images, and its verbs."""

    def __init__(self, place: Place, agent: Callable) -> None:
        self.place, self._agent = place, agent
        self.images = {"old": place.folder / "old", "new": place.folder / "new"}

    @property
    def state(self) -> Path:
        return self.place.volume / ".workspace-agent"

    @property
    def home(self) -> Path:
        return self.place.volume / "home"

    def environ(self, image: str, **more: str) -> dict[str, str]:
        return self.place.environ(HOME=str(self.images[image]), **more)

    def boot(self, image: str, *command: str, **more: str):
        return self._agent(*(command or UNTIL), env=self.environ(image, **more))

    def settled(self, image: str, glob: str, **more: str) -> None:
        """Boot *image*, and let it run until a file fits *glob* in the folder of defaults."""
        running = self.boot(image, **more)
        wait_until(lambda: list((self.state / "defaults").glob(glob)), f"{glob}\n{running.err}")
        (self.place.volume / "go").touch()
        assert 0 == running.wait()
        (self.place.volume / "go").unlink()

    def verb(self, image: str, *words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-c", VERB, *words], env=self.environ(image), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def json(self, image: str, *words: str) -> dict:
        _, out, err = self.verb(image, "--json", *words)
        assert out, err
        return json.loads(out)


@pytest.fixture
def world(place: Place, agent: Callable, plant: Callable) -> World:
    """Return a world whose old image has made the home; the user has changed .profile since."""
    made = World(place, agent)
    plant(made.images["old"], OLD)
    plant(made.images["new"], NEW)
    made.settled("old", "*.jsonl.gz")
    (made.home / ".profile").write_text("mine\n")
    return made


def test_the_base_is_made_beside_the_workload(world: World) -> None:
    code, out, err = world.verb("old", "home", "verify")

    assert (0, "4 as given, 1 changed\n", "") == (code, out, err)


def test_a_boot_that_was_killed_before_leaves_it_to_the_next(world: World) -> None:
    for path in (world.state / "defaults").iterdir():
        path.unlink()
    world.settled("old", "*.jsonl.gz")

    assert 0 == world.verb("old", "home", "verify")[0]


def test_status_says_that_there_are_new_defaults_and_is_ok(world: World) -> None:
    world.settled("new", "*.json")
    code, out, err = world.verb("new", "status")

    assert (0, "") == (code, err)
    assert "3 defaults are new in this image, 1 conflicts: `workspace-agent home diff`\n" in out


def test_a_report_touches_no_home_and_a_second_boot_writes_nothing(
    world: World, tree: Callable
) -> None:
    home = tree(world.home, times=True)
    world.settled("new", "*.json")
    before = tree(world.place.volume, times=True)
    assert 0 == world.boot("new", "true").wait()
    wait_until(lambda: not world.place.started(), "the engine is through")

    assert home == tree(world.home, times=True)
    assert before == tree(world.place.volume, times=True)


def test_diff_lists_what_the_image_asks_for_and_shows_no_escapes(world: World) -> None:
    code, out, _ = world.verb("new", "home", "diff")

    assert 0 == code
    assert [
        "conflict  .profile",
        "changed   .bashrc",
        r"changed   odd\n\x1b[31m",
        "new       conf/new",
        "gone      conf/a",
        "1 changed on both sides, 2 changed in the image, 1 new in the image, "
        "1 gone from the image, 1 the same",
    ] == out.splitlines()


def test_diff_of_a_file_is_a_unified_one(world: World) -> None:
    (world.images["new"] / ".profile").write_text("same\nimage \x1b[2J\n")
    (world.home / ".profile").write_text("same\nmine\n")
    _, out, _ = world.verb("new", "home", "diff", "--file", f"{world.home}/.profile")

    assert "--- image/.profile\n+++ home/.profile\n@@ -1,2 +1,2 @@\n same\n" in out
    assert "-image \\x1b[2J\n+mine\n" in out


def test_merge_takes_over_what_is_unchanged(world: World, tree: Callable) -> None:
    before = tree(world.place.volume, times=True)
    code, planned, _ = world.verb("new", "home", "merge", "--dry-run")
    assert (0, before) == (code, tree(world.place.volume, times=True))
    code, out, err = world.verb("new", "home", "merge")

    assert (0, "") == (code, err)
    assert planned.replace("would ", "").replace(". Nothing was written.", "") == out
    assert ("new\n", "mine\n", "new\n", "a\n") == tuple(
        (world.home / name).read_text() for name in (".bashrc", ".profile", "conf/new", "conf/a")
    )
    assert "p2\n" == (world.state / "defaults-new/.profile").read_text()
    assert (0, "") == (world.verb("new", "home", "verify")[0], world.verb("new", "status")[2])
    assert "1 changed by you" in world.verb("new", "home", "status")[1]


def test_an_image_that_wants_it_has_its_defaults_before_the_workload_runs(world: World) -> None:
    more = {"WORKSPACE_AGENT__HOME__UPGRADE": "unmodified"}
    running = world.boot("new", "sh", "-c", 'cat "$HOME/.bashrc" "$HOME/.profile"', **more)

    assert (0, "new\nmine\n") == (running.wait(), running.out), running.err
    assert ["old\n"] == [path.read_text() for path in world.state.glob("backup/*/.bashrc")]


def test_reset_of_a_file_keeps_the_users_version(world: World) -> None:
    code, out, err = world.verb("old", "home", "reset", "--file", ".profile", "--file", "conf")

    assert (0, "", "p\n") == (code, err, (world.home / ".profile").read_text())
    assert out.startswith("bring back  .profile\n1 default\nbackups: 1 file, 5 B, in ")
    assert ["mine\n"] == [path.read_text() for path in world.state.glob("backup/*/.profile")]


@pytest.mark.parametrize("words", [("--file", ".profile"), ("--yes",)])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_reset_says_what_it_could_not_bring_back(
    world: World, make: Callable, words: tuple[str, ...]
) -> None:
    (world.home / ".profile").unlink()
    make(world.home / ".profile")
    answer = world.json("old", "home", "reset", *words)

    assert (3, ["home.not-laid"], []) == (
        answer["exit_code"],
        [problem["slug"] for problem in answer["problems"]],
        answer["data"]["done"],
    )


def test_the_whole_home_is_reset_with_yes_only(world: World) -> None:
    (world.home / "notes").write_text("kept\n")
    assert 2 == world.verb("new", "home", "reset")[0]
    assert "mine\n" == (world.home / ".profile").read_text()
    code, _, err = world.verb("new", "home", "reset", "--yes")

    assert (0, "", "p2\n") == (code, err, (world.home / ".profile").read_text())
    assert "kept\n" == (world.home / "notes").read_text()
    assert ["mine\n"] == [path.read_text() for path in world.state.glob("backup/*/.profile")]
    assert 0 == world.verb("new", "home", "verify")[0]


@pytest.mark.parametrize("record", [None, "an earlier version\n"])
def test_a_home_that_was_adopted_can_be_reset_too(world: World, record: str | None) -> None:
    (world.home / ".packet-init").write_text("")
    (world.state / "seeded").unlink()
    if record:
        (world.state / "seeded").write_text(record)
    code, _, err = world.verb("new", "home", "reset", "--yes")

    assert (0, "", "p2\n") == (code, err, (world.home / ".profile").read_text())
    assert ["mine\n"] == [path.read_text() for path in world.state.glob("backup/*/.profile")]
    assert 0 == world.verb("new", "home", "verify")[0]


def test_where_the_image_is_out_of_sight_the_home_can_be_verified(world: World) -> None:
    world.images["old"] = world.home
    answer = world.json("old", "home", "diff")

    assert (1, "home.image-out-of-sight") == (
        answer["exit_code"],
        answer["problems"][0]["slug"],
    )
    assert 0 == world.verb("old", "home", "verify")[0]


def test_verify_shows_no_escapes(world: World) -> None:
    (world.home / "odd\n\x1b[31m").unlink()
    _, out, _ = world.verb("old", "-v", "home", "verify")

    assert "gone      odd\\n\\x1b[31m\n" in out


def test_a_damaged_file_is_a_problem(world: World) -> None:
    bashrc = world.home / ".bashrc"
    info = os.stat(bashrc)
    bashrc.write_text("0ld\n")
    os.utime(bashrc, ns=(info.st_atime_ns, info.st_mtime_ns))
    code, out, err = world.verb("old", "home", "verify")

    assert 3 == code
    assert "damaged   .bashrc\n" in out
    assert "(home.damaged)" in err
    assert 0 == world.verb("old", "home", "reset", "--file", ".bashrc")[0]
    assert 0 == world.verb("old", "home", "verify")[0]


def test_a_home_that_nobody_knows_is_only_compared(world: World) -> None:
    (world.state / "seeded").write_text("an earlier version\n")
    found = world.json("new", "home", "diff")["data"]["defaults"]

    assert (4, 1) == (found["unknown"], found["same"])
    for verb in ("merge", "verify"):
        answer = world.json("new", "home", verb)
        assert (3, ["home.no-base"]) == (
            answer["exit_code"],
            [problem["slug"] for problem in answer["problems"]],
        )
    assert "old\n" == (world.home / ".bashrc").read_text()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "", "a/../../x", "nothing"])
@pytest.mark.parametrize("verb", ["diff", "reset"])
def test_a_file_that_is_no_default_is_refused(world: World, verb: str, path: str) -> None:
    if (verb, path) == ("diff", ""):
        pytest.skip("no file: the whole list")
    answer = world.json("old", "home", verb, "--file", path)

    assert (1, "usage") == (answer["exit_code"], answer["problems"][0]["slug"])
    word = "no default" if path == "nothing" else "is not in the home"
    assert word in answer["problems"][0]["what"]


HOSTILE = [
    {"format": 1, "created": "\x1b[2J", "home": "\x1b]0;x\x07" * 1000, "mode": {}, "files": "x"},
    {"format": 1, "created": ["\n" * 99], "skipped_total": -5, "image": 7},
    [],
]


@pytest.mark.parametrize("text", [*map(json.dumps, HOSTILE), "[" * 200_000, "\0" * 500_000])
def test_a_hostile_marker_draws_nothing_on_the_terminal(world: World, text: str) -> None:
    (world.home / ".packet-init").write_text(text)
    code, out, err = world.verb("old", "home", "status")

    assert (0, "") == (code, err)
    assert out.replace("\n", "").isprintable()
    assert max(map(len, out.splitlines())) < 400


def test_without_a_home_the_verbs_say_so(place: Place, agent: Callable, plant: Callable) -> None:
    world = World(place, agent)
    plant(world.images["old"], OLD)
    place.volume.mkdir()
    answers = [world.json("old", "home", verb) for verb in ("status", "diff", "merge", "verify")]

    assert [(1, "home.none")] * 4 == [
        (answer["exit_code"], answer["problems"][0]["slug"]) for answer in answers
    ]
    assert [] == os.listdir(place.volume)
