"""env.sh and env.fish, as real shells read them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workspace_agent.steps.shell import EnvFiles

# What a login shell starts from, whatever the container says.
LOGIN_PATH = "/usr/local/bin:/usr/bin:/bin"

NOBODY = 65534

HOSTILE = [
    b"", b" ", b"plain", b"it's", b"''", b"'", b'"quoted"', b"$(touch X)", b"`touch X`", b"$HOME",
    b"${V0}", b"a\nb", b"a\n", b"\n", b"\n\n", b"\\", b"trailing\\", b"\\'", b"\\n", b"a=b", b"=",
    b"-n", b"--", b"(", b"!", b"*", b"?", b"[a]", b"~", b"#no", b"!!", b"; touch X", b"&& touch X",
    b"| touch X", b"'; touch X; '", b"\"; touch X; \"", b"caf\xe9", b"\xff\xfe\x80\x01", b"\x1b[2J",
    "日本語".encode(), b"\t", b"\r\n", b"x" * 10_000,
]  # fmt: skip

VALUES = {f"V{at}": value for at, value in enumerate(HOSTILE)}

# A shell that was unpacked beside the system's needs them.
LIBRARIES = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}

Environment = dict[str, bytes]


def recipe(**more: object) -> dict:
    """Return a recipe that asks for nothing but *more*."""
    empty = {"set": {}, "default": {}, "prepend": {}, "home": "", "image_home": "/root",
             "allow": [], "secret": []}  # fmt: skip
    return {**empty, **more}


# Every machine has a POSIX shell, and most bash; the others where they are installed.
SHELLS = ["sh", "bash", *(name for name in ("busybox", "zsh") if shutil.which(name))]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    path = shutil.which(request.param)
    if not path:
        pytest.skip(f"needs {request.param}: apt-get install {request.param}")
    return [path, "sh"] if request.param == "busybox" else [path]


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Return a runtime folder that every user can look into."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def source(shell: list[str], runtime: Path, tmp_path: Path) -> Callable[..., Environment]:
    """Write the files of a recipe, source env.sh, and return what a program then gets."""

    def source(
        wanted: dict,
        base: dict[str, str],
        *,
        shell_has: Environment | None = None,
        line: str = '. "$1"',
        **options: object,
    ) -> Environment:
        EnvFiles(str(runtime), wanted, base).apply(print)
        done = subprocess.run(
            [*shell, "-c", f"{line}; exec /usr/bin/env -0", "sh", f"{runtime}/env.sh"],
            env={"PATH": LOGIN_PATH, **(shell_has or {})},
            cwd=runtime,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=30,
            **options,
        )
        assert b"" == done.stderr
        pairs = (item.partition(b"=") for item in done.stdout.split(b"\0") if item)
        return {os.fsdecode(name): value for name, _, value in pairs}

    return source


def decoded(values: Environment) -> dict[str, str]:
    return {name: os.fsdecode(value) for name, value in values.items()}


def test_every_value_arrives_byte_for_byte_and_none_is_executed(source, runtime: Path) -> None:
    got = source(recipe(set=decoded(VALUES)), {})

    assert VALUES == {name: got.get(name) for name in VALUES}
    assert not (runtime / "X").exists()


def test_every_secret_arrives_byte_for_byte_and_none_is_executed(source, runtime: Path) -> None:
    got = source(recipe(allow=["V*"], secret=["*"]), decoded(VALUES))

    assert VALUES == {name: got.get(name) for name in VALUES}
    assert not (runtime / "X").exists()


def test_a_value_is_compared_with_the_containers_byte_for_byte(source) -> None:
    got = source(recipe(set=dict.fromkeys(VALUES, "ours")), decoded(VALUES), shell_has=VALUES)

    assert dict.fromkeys(VALUES, b"ours") == {name: got.get(name) for name in VALUES}


def test_hostile_folders_and_homes_arrive_byte_for_byte(source, runtime: Path) -> None:
    folders = [value for value in HOSTILE if value and b":" not in value]
    wanted = recipe(prepend={"LIBS": [os.fsdecode(one) for one in folders]})
    got = source(wanted, {})

    assert folders == got["LIBS"].split(b":")
    assert not (runtime / "X").exists()


def test_sourcing_twice_changes_nothing(source, tmp_path: Path) -> None:
    wanted = recipe(
        set=decoded(VALUES), default={"D": "1"}, prepend={"PATH": ["/v/bin", "/v/b in"]},
        home=str(tmp_path), allow=["HF_*"], secret=["*TOKEN*"],
    )  # fmt: skip
    base = {"PATH": "/opt/x:/usr/bin", "HF_TOKEN": "hush", "HOME": "/root"}
    has = {"HOME": b"/root"}
    once = source(wanted, base, shell_has=has)

    assert once == source(wanted, base, shell_has=has, line='. "$1"; . "$1"')


def test_a_careful_shell_can_source_it(source, tmp_path: Path) -> None:
    wanted = recipe(
        set={"A": "1"}, prepend={"PATH": ["/v/bin"], "NEW": ["/v"]}, home=str(tmp_path)
    )  # fmt: skip
    got = source(wanted, {"PATH": "/usr/bin"}, line='set -euf; IFS=/; . "$1"')

    assert (b"1", b"/v/bin:" + LOGIN_PATH.encode(), b"/v") == (got["A"], got["PATH"], got["NEW"])


@pytest.mark.parametrize("value", [b"mine", b"", b"a b", b"'"])
def test_a_value_that_the_user_changed_stays(source, value: bytes) -> None:
    wanted = recipe(set={"A": "ours"}, default={"B": "ours"}, allow=["C"], secret=["B"])
    base = {"A": "image", "C": "image"}
    got = source(wanted, base, shell_has=dict.fromkeys("ABC", value))

    assert dict.fromkeys("ABC", value) == {name: got[name] for name in "ABC"}


def test_a_value_that_only_the_container_gave_is_replaced(source) -> None:
    got = source(recipe(set={"A": "ours"}), {"A": "image"}, shell_has={"A": b"image"})

    assert b"ours" == got["A"]


def test_a_login_shell_gets_the_containers_path_back_in_order(source) -> None:
    base = {"PATH": "/opt/conda/bin:/usr/local/nvidia/bin:/usr/local/bin:/usr/bin:/bin"}
    got = source(recipe(prepend={"PATH": ["/v/bin", "/v/sbin"]}), base)
    expected = b"/v/bin:/v/sbin:/opt/conda/bin:/usr/local/nvidia/bin:" + LOGIN_PATH.encode()

    assert expected == got["PATH"]


def test_a_path_that_the_user_put_in_front_stays_in_front(source) -> None:
    has = {"PATH": b"/mine:/v/bin:/usr/bin"}
    got = source(recipe(prepend={"PATH": ["/v/bin"]}), {"PATH": "/usr/bin"}, shell_has=has)

    assert has["PATH"] == got["PATH"]


def test_an_entry_is_compared_whole_and_not_as_a_pattern(source) -> None:
    has = {"PATH": b"/v/bin2:/v/binx:/usr/bin"}
    wanted = recipe(prepend={"PATH": ["/v/bin", "/v/bin?", "/v/*"]})
    got = source(wanted, {}, shell_has=has)

    assert b"/v/bin:/v/bin?:/v/*:" + has["PATH"] == got["PATH"]


@pytest.mark.parametrize(
    "has, there, expected",
    [
        (b"/root", True, "moved"),
        (b"/root", False, "kept"),
        (b"/home/ana", True, "kept"),
        (b"", True, "kept"),
    ],
    ids=["the image's", "no home on the volume", "another user's", "empty"],
)
def test_only_the_images_home_is_switched_and_only_to_one_that_is_there(
    source, tmp_path: Path, has: bytes, there: bool, expected: str
) -> None:
    home = tmp_path / "ho'me"
    if there:
        home.mkdir()
    got = source(recipe(home=str(home)), {}, shell_has={"HOME": has})

    assert {"moved": os.fsencode(home), "kept": has}[expected] == got["HOME"]


def test_secrets_are_for_their_owner_alone(source, runtime: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    wanted = recipe(allow=["HF_*"], secret=["*TOKEN*"])
    base = {"HF_TOKEN": "hush", "HF_HOME": "/hf"}
    owner = source(wanted, base)
    other = source(wanted, base, user=NOBODY, group=NOBODY, extra_groups=[])

    assert (b"hush", b"/hf") == (owner["HF_TOKEN"], owner["HF_HOME"])
    assert (None, b"/hf") == (other.get("HF_TOKEN"), other["HF_HOME"])
    for name in os.listdir(runtime):
        mode = stat.S_IMODE((runtime / name).stat().st_mode)
        assert (b"hush" in (runtime / name).read_bytes()) == (mode == 0o600), name


def test_a_banner_is_for_people_and_shown_once(shell: list[str], runtime: Path) -> None:
    EnvFiles(str(runtime), recipe(), {}).apply(print)
    (runtime / "banner").write_text("the volume is full\n")
    argv = [*shell, "-c", '. "$1"; . "$1"', "sh", f"{runtime}/env.sh"]
    quiet = subprocess.run(argv, capture_output=True, env={"PATH": LOGIN_PATH}, check=True)
    argv[len(shell)] = "-ic"
    shown = subprocess.run(
        argv, capture_output=True, check=True, env={"PATH": LOGIN_PATH}, stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip

    assert (b"", b"") == (quiet.stdout, quiet.stderr)
    assert (0, 1) == tuple(text.count(b"is full") for text in (shown.stdout, shown.stderr))


# fish


@pytest.fixture
def fish(runtime: Path) -> Callable[..., Environment]:
    """Write the files of a recipe, source env.fish, and return what a program then gets."""
    path = shutil.which("fish")
    if not path:
        pytest.skip("needs fish: apt-get install fish")

    def fish(wanted: dict, base: dict[str, str], **has: bytes) -> Environment:
        EnvFiles(str(runtime), wanted, base).apply(print)
        line = f"source {runtime}/env.fish; source {runtime}/env.fish; exec /usr/bin/env -0"
        environ = {"PATH": LOGIN_PATH, "HOME": str(runtime), **LIBRARIES, **has}
        done = subprocess.run(
            [path, "--no-config", "-c", line], env=environ, cwd=runtime, stdin=subprocess.DEVNULL,
            capture_output=True, check=True, timeout=30,
        )  # fmt: skip
        assert b"" == done.stderr
        pairs = (item.partition(b"=") for item in done.stdout.split(b"\0") if item)
        return {os.fsdecode(name): value for name, _, value in pairs}

    return fish


def test_fish_gets_every_value_and_executes_none(fish, runtime: Path) -> None:
    got = fish(recipe(set=decoded(VALUES)), {})

    assert VALUES == {name: got.get(name) for name in VALUES}
    assert not (runtime / "X").exists()


def test_fish_gets_every_secret_and_executes_none(fish, runtime: Path) -> None:
    got = fish(recipe(allow=["V*"], secret=["*"]), decoded(VALUES))

    assert VALUES == {name: got.get(name) for name in VALUES}
    assert not (runtime / "X").exists()


def test_fish_keeps_what_the_user_changed_and_replaces_the_containers(fish) -> None:
    wanted, base = recipe(set={"A": "ours", "B": "ours"}), {"A": "image", "B": "image"}
    got = fish(wanted, base, A=b"mine", B=b"image")

    assert (b"mine", b"ours") == (got["A"], got["B"])


def test_fish_gets_the_containers_path_back_in_order(fish) -> None:
    base = {"PATH": "/opt/conda/bin:/usr/local/bin:/usr/bin:/bin"}
    got = fish(recipe(prepend={"PATH": ["/v/b in", "/v/bin"]}), base)

    assert b"/v/b in:/v/bin:/opt/conda/bin:" + LOGIN_PATH.encode() == got["PATH"]
