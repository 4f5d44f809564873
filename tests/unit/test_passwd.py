from __future__ import annotations

from pathlib import Path

import pytest

from workspace_agent.host import passwd

TEXT = (
    "root:x:0:0:root:/root:/bin/bash\n"
    "# a comment: with: six: colons: in: it: all\n"
    "broken:line\n"
    "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "ana:x:1000:1000:Ana,,,:/home/ana:/bin/sh\n"
    "twin:x:1000:1000::/home/twin:/bin/sh\n"
    "+::::::\n"
)


@pytest.mark.parametrize(
    "uid, expected",
    [
        (0, ("root", "/root")),
        (1000, ("ana", "/home/ana")),
        (1, ("daemon", "/usr/sbin")),
        (100, ("", "")),
        (-1, ("", "")),
    ],
)
def test_the_first_line_of_a_uid_counts(uid: int, expected: tuple[str, str]) -> None:
    assert expected == passwd.entry(TEXT, uid)


@pytest.mark.parametrize("text", ["", "\n", "root", "root:x:0:0:root:/root\n", "a:b:c:d:e:f:g:0"])
def test_a_file_without_a_whole_line_has_no_entry(text: str) -> None:
    assert ("", "") == passwd.entry(text, 0)


def test_only_the_home_of_the_user_changes() -> None:
    expected = TEXT.replace(":/root:/bin/bash", ":/workspace/home:/bin/bash")

    assert expected == passwd.with_home(TEXT, "root", "/workspace/home")


def test_only_the_first_line_of_a_name_changes() -> None:
    line = "root:x:0:0::/root:/bin/sh\n"

    assert line.replace("/root", "/new") + line == passwd.with_home(line * 2, "root", "/new")


@pytest.mark.parametrize("user", ["nobody", "", "broken", "roo", "+ "])
def test_an_unknown_user_changes_nothing(user: str) -> None:
    assert TEXT == passwd.with_home(TEXT, user, "/new")


@pytest.mark.parametrize("text", ["root:x:0:0::/root:/bin/sh", "\n\nroot:x:0:0::/root:/bin/sh\r\n"])
def test_everything_else_stays_to_the_byte(text: str) -> None:
    assert text.replace("/root", "/new") == passwd.with_home(text, "root", "/new")


def test_a_moved_home_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_bytes(TEXT.encode() + b"caf\xe9:x:7:7:\xff:/:/bin/sh\n")
    before = path.read_bytes()

    assert passwd.move_home(str(path), "ana", "/workspace/home")
    assert before.replace(b"/home/ana", b"/workspace/home") == path.read_bytes()


def test_moving_twice_is_moving_once(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text(TEXT)
    passwd.move_home(str(path), "ana", "/workspace/home")
    before = path.stat()

    assert passwd.move_home(str(path), "ana", "/workspace/home")
    assert (before.st_ino, before.st_mtime_ns) == (path.stat().st_ino, path.stat().st_mtime_ns)


@pytest.mark.parametrize("home", ["/a:b", "/a\nroot::0:0::/:/bin/sh"])
def test_a_home_that_could_forge_a_line_is_refused(home: str, tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text(TEXT)

    assert not passwd.move_home(str(path), "ana", home)
    assert TEXT == path.read_text()


def test_a_user_without_a_line_is_not_moved(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text(TEXT)

    assert not passwd.move_home(str(path), "nobody", "/workspace/home")
    assert TEXT == path.read_text()


def test_a_home_that_is_another_users_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text(TEXT)

    assert not passwd.move_home(str(path), "nobody", "/home/ana")


@pytest.mark.parametrize("char", ["\x0c", "\x85", "\u2028"])
def test_a_name_that_only_python_takes_for_two_lines_is_one(char: str) -> None:
    text = f"ana:x:7:7:A{char}na:/home/ana:/bin/sh\n"

    assert ("ana", "/home/ana") == passwd.entry(text, 7)


def test_a_machine_without_the_file_has_no_users(tmp_path: Path) -> None:
    assert "" == passwd.read(str(tmp_path / "passwd"))
