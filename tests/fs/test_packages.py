"""Packages that somebody put onto the volume by `pip --target`."""

from __future__ import annotations

from pathlib import Path

import pytest

from workspace_agent.steps import packages

ABI = "cp311-x86_64"


def dist(folder: Path, name: str, *tags: str) -> None:
    (folder / f"{name}-1.dist-info").mkdir(parents=True)
    text = "Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags)
    (folder / f"{name}-1.dist-info/WHEEL").write_text(text)


@pytest.mark.parametrize(
    ("names", "has"),
    [
        ((), False),
        ((ABI, "cp313-aarch64-musl"), False),
        (("torch",), True),
        ((ABI, "six.py"), True),
    ],
)
def test_folders_of_ours_are_no_packages(root: Path, names: tuple[str, ...], has: bool) -> None:
    for name in names:
        (root / name).mkdir()

    assert packages.has_any(str(root)) is has


@pytest.mark.parametrize(
    ("tags", "fits"),
    [
        (("py3-none-any",), True),
        (("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64"), True),
        (("cp37-abi3-manylinux_2_17_x86_64",), True),
        (("cp313-cp313-manylinux_2_17_x86_64",), False),
        (("cp311-cp311-manylinux_2_17_aarch64",), False),
        ((), True),
    ],
)
def test_one_for_another_python_is_named(root: Path, tags: tuple[str, ...], fits: bool) -> None:
    dist(root, "pure", "py3-none-any")
    dist(root, "numpy", *tags)
    problem = packages.mismatch(str(root), ABI)

    assert fits is (problem is None)
    if problem is not None:
        assert ("python.other-abi", "numpy-1.dist-info") == (
            problem.slug, problem.why.split(" ")[0])  # fmt: skip


def test_what_is_not_there_has_nothing_wrong(root: Path) -> None:
    assert (False, None) == (
        packages.has_any(f"{root}/no"),
        packages.mismatch(f"{root}/no", ABI),
    )


@pytest.mark.parametrize(
    ("folder", "above"),
    [(f"/v/pip-packages/{ABI}", "/v/pip-packages"), ("/v/site", ""), (f"/v/x-{ABI}", "")],
)
def test_only_a_folder_named_by_the_key_has_one_without(folder: str, above: str) -> None:
    assert above == packages.parent(folder, ABI)
