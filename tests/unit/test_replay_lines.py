"""Requirement files as people write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workspace_agent.model.problem import AgentError
from workspace_agent.replay import lines
from workspace_agent.replay.asked import Asked

DATA = Path(__file__).parents[1] / "data/requirements"


def read(folder: Path, text: str | bytes, name: str = "requirements.txt", **more: object) -> list:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(lines.read([str(path)], **more))


def texts(folder: Path, text: str | bytes, name: str = "requirements.txt", **more: object) -> list:
    """Return the lines, with FOLDER for the folder that they are in."""
    return [one.text.replace(str(folder), "FOLDER") for one in read(folder, text, name, **more)]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a==1\n\n# a comment\n  b  # why\n", ["a==1", "b"]),
        ("a==1#not-a-comment\n", ["a==1#not-a-comment"]),
        ("\ufeffa==1\r\nb\r\n", ["a==1", "b"]),
        ("a \\\n  ==1\nb", ["a ==1", "b"]),
        ("a \\\n# between\n--hash=x\n", ["a", "--hash=x"]),
        ("# no \\\na\n", ["a"]),
        ("a==1 \\", ["a==1"]),
        ("a --hash=sha256:00 \\\n  --hash=sha256:11", ["a --hash=sha256:00 --hash=sha256:11"]),
        ("--no-cache-dir\n-U\n--user\na\n", ["a"]),
        ("--index-url https://h/x\n--pre\n", ["--index-url https://h/x", "--pre"]),
        ("--find-links=wheels\n", ["--find-links FOLDER/wheels"]),
        ("-f ./wheels\n-f https://h/w\n-f /w\n", ["-f FOLDER/wheels", "-f https://h/w", "-f /w"]),
        ("-e .\n--editable=../x\n", ["-e FOLDER", "--editable FOLDER/../x"]),
        ("-e git+https://h/x#egg=y\n", ["-e git+https://h/x#egg=y"]),
        (".\n./p[x]\n../q\n", ["FOLDER", "FOLDER/p[x]", "FOLDER/../q"]),
        ("a-1-py3-none-any.whl --hash=x\n", ["FOLDER/a-1-py3-none-any.whl --hash=x"]),
        ("w/a.tar.gz\n", ["FOLDER/w/a.tar.gz"]),
        ("sub/project[x]\n/abs/p\n", ["FOLDER/sub/project[x]", "/abs/p"]),
        ("${DIR}/a.whl\n", ["${DIR}/a.whl"]),
        ("https://h/a.whl ; python_version > '3'\n", ["https://h/a.whl ; python_version > '3'"]),
        ("a @ https://u:${P}@h/a.zip\n", ["a @ https://u:${P}@h/a.zip"]),
        ("${NAME}==1\n", ["${NAME}==1"]),
        ("-r https://h/more.txt\n", ["-r https://h/more.txt"]),
        ("", []),
    ],
)  # fmt: skip
def test_a_line_is_what_a_person_means(tmp_path: Path, written: str, expected: list[str]) -> None:
    above = str(tmp_path.parent)
    assert [one.replace("FOLDER/..", above) for one in expected] == texts(tmp_path, written)


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
def test_a_file_from_a_shell_of_windows_is_read(tmp_path: Path, name: str) -> None:
    # With its mark, as such shells write it.
    assert ["a==1", "b"] == texts(tmp_path, "\ufeffa==1\r\nb\r\n".encode(name))


@pytest.mark.parametrize(
    ("line", "name", "is_exact"),
    [
        ("A_b.C[x,y] >= 1", "a-b-c", False),
        ("a;python_version>'3'", "a", False),
        ("a(>=1)", "a", False),
        ("a @ https://h/x.whl", "a", True),
        ("a==1 --hash=sha256:00", "a", True),
        ("git+https://h/x@v1#egg=Some_Thing", "some-thing", True),
        ("-e git+https://h/x#subdirectory=s&egg=e", "e", True),
        ("https://h/x.whl", "", True),
        ("/x/a.whl", "", True),
        ("--index-url https://h", "", True),
        ("two words", "", False),
    ],
)
def test_the_name_of_a_line(line: str, name: str, is_exact: bool) -> None:
    found = lines.Line(line, "requirements.txt")
    assert (name, is_exact) == (found.name, found.is_exact)


def test_nested_files_are_read_where_they_stand_and_once(tmp_path: Path) -> None:
    below = tmp_path / "sub"
    below.mkdir()
    (below / "b.txt").write_text("b\n./here\n-r ../requirements.txt\n-c c.txt\n")
    (below / "c.txt").write_text("c<2\n-r d.txt\n")
    (below / "d.txt").write_text("d<3\n")
    found = read(tmp_path, "a\n-r sub/b.txt\n--requirement=sub/b.txt\n-rsub/d.txt\ne\n")

    assert ["a", "b", f"{below}/here", "c<2", "d<3", "d<3", "e"] == [one.text for one in found]
    assert ["c<2", "d<3"] == [one.text for one in found if one.constraint]
    assert ["requirements.txt:1", "b.txt:1", "b.txt:2"] == [one.place for one in found[:3]]


def test_a_line_that_goes_on_is_where_it_began(tmp_path: Path) -> None:
    found = read(tmp_path, "# x\na==1 \\\n  --hash=x \\\n  --hash=y\nb\n")
    assert [2, 5] == [one.number for one in found]


PROJECT = """
[project]
dependencies = ["a>1"]
optional-dependencies = {Dev_Tools = ["b"], gpu = ["c"]}
[dependency-groups]
test = ["d", {include-group = "Lint"}]
lint = ["e"]
round = [{include-group = "round"}]
"""


@pytest.mark.parametrize(
    ("extras", "groups", "expected"),
    [
        ((), (), ["a>1"]),
        (("dev-tools",), (), ["a>1", "b"]),
        (("gpu", "nobody"), ("TEST",), ["a>1", "c", "d", "e"]),
    ],
)
def test_a_project_names_packages(
    tmp_path: Path, extras: tuple[str, ...], groups: tuple[str, ...], expected: list[str]
) -> None:
    assert expected == texts(tmp_path, PROJECT, "pyproject.toml", extras=extras, groups=groups)


def test_a_script_names_packages_in_its_head(tmp_path: Path) -> None:
    text = "#!/x\r\n# /// script\r\n# dependencies = [\r\n#   'a',\r\n# ]\r\n# ///\r\nimport b\r\n"
    assert ["a"] == texts(tmp_path, text, "run.py")
    assert [] == texts(tmp_path, "import b\n", "other.py")


LOCK = """
[[packages]]
name = "a"
version = "1"
marker = "python_version > '3'"
sdist = {hashes = {sha256 = "22"}}
wheels = [{hashes = {sha256 = "11"}}, {hashes = {sha256 = "11"}}]
[[packages]]
name = "b"
vcs = {type = "git", url = "https://h/b", commit-id = "cafe", subdirectory = "py"}
[[packages]]
name = "c"
archive = {path = "c.tar.gz", hashes = {sha256 = "33"}}
[[packages]]
name = "d"
directory = {path = "./d"}
"""


def test_a_lock_is_exact(tmp_path: Path) -> None:
    assert [
        "a==1 ; python_version > '3' --hash=sha256:11 --hash=sha256:22",
        "b @ git+https://h/b@cafe#subdirectory=py",
        "c @ file://FOLDER/c.tar.gz",
        "d @ file://FOLDER/./d",
    ] == texts(tmp_path, LOCK, "pylock.dev.toml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "-r missing.txt\n"),
        ("requirements.txt", "-r a\0b\n"),
        ("requirements.txt", b"\xff\xfea"),
        ("pyproject.toml", "[project]\ndependencies = 3\n"),
        ("pyproject.toml", "[project]\ndependencies = [3]\n"),
        ("pyproject.toml", "[project]\noptional-dependencies = [1]\n"),
        ("pyproject.toml", "dependency-groups = [1]\n"),
        ("pyproject.toml", "[dependency-groups]\nx = 3\n"),
        ("pyproject.toml", "[dependency-groups]\nx = [{include-group = [1]}]\n"),
        ("pyproject.toml", "[dependency-groups]\nx = [{other = 'x'}]\n"),
        ("pyproject.toml", PROJECT.replace("test =", "y =").replace("round", "x")),
        ("pyproject.toml", "not = toml = at all"),
        ("pyproject.toml", "x = " + "[" * 9999),
        ("pylock.toml", "packages = 3\n"),
        ("pylock.toml", "[[packages]]\nname = 'a'\n"),
        ("pylock.toml", "[[packages]]\nname = 'a'\nvcs = 'x'\n"),
        ("pylock.toml", "[[packages]]\nname = 'a'\nvcs = {url = 'x'}\n"),
        ("pylock.toml", "[[packages]]\nname = 'a'\nversion = '1'\nwheels = 3\n"),
        ("run.py", "# /// script\n# dependencies = 3\n# ///\n"),
    ],
)
def test_a_file_that_is_not_one_is_named_and_breaks_nothing(
    tmp_path: Path, name: str, text: str | bytes
) -> None:
    with pytest.raises(AgentError) as caught:
        read(tmp_path, text, name, extras=("x",), groups=("x",))
    assert "replay.unreadable" == caught.value.problem.slug


@pytest.mark.parametrize("kind", ["folder", "fifo", "large", "chain"])
def test_what_is_no_small_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        with path.open("wb") as handle:
            handle.truncate(9 << 20)
    else:
        for n in range(400):
            (tmp_path / f"{n}.txt").write_text(f"-r {n + 1}.txt\n")
        path.write_text("-r 0.txt\n")
    with pytest.raises(AgentError) as caught:
        lines.read([str(path)])
    assert "replay.unreadable" == caught.value.problem.slug


@pytest.mark.parametrize("name", sorted(one.name for one in DATA.glob("*.txt")))
def test_a_real_file_is_read_as_pip_reads_it(name: str) -> None:
    network = pytest.importorskip("pip._internal.network.session")
    from pip._internal.req.req_file import parse_requirements

    theirs = list(parse_requirements(str(DATA / name), session=network.PipSession()))
    ours = [one for one in lines.read([str(DATA / name)]) if not one.is_option]
    folder = str(DATA)

    def said(text: str) -> str:
        return "".join(text.partition(" --hash")[0].split())

    assert [said(one.requirement.replace("./", "")) for one in theirs if not one.is_editable] == [
        said(one.text) for one in ours if not one.text.startswith("-e")
    ]
    assert [one.requirement for one in theirs if one.is_editable] == [
        one.text[3:].replace(folder, ".") for one in ours if one.text.startswith("-e")
    ]
    assert [one.constraint for one in theirs] == [one.constraint for one in ours]
    hashes = [sorted((one.options or {}).get("hashes", {}).get("sha256", [])) for one in theirs]
    assert hashes == [sorted(w[14:] for w in o.text.split() if "--hash" in w) for o in ours]


def test_beside_hashes_nothing_comes_back_that_was_installed_by_hand(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"six==1.0 --hash=sha256:{'0' * 64}\n")
    (tmp_path / "captured.lock").write_text("rich==1.0\n")
    paths = (str(tmp_path / name) for name in ("requirements.txt", "captured.lock"))

    found = Asked(tuple(paths)).lines()
    assert ["six"] == [line.name for line in found]
