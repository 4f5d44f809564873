"""Which file is for which card: the tables, one row for each way it can go."""

from __future__ import annotations

from dataclasses import fields

import pytest

from workspace_agent.config.schema import WhenSection
from workspace_agent.replay import lines, rules
from workspace_agent.replay.lines import Line
from workspace_agent.replay.rules import Card, Cards

H100, RTX5090 = Card("NVIDIA H100 80GB HBM3", "9.0"), Card("NVIDIA GeForce RTX 5090", "12.0")
B200, A40, T4 = Card("NVIDIA B200", "10.0"), Card("NVIDIA A40", "8.6"), Card("Tesla T4", "7.5")
NEWER, UNKNOWN = Card("NVIDIA X1", "14.2"), Card("NVIDIA Strange")


def pod(*cards: Card, driver: str = "570.86.15", cuda: str = "12.8") -> Cards:
    return Cards(cards, driver, cuda, "nvml") if cards else Cards()


@pytest.mark.parametrize(
    ("capability", "arch"),
    [
        ("6.1", ""), ("7.0", "volta"), ("7.2", "volta"), ("7.5", "turing"), ("8.0", "ampere"),
        ("8.6", "ampere"), ("8.7", "ampere"), ("8.9", "ada"), ("9.0", "hopper"),
        ("10.0", "blackwell"), ("10.3", "blackwell"), ("11.0", "blackwell"), ("12.0", "blackwell"),
        ("12.1", "blackwell"), ("13.0", ""), ("20.0", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_capability_has_the_name_of_its_architecture(capability: str, arch: str) -> None:
    assert arch == Card("x", capability).arch


def test_the_names_that_a_profile_may_use_are_those_of_the_table() -> None:
    (arch,) = (one for one in fields(WhenSection) if one.name == "arch")

    assert arch.metadata["choices"] == tuple(name for _, name in rules._ARCHES if name)


@pytest.mark.parametrize(
    ("comparison", "version", "expected"),
    [
        (">=570", "570.86.15", True), (">=570", "569.99", False), (">=570", "1000.1", True),
        (">570", "570.86", False), (">570", "571.0", True), ("<=570", "570.86", True),
        ("<570", "570.0", False), ("570", "570.86.15", True), ("570.86", "570.86.15", True),
        ("570.87", "570.86.15", False), ("==12.8", "12.8", True), ("!=12.8", "12.8", False),
        (">=12.8", "12.10", True), (">=12.8", "12.4", False), (">= 12.8", "13", True),
        ("8.6", "8.6", True), ("8.6", "8.9", False), ("10", "10.3", True), ("9", "9.0", True),
        (">=8,<9", "8.9", True), (">=8,<9", "9.0", False), (">=8, <9", "8.0", True),
        (">=9.0.0", "9", True), (">=1", "", False), ("nonsense", "1", False),
    ],
)  # fmt: skip
def test_a_comparison_holds_or_not(comparison: str, version: str, expected: bool) -> None:
    assert expected is rules.holds(comparison, version)


@pytest.mark.parametrize(
    ("when", "cards", "expected"),
    [
        ({"arch": ("blackwell",)}, pod(RTX5090), (True, False)),
        ({"arch": ("blackwell",)}, pod(B200, RTX5090), (True, False)),
        ({"arch": ("blackwell",)}, pod(H100), (False, False)),
        ({"arch": ("blackwell",)}, pod(H100, B200), (False, True)),
        ({"arch": ("hopper", "blackwell")}, pod(H100, B200), (True, False)),
        ({"arch": ("blackwell",)}, pod(), (False, False)),
        ({"arch": ("blackwell",)}, pod(NEWER), (False, False)),
        ({"compute_capability": ">=10"}, pod(NEWER), (True, False)),
        ({"compute_capability": ">=10"}, pod(UNKNOWN), (False, False)),
        ({"compute_capability": "<10"}, pod(UNKNOWN), (False, False)),
        ({"compute_capability": "<10"}, pod(), (False, False)),
        ({"compute_capability": ">=8", "arch": ("ampere",)}, pod(A40), (True, False)),
        ({"compute_capability": ">=9", "arch": ("ampere",)}, pod(A40), (False, False)),
        ({"driver": ">=570"}, pod(H100), (True, False)),
        ({"driver": ">=580"}, pod(H100), (False, False)),
        ({"driver": ">=570"}, pod(), (False, False)),
        ({"cuda": ">=12.8"}, pod(H100, cuda="12.4"), (False, False)),
        ({"arch": ("hopper",), "driver": ">=580"}, pod(H100, B200), (False, False)),
        ({"gpu_name": ("*5090*",)}, pod(RTX5090), (True, False)),
        ({"gpu_name": ("*geforce rtx 50[89]0",)}, pod(RTX5090), (True, False)),
        ({"gpu_name": ("5090",)}, pod(RTX5090), (False, False)),
        ({"gpu_count": ">=2"}, pod(H100), (False, False)),
        ({"gpu_count": ">=2"}, pod(H100, T4), (True, False)),
        ({"gpu_count": "0"}, pod(), (True, False)),
        ({"gpu_count": "0"}, pod(H100), (False, False)),
        ({"gpu_count": "0", "arch": ("hopper",)}, pod(), (False, False)),
        ({}, pod(), (True, False)),
        ({}, pod(H100, T4), (True, False)),
    ],
)
def test_a_rule_fits_all_cards_or_none_counts(
    when: dict[str, object], cards: Cards, expected: tuple[bool, bool]
) -> None:
    assert expected == rules.fits(WhenSection(**when), cards)


BLACKWELL, HOPPER = "requirements_blackwell.txt", "requirements-hopper.txt"
CPU, GPU, CUDA = "requirements_cpu.txt", "requirements_gpu.txt", "requirements-cuda.txt"
PLAIN = "requirements.txt"


@pytest.mark.parametrize(
    ("names", "cards", "expected"),
    [
        ([PLAIN], pod(), ((PLAIN,), "", ())),
        ([PLAIN, BLACKWELL], pod(RTX5090), ((BLACKWELL,), "blackwell", ())),
        ([PLAIN, BLACKWELL], pod(B200, RTX5090), ((BLACKWELL,), "blackwell", ())),
        ([PLAIN, BLACKWELL], pod(H100), ((PLAIN,), "", ())),
        ([PLAIN, BLACKWELL], pod(), ((PLAIN,), "", ())),
        ([PLAIN, BLACKWELL], pod(NEWER), ((PLAIN,), "", ())),
        ([PLAIN, BLACKWELL, HOPPER], pod(H100), ((HOPPER,), "hopper", ())),
        ([PLAIN, BLACKWELL, HOPPER], pod(H100, B200), ((PLAIN,), "", (HOPPER, BLACKWELL))),
        ([PLAIN, BLACKWELL, GPU], pod(H100, B200), ((GPU,), "gpu", (BLACKWELL,))),
        ([PLAIN, BLACKWELL], pod(H100, T4), ((PLAIN,), "", ())),
        ([PLAIN, GPU, BLACKWELL], pod(B200), ((BLACKWELL,), "blackwell", ())),
        ([PLAIN, GPU, CPU], pod(T4), ((GPU,), "gpu", ())),
        ([PLAIN, GPU, CPU], pod(UNKNOWN), ((GPU,), "gpu", ())),
        ([PLAIN, GPU, CPU], pod(), ((CPU,), "cpu", ())),
        ([PLAIN, CUDA], pod(T4), ((CUDA,), "cuda", ())),
        ([PLAIN, CUDA, GPU], pod(T4), ((CUDA, GPU), "cuda", ())),
        ([BLACKWELL], pod(), ((), "", ())),
        ([PLAIN, "requirements-dev.txt"], pod(T4), ((PLAIN,), "", ())),
        (["requirements-dev.txt", "notes.txt"], pod(T4), ((), "", ())),
        (
            [BLACKWELL, "requirements-blackwell.txt"],
            pod(B200),
            (("requirements-blackwell.txt", BLACKWELL), "blackwell", ()),
        ),
    ],
)
def test_a_file_is_found_by_its_name(
    names: list[str], cards: Cards, expected: tuple[tuple[str, ...], str, tuple[str, ...]]
) -> None:
    assert expected == rules.by_name(names, cards)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([PLAIN], False),
        ([PLAIN, "requirements-dev.txt"], False),
        ([BLACKWELL], True),
        ([CPU], True),
    ],
)
def test_cards_are_asked_for_only_where_it_depends_on_them(
    names: list[str], expected: bool
) -> None:
    assert expected is rules.asks_for_cards(names)


USUAL = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.mark.parametrize(
    ("arches", "capability", "expected"),
    [
        (USUAL, "9.0", True), (USUAL, "12.0", False), (USUAL, "10.0", False), (USUAL, "8.9", True),
        (["sm_86"], "8.0", False), (["sm_80"], "8.6", True), (["sm_90a"], "9.0", True),
        (["sm_100a"], "10.3", False), (["sm_100f"], "10.3", True), (["sm_100"], "12.0", False),
        ([*USUAL, "compute_90"], "12.0", True), (["compute_120"], "10.0", False),
        (["sm_120"], "12.1", True), ([], "9.0", False), (["gfx942"], "9.0", False),
    ],
)  # fmt: skip
def test_code_runs_on_a_card_or_not(arches: list[str], capability: str, expected: bool) -> None:
    assert expected is rules.runs(arches, capability)


def test_cards_are_told_in_a_few_words() -> None:
    assert "no GPU" == str(pod())
    assert "2 GPUs, hopper" == str(pod(H100, H100))
    assert "3 GPUs, hopper and 14.2 and NVIDIA Strange" == str(pod(H100, NEWER, UNKNOWN))


@pytest.mark.parametrize(
    ("text", "is_loose"),
    [
        ("a==1.0", False), ("a == 1.0", False), ("a[x]==1.0 ; python_version > '3'", False),
        ("a===1.0", False), ("a==1.0 --hash=sha256:00", False), ("a", True), ("a>=1.0", True),
        ("a==1.*", True), ("a==1.0,!=1.0.1", True), ("a~=1.0", True), ("a!=1.0", True),
        ("a @ https://x/a.whl", True), ("a @ https://x/a.whl#sha256=00", False),
        ("git+https://x/a@main", True), ("git+https://x/a@" + "0" * 40, False),
        ("-e /volume/a", True), ("/volume/a.whl", True), ("--pre", False),
    ],
)  # fmt: skip
def test_a_line_leaves_a_version_open_or_not(text: str, is_loose: bool) -> None:
    assert is_loose is bool(lines.loose([Line(text, "requirements.txt", 1)]))


def test_a_constraint_pins_what_a_file_leaves_open() -> None:
    asked = Line("Some.Thing", "r.txt", 1)
    pin = Line("some-thing==1", "c.txt", 1, constraint=True)

    assert () == lines.loose([asked, pin])
    assert (asked,) == lines.loose([asked, Line("some-thing>1", "c.txt", 1, constraint=True)])
