"""Privileges by seccomp by masked paths: what doctor foretells is what CRIU does, in every cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.container

LAB = Path(__file__).parent / "checkpoint_lab"

ALL = "CHECKPOINT_RESTORE,SYS_PTRACE,SYS_ADMIN,NET_ADMIN,SYS_TIME"
# Who, and with which capabilities more than the default ones.
PRIVILEGES = {
    "none": ("0", ""),
    "CR": ("0", "CHECKPOINT_RESTORE"),
    "CR+PTRACE": ("0", "CHECKPOINT_RESTORE,SYS_PTRACE"),
    "full": ("0", ALL),
    "1000": ("1000", ""),
    "1000 CR+PTRACE": ("1000", "CHECKPOINT_RESTORE,SYS_PTRACE"),
    "1000 CR+PTRACE+SETPCAP": ("1000", "CHECKPOINT_RESTORE,SYS_PTRACE,SETPCAP"),
}
# Baked in unconfined containers; each user restores those of its own.
BAKED = {"0": ("CR", "full"), "1000": ("1000 CR+PTRACE", "1000 CR+PTRACE+SETPCAP")}
UNCONFINED = "--security-opt=seccomp=unconfined"
SECCOMP = {"unconfined": (UNCONFINED,), "stock": ()}
MASKED = {"masked": (), "unmasked": ("--security-opt=unmask=ALL",)}


@pytest.fixture(scope="module")
def image(placeholder_image):
    return placeholder_image


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    path = tmp_path_factory.mktemp("volume")
    path.chmod(0o777)
    return path


@pytest.fixture(scope="module")
def drive(shared_pod, volume):
    """Run the lab's driver in a container with a privilege of the table."""

    def run(privilege, options, *words):
        user, capabilities = PRIVILEGES[privilege]
        added = (f"--cap-add={capabilities}",) if capabilities else ()
        pod = shared_pod(
            "/lab/pid1.py", volume=volume, user=user,
            options=(*added, *options, "--net=none", f"--volume={LAB}:/lab:ro",
                     "--entrypoint=/usr/bin/python3"),
        )  # fmt: skip
        try:
            return json.loads(pod.text("python3", "/lab/drive.py", *words))
        finally:
            pod.remove()

    return run


@pytest.fixture(scope="module")
def baked(drive):
    """The capabilities of what was baked, by its name."""
    made = {}
    for names in BAKED.values():
        for name in names:
            row = drive(name, (UNCONFINED,), "bake", name)
            assert not row["why"], row
            made[name] = row["had"]
    return made


@pytest.fixture(scope="module")
def table(drive, baked):
    """Ask for a column of cells, once."""
    known = {}

    def column(masked):
        if masked not in known:
            known[masked] = {
                (privilege, seccomp): drive(
                    privilege, (*SECCOMP[seccomp], *MASKED[masked]), "cell",
                    *(str(w) for n in BAKED[PRIVILEGES[privilege][0]] for w in (n, baked[n])),
                )
                for privilege in PRIVILEGES for seccomp in SECCOMP
            }  # fmt: skip
            print(shown(masked, known[masked]))
        return known[masked]

    return column


def shown(masked, cells):
    """Draw the table: what was foretold, and what was."""
    word = {True: "yes", False: "no"}
    lines = [f"\n/proc and /sys {masked}; foretold / real"]
    for (privilege, seccomp), cell in cells.items():
        said = [
            f"{what}: {word[told]} / {word[not why]}" for what, (told, why) in cell["rows"].items()
        ]
        lines.append(f"{privilege:<23} {seccomp:<11} exit {cell['code']}  {';  '.join(said)}")
    return "\n".join(lines)


COLUMNS = ["masked", pytest.param("unmasked", marks=pytest.mark.long)]


@pytest.mark.parametrize("masked", COLUMNS)
def test_doctor_foretells_each_dump_and_each_restore(masked, table):
    wrong = [
        (*where, what, told, why)
        for where, cell in table(masked).items()
        for what, (told, why) in cell["rows"].items()
        if told is bool(why)
    ]

    assert [] == wrong


@pytest.mark.parametrize("masked", COLUMNS)
def test_a_refused_dump_leaves_the_process_as_it_was(masked, table):
    assert [] == [where for where, cell in table(masked).items() if not cell["unhurt"]]


def test_a_container_with_a_filter_restores_what_it_cannot_dump(table):
    cell = table("masked")["CR", "stock"]["rows"]

    assert cell["dump"][1]
    assert not cell["CR"][1]


def test_the_exit_code_says_whether_a_restore_is_possible_here(table):
    codes = {privilege: cell["code"] for (privilege, _), cell in table("masked").items()}

    assert {"none", "1000", "1000 CR+PTRACE"} == {name for name, code in codes.items() if code == 4}
    assert 0 == codes["CR"] == codes["full"] == codes["1000 CR+PTRACE+SETPCAP"]
