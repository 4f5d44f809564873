"""A boot that has died twice before it was ready does less the third time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from agents import Place

# A setup script that takes the whole boot with it, as running out of memory would.
DEADLY = 'echo tried >>"$WORKSPACE_VOLUME/tries"; kill -9 "$PPID"\n'


def tries(place: Place) -> int:
    return len((place.volume / "tries").read_text().splitlines())


def test_after_two_deaths_a_boot_leaves_the_scripts_out_and_says_so(agent, place: Place) -> None:
    place.script(DEADLY)
    codes = [agent("sh", "-c", f"exit {code}").wait() for code in (3, 4)]
    third = agent("sh", "-c", 'echo "$HOME"; exit 5')
    code = third.wait()

    assert ([3, 4], 5) == (codes, code)
    assert 2 == tries(place)
    assert "(boot.safe-mode)" in third.err
    assert f"{place.home}\n" == third.out


def test_the_boot_after_a_safe_one_tries_everything_again(agent, place: Place) -> None:
    place.script(DEADLY)
    for _ in range(3):
        agent("true").wait()
    place.script("exit 0\n")
    running = agent("sh", "-c", 'echo "$HOME"')

    assert (0, f"{place.volume}/home\n") == (running.wait(), running.out)
    assert "safe-mode" not in running.err


def test_one_death_between_good_boots_is_forgotten(agent, place: Place) -> None:
    for text in (DEADLY, "exit 0\n", DEADLY, "exit 0\n"):
        place.script(text)
        running = agent("true")
        running.wait()

    assert "safe-mode" not in running.err
    assert not (place.volume / ".workspace-agent/attempts").exists()


# The first two wait in the middle of their set-up.
PATIENT = """
cd "$WORKSPACE_VOLUME" && echo tried >>tries
[ "$(wc -l <tries)" -gt 2 ] || until [ -e go ]; do sleep 0.05; done
"""


def test_boots_of_other_containers_on_this_node_are_not_dead(
    agent, pid1, place: Place, tmp_path: Path
) -> None:
    """Same host name, same network, other process numbers: two pods on the host's network."""
    place.script(PATIENT)
    others = [
        pid1("true", env=place.environ(WORKSPACE_AGENT_RUNTIME=f"{tmp_path}/run{n}"))
        for n in range(2)
    ]
    wait_until(lambda: (place.volume / "tries").exists() and tries(place) == 2, "two boots")
    third = agent("true")
    third.wait()
    (place.volume / "go").touch()
    for other in others:
        other.wait()

    assert 3 == tries(place)
    assert "safe-mode" not in third.err
    assert not (place.volume / ".workspace-agent/attempts").exists()
