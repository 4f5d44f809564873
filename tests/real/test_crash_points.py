"""Boots that are killed or refused at every change they make to a volume: nothing is ever lost."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from agents import REPOSITORY, children, wait_until
from slow_volumes import mounted

sys.path.insert(0, str(REPOSITORY / "tests/tools/crashpoints"))

from crashpoints import Case, Tally, sweep
from faults import Ended, Slowvol, execute
from invariants import MARKER, World, image_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from slow_volumes import Volume

BOOTS = [sys.executable, "-S", "-I", str(REPOSITORY / "tests/real/first_boot.py")]
ERRORS = ("ENOSPC", "EDQUOT", "EIO", "ESTALE", "EROFS", "EACCES")

# What pods run today, reduced to its copy: SOURCE VOLUME.
BASELINE = """
mkdir -p "$2/home"
[ -f "$2/home/.packet-init" ] && exit
cp -r "$1/." "$2/home/" 2>/dev/null || true
touch "$2/home/.packet-init"
"""


class Boots:
    """Boots to a *volume*, one after the other; a context. *count* hears what a sweep tried."""

    def __init__(self, volume: Path, count: Callable[[str, object], None]) -> None:
        self.volume, self.count = volume, count
        self.process = subprocess.Popen(
            BOOTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Boots:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def ask(
        self, source: Path, volume: Path | None = None, threads: int = 1, image: str = ""
    ) -> None:
        """Begin a boot; `ended` waits for its end."""
        wish = [str(source), str(volume or self.volume), threads, image]
        print(json.dumps(wish), file=self.process.stdin, flush=True)

    def ended(self) -> Ended:
        """Return how the boot ended."""
        return Ended(**json.loads(self.process.stdout.readline()))

    def is_idle(self) -> bool:
        """Say whether the boot has ended already."""
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def one(self, source: Path, *more: Path | int | str | None) -> Ended:
        """Boot, and return how that ended."""
        self.ask(source, *more)
        return self.ended()

    def sweep(
        self, world: World, fault: Slowvol, threads: int = 1, image: str = "", **options: object
    ) -> Tally:
        """Strike a boot of *world* as *options* of the sweep say."""

        def launch(_: Sequence[str]) -> Ended:
            return world.judged(self.one(world.source, None, threads, image))

        def check(phase: str, ended: Ended) -> str:
            wrong = world.wrong(phase, ended)
            if wrong or phase != "recovered" or fault.error or threads > 1:
                return wrong
            warm = fault.run(launch)
            settled = warm.code == 0 and not warm.points
            return "" if settled else f"I4 a warm boot made {len(warm.points)} changes: {warm.out}"

        tally = sweep(Case(world.reset, launch, check), fault, **options)
        print(f"{world.name}, {threads} threads, {fault.error or 'killed'}: {tally}")
        self.count("boots killed or refused", tally.scenarios)
        return tally


@pytest.fixture
def volume(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Volume]:
    """Mount one that shows at once what a test does behind it; more options by parameter."""
    options = ",".join(["timeout=0", *getattr(request, "param", ())])
    with mounted(tmp_path / "volume", tmp_path / "back", options) as volume:
        yield volume


@pytest.fixture
def boots(volume: Volume, record_property: Callable[[str, object], None]) -> Iterator[Boots]:
    with Boots(volume.mount, record_property) as boots:
        yield boots


@pytest.fixture
def world(tmp_path: Path, boots: Boots, request: pytest.FixtureRequest) -> World:
    """Make the situation that the parameter names."""
    return SITUATIONS[request.param](tmp_path, boots)


def fresh(at: Path, _: Boots) -> World:
    """A volume with nothing of ours, and a folder of somebody else's."""
    (at / "pristine/data").mkdir(parents=True)
    (at / "pristine/data/model").write_text("weights")
    return World("fresh", image_home(at / "home"), at / "back", at / "pristine")


def populated(at: Path, boots: Boots) -> World:
    """A home of unknown origin: a file of the user's own, two in the way, one that was torn."""
    world = fresh(at, boots)
    user = {"notes": b"mine\n", ".bashrc": b"mine, not the image's\n", ".config": b"no folder\n"}
    user[".profile"] = world.defaults[".profile"][1][:300]
    user["-rf"] = world.defaults["-rf"][1]
    plant(at / "pristine/home", user)
    wins, told = frozenset({".bashrc", ".config"}), frozenset({"home.not-laid"})
    return replace(world, name="populated", user=user, wins=wins, told=told)


def reset(at: Path, boots: Boots) -> World:
    """A home that we made, changed by its user, who then removed the marker."""
    world = fresh(at, boots)
    assert 0 == boots.one(world.source, at / "pristine").code
    user = {"notes": b"mine\n", ".bashrc": b"mine, as long as you like\n", "hollow": b"not now\n"}
    plant(at / "pristine/home", user)
    (at / "pristine/home/second name").unlink()
    (at / "pristine/home" / MARKER).unlink()
    return replace(world, name="reset", user=user)


def plant(home: Path, user: dict[str, bytes]) -> None:
    home.mkdir(exist_ok=True)
    for name, content in user.items():
        (home / name).unlink(missing_ok=True)
        (home / name).write_bytes(content)


SITUATIONS = {one.__name__: one for one in (fresh, populated, reset)}
ANY = pytest.mark.parametrize("world", SITUATIONS, indirect=True)


def only(situation: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", [situation], indirect=True)


def tried(tally: Tally, every: int = 1) -> None:
    assert tally.scenarios >= tally.points // every > 15, "the sweep did not come everywhere"
    assert not tally.violations, str(tally)


@ANY
@pytest.mark.parametrize(("threads", "image"), [(1, ""), (16, "named")])
def test_a_boot_killed_at_any_change_is_made_good_by_the_next_even_if_that_is_killed(
    world: World, volume: Volume, boots: Boots, threads: int, image: str
) -> None:
    """An image that has a name lets the next boot take up what the killed one had copied."""
    tried(boots.sweep(world, Slowvol(str(volume.mount)), threads, image, twice=2))


@only("fresh")
@pytest.mark.parametrize("error", ERRORS)
def test_a_volume_that_refuses_any_one_change_gets_no_marker_over_half_a_home(
    world: World, volume: Volume, boots: Boots, error: str
) -> None:
    tried(boots.sweep(world, Slowvol(str(volume.mount), error), 16))


@pytest.mark.parametrize("world", ["populated", "reset"], indirect=True)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("stays", [False, True])
def test_a_volume_that_refuses_any_change_to_a_home_that_is_there_does_not_either(
    world: World, volume: Volume, boots: Boots, error: str, stays: bool
) -> None:
    """Every change is refused in two or more ways; the long run tries all six."""
    share = slice(ERRORS.index(error) % 3, None, 3)
    tried(boots.sweep(world, Slowvol(str(volume.mount), error, stays=stays), share=share), 3)


@only("fresh")
@pytest.mark.parametrize("volume", [["writeback"]], indirect=True)
def test_a_volume_that_is_full_only_when_a_file_is_closed_gets_no_marker(
    world: World, volume: Volume, boots: Boots
) -> None:
    refused = 0
    for quota in range(0, 90_000, 6_000):
        # Always another folder: behind a mount that keeps writes nobody may change anything.
        here = replace(world, back=volume.back / str(quota))
        here.back.mkdir()
        here.reset()
        volume.ctl("heal", f"quota {quota} hidden")
        ended = boots.one(world.source, volume.mount / str(quota))
        volume.ctl("heal")
        assert not here.wrong("crashed", ended)
        refused += '"volume.full"' in ended.out
        # The next boot has another mount: this one remembers what it could not write.
        assert not here.wrong("recovered", boots.one(world.source, here.back))

    assert refused > 10


@only("populated")
def test_a_boot_that_hung_at_a_change_and_was_killed_is_made_good_by_the_next(
    world: World, volume: Volume, boots: Boots
) -> None:
    ended = Ended(-9, "")
    hung = 0
    while ended.code == -9:
        world.reset()
        volume.ctl("heal", f"hangat {1 + 9 * hung}")
        boots.ask(world.source, threads=16)
        wait_until(lambda: volume.stats()["hung"] or boots.is_idle(), "it hangs or ends")
        for pid in children(boots.process.pid):
            os.killpg(pid, signal.SIGKILL)
        volume.ctl("hang off")  # what was asked is done now, for nobody
        ended = boots.ended()
        hung += 1
        assert not world.wrong("crashed", ended)
        assert not world.wrong("recovered", world.judged(boots.one(world.source)))

    assert hung > 4


def baseline(world: World, volume: Volume) -> Case:
    argv = ["bash", "-c", BASELINE, "baseline", str(world.source), str(volume.mount)]
    return Case(world.reset, lambda _: execute(argv, os.environ, 60), world.wrong)


@only("fresh")
def test_these_checks_find_what_is_wrong_with_a_plain_copy(world: World, volume: Volume) -> None:
    (world.source / "fifo").unlink()
    case = baseline(replace(world), volume)
    refused = sweep(case, Slowvol(str(volume.mount), "ENOSPC"))

    assert "under a marker" in str(refused)


@only("populated")
def test_these_checks_find_a_users_file_that_was_overwritten(world: World, volume: Volume) -> None:
    with pytest.raises(SystemExit, match=r"the user's '.bashrc' was touched"):
        sweep(baseline(world, volume), Slowvol(str(volume.mount)))


@pytest.mark.long
@ANY
@pytest.mark.parametrize("error", ["", *ERRORS])
@pytest.mark.parametrize(("threads", "image"), [(1, "named"), (64, "")])
def test_a_larger_home_is_as_safe(
    world: World, volume: Volume, boots: Boots, error: str, threads: int, image: str
) -> None:
    for number in range(30):
        folder = world.source / f"more/{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_text("more\n" * number)
    fault = Slowvol(str(volume.mount), error)
    # Each errno strikes every sixth change, so that together they strike all.
    share = slice(ERRORS.index(error), None, 6) if error else slice(None)

    tally = boots.sweep(replace(world), fault, threads, image, twice=0 if error else 2, share=share)
    tried(tally, 6 if error else 1)
