"""Which files a boot follows, in which order, under which name, and what it says of the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.app import replays
from workspace_agent.app.recipes import bare
from workspace_agent.config.schema import (
    Profile,
    ReplaySection,
    RequirementsRule,
    WhenSection,
)
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.replay import asked, gpu, uvlock  # noqa: F401  (before there is a fake disk)
from workspace_agent.replay.mark import Mark
from workspace_agent.replay.step import Replay

UV = """#!/bin/sh
case "$*" in *--emit-index-url*) exit 2;; esac
echo "$@" > "$HOME/said"
[ -f "$HOME/broken" ] && { echo "error: the lock is broken" >&2; exit 1; }
echo 'alpha==1.0 --hash=sha256:00'
"""

BLACKWELL = RequirementsRule(
    name="new", files=("new.txt", "sub/more.txt"), when=WhenSection(arch=("blackwell",))
)
UNNAMED = RequirementsRule(files=("hopper.txt",), when=WhenSection(arch=("hopper",)))
DEFAULT = RequirementsRule(files=("all.txt",), extras=("x",), groups=("g",))


class Pod:
    """A pod whose cards are told, on a volume with these files."""

    def __init__(self, at: Path, facts: Callable, plant: Callable) -> None:
        self.at, self._facts, self._plant = at, facts, plant
        self.notes: list[str] = []

    def step(
        self,
        content: dict[str, str],
        cards: str = "none",
        rules: tuple[RequirementsRule, ...] = (),
        **replay: object,
    ) -> Replay | None:
        self._plant(self.at / "volume", content)
        (self.at / "run").mkdir(exist_ok=True)
        environ = {"PATH": f"{self.at}/bin", "HOME": str(self.at), "WORKSPACE_AGENT_GPU": cards}
        facts = self._facts(self.at, environ=environ)
        profile = Profile(replay=ReplaySection(**replay), requirements=rules)
        recipe = bare(profile, facts)
        return replays.step_of(profile, facts, recipe, lambda one: self.notes.append(one.slug))

    def chosen(self, *names: str, **more: object) -> tuple[list[str], str]:
        """Return the files that are followed among *names*, and the rule."""
        step = self.step(dict.fromkeys(names, "dependencies"), **more)
        found = step.asked.files if step else ()
        return [
            os.path.relpath(one, self.at / "volume") for one in found
        ], step.asked.rule if step else ""

    @property
    def has_asked(self) -> bool:
        return (self.at / "run/cards.json").exists()


@pytest.fixture
def pod(root: Path, facts: Callable, plant: Callable) -> Pod:
    return Pod(root, facts, plant)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], []),
        (["notes.txt", "environment.yml"], []),
        (["requirements.txt"], ["requirements.txt"]),
        (["requirements.txt", "pylock.toml", "pyproject.toml"], ["pylock.toml"]),
        (["requirements.txt", "pyproject.toml"], ["requirements.txt"]),
        (["pyproject.toml"], ["pyproject.toml"]),
        (["pyproject.toml", "uv.lock"], ["pyproject.toml"]),
        (["uv.lock"], []),
        (["requirements-dev.txt", "pyproject.toml"], ["pyproject.toml"]),
    ],
)
def test_the_first_that_is_there_is_followed(
    names: list[str], expected: list[str], pod: Pod
) -> None:
    assert (expected, "") == pod.chosen(*names)
    assert ([], False) == (pod.notes, pod.has_asked)


def test_a_pyproject_that_names_no_package_is_no_environment(pod: Pod) -> None:
    assert pod.step({"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}) is None


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ("12.0", (["requirements_blackwell.txt"], "blackwell")),
        ("10.0,12.0", (["requirements_blackwell.txt"], "blackwell")),
        ("9.0", (["requirements.txt"], "")),
        ("none", (["requirements.txt"], "")),
    ],
)
def test_a_file_named_for_the_cards_is_followed_under_its_name(
    cards: str, expected: tuple[list[str], str], pod: Pod
) -> None:
    names = ("requirements.txt", "requirements_blackwell.txt")

    assert expected == pod.chosen(*names, cards=cards)
    assert ([], True) == (pod.notes, pod.has_asked)


def test_a_machine_without_gpu_leaves_the_environments_of_one_with_it_alone(pod: Pod) -> None:
    content = {"requirements.txt": "a", "requirements_gpu.txt": "a"}
    with_gpu = pod.step(content, cards="9.0")
    (pod.at / "run/cards.json").unlink()
    without = pod.step(content, cards="none")

    assert (with_gpu.profile, without.profile) == ("cp311-x86_64-gpu", "cp311-x86_64")
    assert with_gpu.want.key != without.want.key


def test_mixed_cards_have_the_default_and_a_note(pod: Pod) -> None:
    found = pod.chosen("requirements.txt", "requirements_hopper.txt", cards="9.0,12.0")

    assert (["requirements.txt"], "") == found
    assert ["replay.mixed-cards"] == pod.notes


def test_two_files_for_the_same_cards_are_told_and_not_guessed(pod: Pod) -> None:
    names = ("requirements.txt", "requirements_gpu.txt", "requirements-cuda.txt")

    assert ([], "") == pod.chosen(*names, cards="9.0")
    assert ["replay.ambiguous"] == pod.notes


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ("12.0", (["new.txt", "sub/more.txt"], "new")),
        ("9.0", (["hopper.txt"], "hopper")),
        ("8.0", (["all.txt"], "")),
        ("none", (["all.txt"], "")),
    ],
)
def test_the_first_rule_that_fits_counts(
    cards: str, expected: tuple[list[str], str], pod: Pod
) -> None:
    rules = (BLACKWELL, UNNAMED, DEFAULT)

    assert expected == pod.chosen("requirements.txt", cards=cards, rules=rules)
    assert [] == pod.notes


def test_a_rule_for_some_of_the_cards_is_passed_over_and_told(pod: Pod) -> None:
    found = pod.chosen("all.txt", cards="9.0,12.0", rules=(BLACKWELL, DEFAULT))

    assert (["all.txt"], "") == found
    assert ["replay.mixed-cards"] == pod.notes


def test_where_no_rule_fits_nothing_is_followed(pod: Pod) -> None:
    assert ([], "") == pod.chosen("requirements.txt", cards="8.0", rules=(BLACKWELL, UNNAMED))


def test_rules_that_name_no_card_do_not_ask_for_them(pod: Pod) -> None:
    step = pod.step({"all.txt": "a"}, rules=(DEFAULT, BLACKWELL))

    assert (("x",), ("g",)) == (step.asked.extras, step.asked.groups)
    assert not pod.has_asked


def test_a_choice_says_why(pod: Pod) -> None:
    content = {"requirements_blackwell.txt": "a"}

    step = pod.step(content, cards="12.0")
    assert "requirements_blackwell.txt: 1 GPU, blackwell" == step.asked.why


def test_never_follows_nothing(pod: Pod) -> None:
    assert pod.step({"requirements.txt": "a==1"}, trust="never") is None


def test_pinned_refuses_what_leaves_a_version_open(pod: Pod) -> None:
    step = pod.step({"requirements.txt": "a==1\n# no\nb>=2\nc\n"}, trust="pinned")

    with pytest.raises(AgentError) as refused:
        _ = step.want
    problem = refused.value.problem
    assert "requirements.txt:3 names no one version: b>=2" == problem.what
    assert "so do 1 more" in problem.why


def test_pinned_follows_what_is_pinned(pod: Pod) -> None:
    content = {"requirements.txt": "-c c.txt\na==1\nb\n", "c.txt": "b==2\n"}

    assert 3 == len(pod.step(content, trust="pinned").want.lines)


def key_of(pod: Pod, text: str, **replay: object) -> str:
    step = pod.step({"requirements.txt": text}, **replay)
    return str(step.want.key)


def test_a_day_changes_the_key_of_what_leaves_a_version_open(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = ["2026-01-01"]
    monkeypatch.setattr(replays.time, "strftime", lambda *_: day[0])
    keys = [key_of(pod, text, refresh="daily") for text in ("a", "a==1")]
    assert keys == [key_of(pod, text, refresh="daily") for text in ("a", "a==1")]

    day[0] = "2026-01-02"
    loose, pinned = (key_of(pod, text, refresh="daily") for text in ("a", "a==1"))
    assert (True, keys[1]) == (loose != keys[0], pinned)


def test_a_boot_changes_it_where_that_is_wanted(pod: Pod) -> None:
    usual = key_of(pod, "a")

    assert usual == key_of(pod, "a") != key_of(pod, "a", refresh="boot")


def test_a_refresh_that_fails_leaves_the_last_good_environment_in_use(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = pod.step({"requirements.txt": "a"}, refresh="boot")
    step.place.clear("good")
    step.place.commit(Mark("good", {"a": "1"}))
    step.place.use("good")

    def fails(*_: object) -> None:
        raise AgentError(Problem("replay.no-network", "no network"))

    monkeypatch.setattr(Replay, "_have", fails)
    with pytest.raises(AgentError):
        step.apply(lambda _: None)
    assert "good" == step.place.used()


@pytest.fixture
def with_uv(tmp_path: Path, facts: Callable, plant: Callable) -> Pod:
    plant(tmp_path, {"bin/uv": UV, "volume/pyproject.toml": "", "volume/uv.lock": ""})
    (tmp_path / "bin/uv").chmod(0o755)
    (tmp_path / "bin/sh").symlink_to("/bin/sh")
    return Pod(tmp_path, facts, plant)


def test_a_lock_of_uv_becomes_lines(with_uv: Pod) -> None:
    step = with_uv.step({"requirements.txt": "other"})

    assert [f"{with_uv.at}/run/uv-lock.txt"] == list(step.asked.files)
    assert ["alpha"] == [line.name for line in step.want.lines]
    assert 0o600 == (with_uv.at / "run/uv-lock.txt").stat().st_mode & 0o777
    assert f"--project {with_uv.at}/volume" in (with_uv.at / "said").read_text()


def test_extras_and_groups_of_a_rule_reach_uv(with_uv: Pod) -> None:
    rule = RequirementsRule(files=("uv.lock",), extras=("x", "y"), groups=("g",))
    with_uv.step({}, rules=(rule,))

    assert "--extra x --extra y --group g" in (with_uv.at / "said").read_text()


def test_a_lock_that_cannot_be_used_is_told(with_uv: Pod) -> None:
    (with_uv.at / "broken").touch()

    assert with_uv.step({}) is None
    assert ["replay.unreadable"] == with_uv.notes


def test_without_room_for_the_lines_that_is_told(with_uv: Pod) -> None:
    (with_uv.at / "run/uv-lock.txt").mkdir(parents=True)

    assert with_uv.step({}) is None
    assert ["replay.unreadable"] == with_uv.notes


def test_a_rule_that_names_a_lock_needs_uv(pod: Pod) -> None:
    rule = RequirementsRule(files=("uv.lock",))

    assert pod.step({"uv.lock": ""}, rules=(rule,)) is None
    assert ["replay.unreadable"] == pod.notes


@pytest.mark.parametrize(("has_line", "names"), [(True, ["PATH"]), (False, ["PATH", "PYTHONPATH"])])
def test_packages_on_the_volume_are_not_in_front_of_an_environments(
    pod: Pod, has_line: bool, names: list[str]
) -> None:
    step = pod.step({"requirements.txt": "hello"})
    recipe = {"set": {}, "prepend": {"PATH": ["/volume/bin"], "PYTHONPATH": ["/volume/pip"]}}
    assert recipe is replays.wired(recipe, step, has_line), "there is no environment yet"
    os.makedirs(step.place.top)
    step.place.use("some")

    assert names == list(replays.wired(recipe, step, has_line)["prepend"])
