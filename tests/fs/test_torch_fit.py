"""The torch that was added is held against the cards; the interpreter that is asked is a fake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from workspace_agent.model.problem import Problem
from workspace_agent.replay import torch_fit
from workspace_agent.replay.asked import Asked
from workspace_agent.replay.key import Policy
from workspace_agent.replay.mark import Mark
from workspace_agent.replay.place import Place
from workspace_agent.replay.rules import Card, Cards

RTX5090 = Card("NVIDIA GeForce RTX 5090", "12.0")
HOPPER = '["12.4", ["sm_80", "sm_90"]]'

Ask = Callable[..., Problem | None]


@pytest.fixture
def environment(tmp_path: Path) -> SimpleNamespace:
    """Return a step whose environment has a torch; `say(text)` is what its interpreter answers."""
    place = Place(str(tmp_path))
    top = place.clear("k")
    (tmp_path / "envs/k/bin").mkdir()
    place.commit(Mark("k", {"torch": "2.6.0"}))
    place.use("k")

    def say(text: str, code: int = 0) -> None:
        path = Path(top, "bin/python")
        path.write_text(f"#!/bin/sh\ntouch '{tmp_path}/asked'\necho '{text}'\nexit {code}\n")
        path.chmod(0o755)

    return SimpleNamespace(
        place=place, policy=Policy(), alive=lambda tell: tell, logs=str(tmp_path), say=say,
        asked=Asked(("/volume/requirements.txt",), "requirements.txt"), env={"PATH": "/bin"},
    )  # fmt: skip


def ask(environment: SimpleNamespace, *cards: Card) -> Problem | None:
    return torch_fit.problem(environment, lambda: Cards(cards))


def test_a_torch_without_code_for_the_card_is_told_with_the_file_that_would_be_chosen(
    environment: SimpleNamespace,
) -> None:
    environment.say(HOPPER)
    problem = ask(environment, RTX5090)

    assert problem is not None
    assert "torch has no code for NVIDIA GeForce RTX 5090 (12.0)" == problem.what
    assert "requirements.txt brought one that was built for sm_80 sm_90" == problem.why
    assert "requirements_blackwell.txt" in problem.fix
    assert "/volume/requirements.txt" == problem.where


def test_a_card_that_is_newer_than_the_table_gets_a_rule_for_its_capability(
    environment: SimpleNamespace,
) -> None:
    environment.say(HOPPER)
    problem = ask(environment, Card("NVIDIA X1", "14.2"))

    assert problem is not None
    assert 'compute_capability = ">=14.2"' in problem.fix


def test_a_torch_for_no_gpu_is_told(environment: SimpleNamespace) -> None:
    environment.say("[null, []]")
    problem = ask(environment, RTX5090)

    assert problem is not None
    assert "no GPU at all" in problem.why


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('["12.8", ["sm_90", "sm_120"]]', 0),
        ('["12.8", []]', 0),  # its driver is too old to say
        ("", 0),
        ("no JSON", 0),
        ("Traceback", 1),
        ("[1]", 0),
    ],
)
def test_nothing_is_told_of_one_that_has_it_or_does_not_say(
    answer: str, code: int, environment: SimpleNamespace
) -> None:
    environment.say(answer, code)

    assert ask(environment, RTX5090) is None


def test_what_torch_says_before_its_answer_is_no_matter(environment: SimpleNamespace) -> None:
    environment.say(f"a warning\n{HOPPER}")

    assert ask(environment, RTX5090) is not None


@pytest.mark.parametrize("cards", [(), (Card("NVIDIA Strange"),)])
def test_without_a_card_that_is_known_nobody_is_asked(
    cards: tuple[Card, ...], environment: SimpleNamespace, tmp_path: Path
) -> None:
    environment.say(HOPPER)

    assert ask(environment, *cards) is None
    assert not (tmp_path / "asked").exists()


def test_a_restored_environment_knows_what_was_said_where_it_was_built(
    environment: SimpleNamespace, tmp_path: Path
) -> None:
    environment.say(HOPPER)
    assert ask(environment, Card("NVIDIA H100", "9.0")) is None
    (tmp_path / "asked").unlink()
    mark = environment.place.mark("k")
    environment.place.commit(replace(mark, is_stored=True))

    assert ask(environment, RTX5090) is not None
    assert not (tmp_path / "asked").exists()


def test_a_restored_environment_that_knows_nothing_is_not_asked(
    environment: SimpleNamespace, tmp_path: Path
) -> None:
    environment.say(HOPPER)
    environment.place.commit(replace(environment.place.mark("k"), is_stored=True))

    assert ask(environment, RTX5090) is None
    assert not (tmp_path / "asked").exists()


def test_a_torch_of_the_image_is_not_ours_to_judge(environment: SimpleNamespace) -> None:
    environment.say(HOPPER)
    environment.place.commit(Mark("k", {"accelerate": "1.0"}))

    assert ask(environment, RTX5090) is None
