from __future__ import annotations

import os
from pathlib import Path

import pytest

from workspace_agent.host.mounts import in_container, kind, parse_mountinfo, read_mounts

LINES = """\
22 1 0:21 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l,upperdir=/u
23 22 0:5 / /dev rw,nosuid shared:2 shared:3 - tmpfs tmpfs rw,size=64k
24 22 8:1 /vol /workspace rw,relatime - ext4 /dev/sda1 ro,errors=continue
25 22 0:44 / /data ro,relatime - nfs4 server:/export rw,vers=4.2
26 22 0:45 / /with\\040space\\011and\\012more\\134here rw - fuse.x a\\040b rw
27 24 0:46 / /workspace/inner rw - tmpfs none rw
28 24 0:47 / /workspace/inner rw - xfs /dev/sdb rw
"""

OTHER_NAMESPACE = "pid:[4026532123]"
FIRST_NAMESPACE = "pid:[4026531836]"

LAYERED = {"/": ("overlay", "overlay", False)}
PLAIN = {"/": ("ext4", "/dev/sda1", False)}


def test_every_mount_has_its_type_source_and_right_to_write() -> None:
    expected = {
        "/": ("overlay", "overlay", False),
        "/dev": ("tmpfs", "tmpfs", False),
        "/workspace": ("ext4", "/dev/sda1", True),
        "/data": ("nfs4", "server:/export", True),
        "/with space\tand\nmore\\here": ("fuse.x", "a b", False),
        "/workspace/inner": ("xfs", "/dev/sdb", False),
    }

    assert expected == parse_mountinfo(LINES)


@pytest.mark.parametrize(
    "field, path",
    [
        (r"/a\040b", "/a b"),
        (r"/a\134040b", r"/a\040b"),
        (r"/\134", "/\\"),
        (r"/a\134134", r"/a\134"),
        (r"/\012\011\040\134", "/\n\t \\"),
        (r"/plain", "/plain"),
        ("/caf\udce9", "/caf\udce9"),
    ],
)
def test_an_escaped_name_is_the_name(field: str, path: str) -> None:
    assert [path] == list(parse_mountinfo(f"1 0 8:1 / {field} rw - ext4 /dev/x rw\n"))


@pytest.mark.parametrize("char", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_name_that_only_python_takes_for_two_lines_is_one(char: str) -> None:
    found = parse_mountinfo(f"1 0 8:1 / /a{char}b rw - ext4 /dev/x rw\n")

    assert [f"/a{char}b"] == list(found)


def test_a_source_with_a_hash_is_read() -> None:
    found = parse_mountinfo("1 0 8:1 / /x rw - fuse.y a\\043b rw\n")

    assert {"/x": ("fuse.y", "a#b", False)} == found


@pytest.mark.parametrize(
    "line", ["", "garbage", "1 2 3 4 /x rw", "1 2 3 4 /x - ext4 y rw", "1 2 3 4 /x rw - ext4"]
)
def test_a_line_that_does_not_parse_is_left_out(line: str) -> None:
    assert ["/"] == list(parse_mountinfo(f"{line}\n{LINES.splitlines()[0]}\n{line}\n"))


def test_an_option_that_only_contains_ro_is_not_read_only() -> None:
    found = parse_mountinfo("1 0 8:1 / /x rw,errors=remount-ro,prop=ro - ext4 y rw,zero\n")

    assert {"/x": ("ext4", "y", False)} == found


def test_the_mounts_of_this_machine_have_a_root() -> None:
    assert "/" in read_mounts()


@pytest.fixture
def machine(tmp_path: Path):
    def machine(namespace: str = FIRST_NAMESPACE, *marks: str) -> str:
        (tmp_path / "proc/self/ns").mkdir(parents=True)
        if namespace:
            os.symlink(namespace, tmp_path / "proc/self/ns/pid")
        for mark in marks:
            (tmp_path / mark).parent.mkdir(exist_ok=True)
            (tmp_path / mark).touch()
        return f"{tmp_path}/"

    return machine


SIGNS = [
    # a runtime's mark, a layered root, a PID namespace of its own: two of three
    (False, False, False, False),
    (True, False, False, False),
    (False, True, False, False),
    (False, False, True, False),
    (True, True, False, True),
    (True, False, True, True),
    (False, True, True, True),
    (True, True, True, True),
]


@pytest.mark.parametrize("mark, layered, namespace, expected", SIGNS)
def test_two_of_three_signs_make_a_container(
    machine, mark: bool, layered: bool, namespace: bool, expected: bool
) -> None:
    root = machine(OTHER_NAMESPACE if namespace else FIRST_NAMESPACE)
    environ = {"container": "podman"} if mark else {}

    assert expected == in_container(environ, LAYERED if layered else PLAIN, root)


@pytest.mark.parametrize(
    "environ, marks",
    [
        ({"container": "podman"}, ()),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ()),
        ({}, (".dockerenv",)),
        ({}, ("run/.containerenv",)),
    ],
)
def test_each_runtime_leaves_a_mark(machine, environ: dict[str, str], marks) -> None:
    assert in_container(environ, LAYERED, machine(FIRST_NAMESPACE, *marks))


def test_two_marks_are_still_one_sign(machine) -> None:
    environ = {"container": "lxc", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}

    assert not in_container(environ, PLAIN, machine(FIRST_NAMESPACE, ".dockerenv"))


def test_an_empty_variable_is_no_mark(machine) -> None:
    assert not in_container({"container": ""}, LAYERED, machine(FIRST_NAMESPACE))


@pytest.mark.parametrize("kind", ["overlay", "fuse-overlayfs", "aufs", "virtiofs"])
def test_a_layered_root_is_a_sign(machine, kind: str) -> None:
    assert in_container({}, {"/": (kind, "x", False)}, machine(OTHER_NAMESPACE))


def test_without_proc_the_namespace_says_nothing(machine) -> None:
    root = machine("")

    assert not in_container({}, LAYERED, root)
    assert not in_container({}, {}, root)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/opt/x", ""), ("/data", "nfs4"), ("/data/a", "nfs4"), ("/data/fast/a", "tmpfs"),
     ("/database", ""), ("/", "")],
)  # fmt: skip
def test_the_deepest_mount_says_the_kind_and_the_root_is_the_containers(
    path: str, expected: str
) -> None:
    table = {"/": ("overlay", "x", False), "/data": ("nfs4", "x", False),
             "/data/fast": ("tmpfs", "x", False)}  # fmt: skip

    assert expected == kind(path, table)
