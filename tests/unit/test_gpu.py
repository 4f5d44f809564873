"""Whoever tells of the cards is asked in turn; one that hangs, crashes or lies holds up nobody.

The driver's library is a fake, compiled here: no test needs a GPU, and none has seen one.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.replay import gpu
from workspace_agent.replay.rules import Card, Cards

SOURCE = r"""
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int is(const char *what) {
    const char *fake = getenv("FAKE_NVML");
    return fake && !strcmp(fake, what);
}
int nvmlInit_v2(void) {
    if (is("hangs")) for (;;) pause();
    if (is("crashes")) abort();
    if (is("talks")) write(1, "noise", 5);
    return is("refuses") ? 9 : 0;
}
int nvmlDeviceGetCount_v2(unsigned *count) { *count = is("empty") ? 0 : 2; return 0; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12080; return is("old") ? 13 : 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    strncpy(text, "570.86.15", size);
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **card) {
    *card = (void *)(0x7f0000000000 + index);  /* a pointer, and not an int */
    return 0;
}
int nvmlDeviceGetName(void *card, char *text, unsigned size) {
    strncpy(text, card == (void *)0x7f0000000001 ? "NVIDIA B200" : "NVIDIA H100", size);
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *card, int *major, int *minor) {
    *major = card == (void *)0x7f0000000001 ? 10 : 9;
    *minor = 0;
    return 0;
}
"""

TWO = (Card("NVIDIA H100", "9.0"), Card("NVIDIA B200", "10.0"))

INFORMATION = "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 55\nDevice Minor: \t {}\n"

VERSIONS = {
    "550.54.15": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\n",
    "570.86.10": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release\n",
}

Find = Callable[..., Cards]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc: apt-get install gcc")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(SOURCE)
    built = folder / gpu.LIBRARY
    argv = ["gcc", "-shared", "-fPIC", "-w", "-o", str(built), str(folder / "nvml.c")]
    subprocess.run(argv, check=True)
    return str(built)


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Return `find(**where)`: on a machine that has what the test puts into `tmp_path`."""

    def ask(library: str = "libnowhere.so.1", **environ: str) -> Cards:
        given = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "LOG": str(tmp_path / "log"), **environ}
        return gpu.find(
            given, library=library, proc=str(tmp_path / "proc"), dev=str(tmp_path / "dev")
        )

    return ask


@pytest.fixture
def tool(tmp_path: Path) -> Callable[[str], None]:
    """Put a nvidia-smi that does this onto the PATH."""

    def put(text: str) -> None:
        path = tmp_path / "bin/nvidia-smi"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$@" >> "$LOG"\n{text}\n')
        path.chmod(0o755)

    return put


@pytest.fixture
def proc(tmp_path: Path) -> Callable[..., None]:
    """Let the kernel's module show cards with these numbers, *ours* those that we may open."""

    def put(*minors: int, ours: tuple[int, ...] = (), driver: str = "550.54.15") -> None:
        at = tmp_path / "proc/driver/nvidia"
        (at / "gpus").mkdir(parents=True)
        (at / "version").write_text(VERSIONS[driver])
        (tmp_path / "dev").mkdir()
        for minor in minors:
            (at / f"gpus/0000:0{minor}:00.0").mkdir()
            (at / f"gpus/0000:0{minor}:00.0/information").write_text(INFORMATION.format(minor))
        for minor in ours:
            (tmp_path / f"dev/nvidia{minor}").touch()

    return put


def test_without_a_driver_there_is_no_card(find: Find) -> None:
    assert Cards() == find()


def test_the_library_tells_all(find: Find, library: str) -> None:
    assert Cards(TWO, "570.86.15", "12.8", "nvml") == find(library)


def test_a_driver_without_a_card_is_an_answer(
    find: Find, library: str, monkeypatch: pytest.MonkeyPatch, tool: Callable[[str], None]
) -> None:
    monkeypatch.setenv("FAKE_NVML", "empty")
    tool("echo 'NVIDIA H100, 550.54.15, 9.0'")

    assert Cards((), "570.86.15", "12.8", "nvml") == find(library)


def test_a_library_that_does_not_know_cuda_leaves_it_to_the_table(
    find: Find, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_NVML", "old")

    assert Cards(TWO, "570.86.15", "12.8", "nvml") == find(library)


def test_what_the_library_prints_is_not_seen(
    find: Find, library: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_NVML", "talks")

    assert TWO == find(library).cards
    assert ("", "") == capfd.readouterr()


@pytest.mark.parametrize("fault", ["hangs", "crashes", "refuses"])
def test_a_library_that_fails_leaves_it_to_the_tool(
    fault: str, find: Find, library: str, monkeypatch: pytest.MonkeyPatch,
    tool: Callable[[str], None],
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE_NVML", fault)
    monkeypatch.setattr(gpu, "_NVML", 0.2)
    tool("echo 'NVIDIA H100 80GB HBM3, 550.54.15, 9.0'")

    expected = Cards((Card("NVIDIA H100 80GB HBM3", "9.0"),), "550.54.15", "12.4", "nvidia-smi")
    assert expected == find(library)


def test_an_older_tool_is_asked_again_without_the_capability(
    find: Find, tool: Callable[[str], None], tmp_path: Path
) -> None:
    tool('case "$1" in *compute_cap*) exit 2;; esac; echo "Tesla V100-SXM2-16GB, 470.57.02"')

    expected = Cards((Card("Tesla V100-SXM2-16GB", "7.0"),), "470.57.02", "11.4", "nvidia-smi")
    assert expected == find()
    assert 2 == len((tmp_path / "log").read_text().splitlines())


@pytest.mark.parametrize("text", ["exec sleep 1000", "trap '' TERM; sleep 1000", "exit 9"])
def test_a_tool_that_fails_or_hangs_leaves_it_to_the_kernel(
    text: str, find: Find, tool: Callable[[str], None], proc: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(gpu, "_SMI", 0.2)
    tool(f'echo $$ >> "$LOG.pid"\n{text}')
    proc(0, 1, ours=(0, 1))

    card = Card("NVIDIA GeForce RTX 4090", "8.9")
    assert Cards((card, card), "550.54.15", "12.4", "proc") == find()
    pids = (tmp_path / "log.pid").read_text().split()
    assert [] == [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_cards_of_the_machine_that_are_not_ours_do_not_count(
    find: Find, proc: Callable[..., None]
) -> None:
    proc(0, 1, 2, ours=(1,), driver="570.86.10")

    card = Card("NVIDIA GeForce RTX 4090", "8.9")
    assert Cards((card,), "570.86.10", "12.8", "proc") == find()


def test_a_pod_without_gpu_on_a_machine_with_some_has_none(
    find: Find, proc: Callable[..., None]
) -> None:
    proc(0, 1)

    assert () == find().cards


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("none", Cards(source="told")),
        ("12.0", Cards((Card("", "12.0"),), source="told")),
        (
            "9.0,9.0 driver=570.86",
            Cards((Card("", "9.0"), Card("", "9.0")), "570.86", "12.8", "told"),
        ),
        ("9.0 driver=570.86 cuda=13.0", Cards((Card("", "9.0"),), "570.86", "13.0", "told")),
        (" ", Cards(source="told")),
        ("nonsense more", Cards(source="told")),
    ],
)
def test_what_a_person_says_is_not_asked_for(
    told: str, expected: Cards, find: Find, library: str
) -> None:
    assert expected == find(library, WORKSPACE_AGENT_GPU=told)


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA A100-SXM4-80GB", "8.0"), ("NVIDIA A10", "8.6"), ("NVIDIA A10G", "8.6"),
        ("NVIDIA L4", "8.9"), ("NVIDIA L40S", "8.9"), ("NVIDIA RTX 6000 Ada Generation", "8.9"),
        ("NVIDIA RTX A6000", "8.6"), ("Quadro RTX 6000", "7.5"), ("Tesla T4", "7.5"),
        ("NVIDIA H100 PCIe", "9.0"), ("NVIDIA H200", "9.0"), ("NVIDIA GH200 480GB", "9.0"),
        ("NVIDIA GB200", "10.0"), ("NVIDIA B300 SXM6", "10.3"), ("NVIDIA GB10", "12.1"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "12.0"),
        ("NVIDIA GeForce RTX 5090", "12.0"), ("NVIDIA X1", ""),
    ],
)  # fmt: skip
def test_a_name_tells_the_capability_where_nothing_else_does(name: str, capability: str) -> None:
    assert capability == gpu._guessed(name)


@pytest.mark.parametrize(
    ("driver", "cuda"),
    [("", ""), ("390.1", ""), ("535.104", "12.2"), ("540.1", "12.2"), ("999.1", "13.0")],
)
def test_a_driver_tells_the_newest_cuda_where_nothing_else_does(driver: str, cuda: str) -> None:
    assert cuda == gpu._newest(driver)


def test_a_boot_asks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def find(environ: dict[str, str]) -> Cards:
        asked.append(environ)
        return Cards(TWO, "570.86.15", "12.8", "nvml")

    monkeypatch.setattr(gpu, "find", find)
    first = gpu.known(str(tmp_path), {})

    assert first == gpu.known(str(tmp_path), {}) == Cards(TWO, "570.86.15", "12.8", "nvml")
    assert [{}] == asked


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"cards": 1, "driver": ""}', "null"])
def test_a_damaged_answer_is_asked_for_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cards.json").write_text(damage)
    monkeypatch.setattr(gpu, "find", lambda _: Cards(TWO, "570.86.15", "12.8", "nvml"))

    assert TWO == gpu.known(str(tmp_path), {}).cards
