from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.config import find, toml
from workspace_agent.config.decode import to_json
from workspace_agent.config.load import Loaded, Overlay, ProfileError, Source, load, names
from workspace_agent.config.schema import Profile
from workspace_agent.model.problem import AgentError

ROOT = Path(__file__).parents[2]

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def builtin(tmp_path: Path) -> str:
    (tmp_path / "profiles").mkdir()
    return str(tmp_path / "profiles")


def sources(loaded: Loaded) -> dict[str, str]:
    """Return where each value that is no default came from."""
    return {".".join(key): str(one) for key, one in loaded.origin.items() if one.kind != "default"}


def mistakes(*args: object, **more: object) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as error:
        load(*args, **more)  # type: ignore[arg-type]
    return error.value.issues


def slug(selector: str, builtin: str, **more: object) -> str:
    with pytest.raises(AgentError) as error:
        load(selector, environ={}, builtin=builtin, **more)  # type: ignore[arg-type]
    return error.value.problem.slug


# The plain boot


@pytest.mark.parametrize("selector", [None, "persistent-workspace"])
def test_the_default_profile_is_not_parsed(
    selector: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toml, "parse", None)
    absent = Overlay("/nowhere/profile.toml", trusted=True)
    environ = {"WORKSPACE_AGENT_PROFILE": "x", "HOME": "/root"}
    loaded = load(selector, environ=environ, builtin="/nowhere", overlays=[absent])

    assert Profile() == loaded.profile
    assert {Source("default")} == set(loaded.origin.values())


def test_a_plain_boot_loads_neither_the_parser_nor_the_decoder() -> None:
    code = (
        "import sys; from workspace_agent.config.load import load\n"
        "load(None, environ={}, builtin='/nowhere')\n"
        "print(*sorted(name for name in sys.modules"
        " if name.startswith(('workspace_agent.config.', 'tom'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert ["load", "placeholders", "schema"] == [
        name.rpartition(".")[2] for name in done.stdout.split()
    ]


def test_every_value_has_an_origin() -> None:
    loaded = load(None, environ={}, builtin="")
    keys: set[tuple[str, ...]] = {
        (name,) for name in ("schema", "name", "description", "extends", "requirements")
    }
    for table, inner in to_json(Profile()).items():
        if isinstance(inner, dict):
            keys |= {(table, name) for name in inner if not isinstance(inner[name], dict)}

    assert keys | {("env", "propagate", "allow"), ("env", "propagate", "secret")} == set(
        loaded.origin
    )


# Finding


def test_a_name_is_a_file_of_the_shipped_folder(write: Write, builtin: str) -> None:
    write("profiles/gpu.toml", '[home]\nmode = "copy"')

    assert "copy" == load("gpu", environ={}, builtin=builtin).profile.home.mode


@pytest.mark.parametrize("name", ["gpu.toml", "deep/gpu"])
def test_a_path_is_a_path(
    name: str, write: Write, builtin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(name, '[home]\nmode = "copy"')
    monkeypatch.chdir(tmp_path)

    assert "copy" == load(name, environ={}, builtin=builtin).profile.home.mode


def test_an_unknown_name_is_not_found_and_the_nearest_is_named(write: Write, builtin: str) -> None:
    write("profiles/gpu-training.toml", "")
    with pytest.raises(AgentError) as error:
        load("gpu-trainig", environ={}, builtin=builtin)

    assert "profile.not-found" == error.value.problem.slug
    assert "did you mean `gpu-training`?" == error.value.problem.fix


def test_the_shipped_names_always_have_the_default(write: Write, builtin: str) -> None:
    write("profiles/b.toml", "")
    write("profiles/README.md", "")

    assert ("b", "persistent-workspace") == names(builtin)
    assert ("persistent-workspace",) == names("/nowhere")


def test_a_profile_is_named_after_its_file_unless_it_says_so(write: Write) -> None:
    plain = write("plain.toml", "[home]")
    named = write("named.toml", 'name = "other"\ndescription = "d"')
    base = write("child.toml", 'extends = ["./named.toml"]')

    assert ["plain", "other", "child"] == [
        load(path, environ={}, builtin="").profile.name for path in (plain, named, base)
    ]
    assert "" == load(base, environ={}, builtin="").profile.description


# Reading


def test_a_file_that_is_not_toml_is_named_with_its_line(write: Write) -> None:
    path = write("gpu.toml", "a = 1\nb =")
    with pytest.raises(AgentError) as error:
        load(path, environ={}, builtin="")

    assert ("profile.not-toml", f"{path}:2") == (
        error.value.problem.slug,
        error.value.problem.where,
    )


def test_bytes_that_are_not_utf_8_are_named_with_their_line(write: Write) -> None:
    path = write("gpu.toml", "")
    Path(path).write_bytes(b"a = 1\nb = '\xff'")
    with pytest.raises(AgentError) as error:
        load(path, environ={}, builtin="")

    assert ("profile.not-toml", f"{path}:2") == (
        error.value.problem.slug,
        error.value.problem.where,
    )


def test_a_byte_order_mark_is_no_mistake(write: Write) -> None:
    path = write("gpu.toml", '\ufeff[home]\nmode = "copy"')

    assert "copy" == load(path, environ={}, builtin="").profile.home.mode


def test_no_more_than_64_kib_of_a_file_are_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("gpu.toml", "#" * 200_000)
    monkeypatch.setattr(toml, "parse", None)

    assert "profile.too-big" == slug(path, "")


def test_a_pipe_is_refused_and_holds_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "gpu.toml")
    os.mkfifo(path)

    assert "profile.not-found" == slug(path, "")


def test_a_link_on_the_volume_is_not_followed(write: Write, tmp_path: Path) -> None:
    target = write("secret.toml", "")
    (tmp_path / "profile.toml").symlink_to(target)
    link = str(tmp_path / "profile.toml")
    overlays = [Overlay(link, trusted=False)]

    assert "profile.not-found" == slug("persistent-workspace", "", overlays=overlays)
    assert load(None, environ={}, builtin="", overlays=[Overlay(link, trusted=True)])


# Extending


def test_what_is_extended_later_wins_and_the_profile_wins_over_both(
    write: Write, builtin: str
) -> None:
    write("profiles/a.toml", '[home]\nmode = "bind"\nmarker = ".a"\npath = "/a"')
    write("b.toml", '[home]\nmode = "copy"\nmarker = ".b"')
    top = write("top.toml", 'extends = ["a", "./b.toml"]\n[home]\nmode = "off"')
    home = load(top, environ={}, builtin=builtin).profile.home

    assert ("off", ".b", "/a") == (home.mode, home.marker, home.path)


def test_a_profile_reached_twice_counts_at_its_first_place(write: Write, builtin: str) -> None:
    write("profiles/base.toml", '[home]\nmode = "bind"')
    write("profiles/a.toml", 'extends = ["base"]\n[home]\nmode = "copy"')
    write("profiles/b.toml", 'extends = ["base"]')
    write("profiles/top.toml", 'extends = ["a", "b", "persistent-workspace"]')

    assert "copy" == load("top", environ={}, builtin=builtin).profile.home.mode


def test_a_cycle_is_refused_with_its_links(write: Write) -> None:
    a = write("a.toml", 'extends = ["./b.toml"]')
    b = write("b.toml", 'extends = ["./a.toml"]')
    with pytest.raises(AgentError) as error:
        load(a, environ={}, builtin="")

    assert "profile.cycle" == error.value.problem.slug
    assert f"{a} extends {b} extends {a}" == error.value.problem.why


@pytest.mark.parametrize("count, refused", [(8, False), (9, True)])
def test_profiles_extend_each_other_at_most_eight_times(
    count: int, refused: bool, write: Write
) -> None:
    for number in range(count):
        write(f"{number}.toml", f'extends = ["./{number + 1}.toml"]')
    write(f"{count}.toml", '[home]\nmode = "off"')
    top = str(Path(write("x.toml", "")).with_name("0.toml"))
    if refused:
        assert "profile.cycle" == slug(top, "")
    else:
        assert "off" == load(top, environ={}, builtin="").profile.home.mode


def test_a_missing_base_is_not_found_and_says_who_asked(write: Write, builtin: str) -> None:
    top = write("top.toml", 'extends = ["nope"]')
    with pytest.raises(AgentError) as error:
        load(top, environ={}, builtin=builtin)

    assert ("profile.not-found", top) == (error.value.problem.slug, error.value.problem.where)


# Merging


def test_tables_merge_and_lists_replace_unless_their_key_ends_in_plus(write: Write) -> None:
    write("base.toml", '[env]\nA = "1"\nB = "1"\n[path]\nprepend = ["/a"]\npython = ["/p"]')
    top = write(
        "top.toml",
        'extends = ["./base.toml"]\n[env]\nB = "2"\n[env.default]\nC = "3"\n'
        '[path]\n"prepend+" = ["/b"]\npython = ["/q"]\n[home]\n"links+" = [".ssh"]',
    )
    profile = load(top, environ={}, builtin="").profile

    assert {"A": "1", "B": "2"} == profile.env.set
    assert {"C": "3"} == profile.env.default
    assert ("/a", "/b") == profile.path.prepend
    assert ("/q",) == profile.path.python
    assert (*Profile().home.links, ".ssh") == profile.home.links


def test_every_layer_wins_over_the_one_before_and_is_named(write: Write, builtin: str) -> None:
    base = write("profiles/base.toml", '[home]\nmode = "bind"\nmarker = ".1"\npath = "/1"')
    gpu = write("gpu.toml", 'extends = ["base"]\n\n[home]\nmarker = ".2"\n[env]\nA = "1"')
    image = write("image.toml", '# image\n[path]\n"prepend+" = [\n  "/b",\n]\n[env]\nA = "2"')
    volume = write("volume.toml", '[env]\nA = "3"\n[report]\nhistory = 3\nbanner = true')
    loaded = load(
        gpu,
        environ={"WORKSPACE_AGENT__REPORT__HISTORY": "4", "WORKSPACE_AGENT__ENV__B": "x"},
        builtin=builtin,
        overlays=[Overlay(image, trusted=True), Overlay(volume, trusted=False)],
    )

    assert {
        "name": f"file {gpu}",
        "description": f"file {gpu}",
        "extends": f"file {gpu}:1",
        "home.mode": f"file {base}:2",
        "home.path": f"file {base}:4",
        "home.marker": f"file {gpu}:4",
        "path.prepend": f"file {image}:3",
        "env.A": f"file {volume}:2",
        "report.banner": f"file {volume}:5",
        "report.history": "env WORKSPACE_AGENT__REPORT__HISTORY",
        "env.B": "env WORKSPACE_AGENT__ENV__B",
    } == sources(loaded)
    profile = loaded.profile
    assert ("bind", ".2", "/1", 4, {"A": "3", "B": "x"}) == (
        profile.home.mode,
        profile.home.marker,
        profile.home.path,
        profile.report.history,
        profile.env.set,
    )


def test_an_overlay_lies_over_the_defaults_too(write: Write) -> None:
    path = write("image.toml", '[home]\nmode = "copy"')
    loaded = load(None, environ={}, builtin="", overlays=[Overlay(path, trusted=True)])

    assert {"home.mode": f"file {path}:2"} == sources(loaded)
    assert "persistent-workspace" == loaded.profile.name


def test_the_images_overlay_may_extend(write: Write, builtin: str) -> None:
    write("profiles/base.toml", 'name = "base"\n[home]\nmode = "bind"\nmarker = ".1"')
    path = write("image.toml", 'extends = ["base"]\n[home]\nmode = "copy"')
    loaded = load(None, environ={}, builtin=builtin, overlays=[Overlay(path, trusted=True)])

    assert ("copy", ".1") == (loaded.profile.home.mode, loaded.profile.home.marker)
    assert "persistent-workspace" == loaded.profile.name


# Environment and flags


@pytest.mark.parametrize(
    "name, text, key, value",
    [
        ("HOME__MODE", "copy", ("home", "mode"), "copy"),
        ("VOLUME__REQUIRED", "true", ("volume", "required"), True),
        ("VOLUME__REQUIRED", "OFF", ("volume", "required"), False),
        ("VOLUME__MIN_FREE", "1GiB", ("volume", "min_free"), "1GiB"),
        ("VOLUME__CANDIDATES", "/a, /b", ("volume", "candidates"), ["/a", "/b"]),
        ("WORKLOAD__NEEDS", "", ("workload", "needs"), []),
        ("REPORT__HISTORY", "5", ("report", "history"), 5),
        ("NAME", "1", ("name",), "1"),
        ("ENV__lower_Name", "1", ("env", "lower_Name"), "1"),
        ("ENV__A__B", "1", ("env", "A__B"), "1"),
        ("ENV__DEFAULT__A__B", "true", ("env", "default", "A__B"), "true"),
        ("ENV__PROPAGATE__ALLOW", "A_*,B", ("env", "propagate", "allow"), ["A_*", "B"]),
    ],
)
def test_a_variable_is_read_as_the_type_of_its_key(
    name: str, text: str, key: tuple[str, ...], value: object
) -> None:
    loaded = load(None, environ={f"WORKSPACE_AGENT__{name}": text}, builtin="")
    found: object = to_json(loaded.profile)
    for part in key:
        assert isinstance(found, dict)
        found = found[part]

    assert value == found
    assert f"env WORKSPACE_AGENT__{name}" == str(loaded.origin[key])


@pytest.mark.parametrize(
    "name, text, line",
    [
        ("HOME__MOD", "copy", "home.mod: unknown key; did you mean `mode`?"),
        ("REPORT__BANNER", "maybe", "report.banner: expected true or false, got a string"),
        ("REPORT__HISTORY", "²", "report.history: expected a whole number, got a string"),
        ("HOME", "x", "home: expected a table, got a string"),
        ("EXTENDS", "a", "extends: only a file can extend a profile"),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(name: str, text: str, line: str) -> None:
    environ = {f"WORKSPACE_AGENT__{name}": text}

    assert (f"env WORKSPACE_AGENT__{name}: {line}",) == mistakes(None, environ=environ, builtin="")


# Mistakes


def test_all_mistakes_of_all_layers_come_at_once_with_file_and_line(
    write: Write, builtin: str
) -> None:
    base = write("profiles/base.toml", "[home]\n\nmod = 'copy'\n")
    gpu = write(
        "gpu.toml",
        'extends = ["base"]\nworklod = 1\n[home]\nlinks = [\n  ".a",\n  "/b",\n]\n'
        '[volume]\nmin_free = "64"\n',
    )
    image = write("image.toml", "[env]\n'A-B' = '1'")
    with pytest.raises(ProfileError) as error:
        load(
            gpu,
            environ={"WORKSPACE_AGENT__HOME__MODE": "x"},
            builtin=builtin,
            overlays=[Overlay(image, trusted=True)],
        )
    lines = (
        f"{base}:3: home.mod: unknown key; did you mean `mode`?",
        f"{gpu}:2: worklod: unknown key; did you mean `workload`?",
        f"{gpu}:4: home.links: `/b` leaves the home; write it relative to the home",
        f"{gpu}:9: volume.min_free: `64` is not a size; a unit is missing; did you mean `64MiB`?",
        f"{image}:2: env.A-B: not a name for a variable;"
        " use letters, digits and `_`, and no digit first",
        "env WORKSPACE_AGENT__HOME__MODE: home.mode: `x` is not one of"
        " auto, bind, redirect, links, copy, off",
    )

    assert lines == error.value.issues
    assert ("profile.mistakes", "the profile has 6 mistakes", "\n".join(lines)) == (
        error.value.problem.slug,
        error.value.problem.what,
        error.value.problem.why,
    )
    assert "workspace-agent profile show" in error.value.problem.fix


def test_one_mistake_is_not_called_mistakes(write: Write) -> None:
    with pytest.raises(ProfileError) as error:
        load(write("a.toml", "nam = 1"), environ={}, builtin="")

    assert "the profile has 1 mistake" == error.value.problem.what


def test_a_file_of_nothing_but_mistakes_does_not_fill_the_log(write: Write) -> None:
    path = write("a.toml", "".join(f"k{number} = 1\n" for number in range(4000)))
    with pytest.raises(ProfileError) as error:
        load(path, environ={}, builtin="")
    why = error.value.problem.why.split("\n")

    assert (4000, 51, "and 3950 more") == (len(error.value.issues), len(why), why[-1])


@pytest.mark.parametrize(
    "text, key",
    [
        ("[volume]\nrequired = true", "volume.required"),
        ("volume = { required = false }", "volume.required"),
        ('[volume]\ncandidates = ["/x"]', "volume.candidates"),
        ('[volume]\n"candidates+" = ["/x"]', "volume.candidates+"),
        ('[workload]\ncommand = ["sh"]', "workload.command"),
        ('[report]\ntermination_log = "/etc/passwd"', "report.termination_log"),
        ('[home]\npath = "/elsewhere"', "home.path"),
        ("[env]\npropagate = { secret = [] }", "env.propagate"),
        ("[scripts]\nenabled = true", "scripts.enabled"),
        ('[scripts]\nfile = "{volume}/other.sh"', "scripts.file"),
        ('[scripts]\ndir = "{volume}/other.d"', "scripts.dir"),
    ],
)
def test_a_file_on_the_volume_cannot_set_what_holds_or_moves_the_pod(
    text: str, key: str, write: Write
) -> None:
    path = write("profile.toml", text)
    (line,) = mistakes(None, environ={}, builtin="", overlays=[Overlay(path, trusted=False)])

    assert line.startswith(f"{path}:{text.count(chr(10)) + 1}: {key}: a file on the volume cannot")
    assert load(None, environ={}, builtin="", overlays=[Overlay(path, trusted=True)])


def test_mistakes_of_a_file_come_in_the_order_of_its_lines(write: Write) -> None:
    path = write("profile.toml", "[volume]\nrequired = true\n[home]\nmod = 1\n[path]\np = 1")
    lines = mistakes(None, environ={}, builtin="", overlays=[Overlay(path, trusted=False)])

    assert [f"{path}:2", f"{path}:4", f"{path}:6"] == [line.partition(": ")[0] for line in lines]


def test_a_file_on_the_volume_cannot_extend(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("profile.toml", 'extends = ["/etc/other.toml"]')
    monkeypatch.setattr(find, "chain", None)

    assert (f"{path}:1: extends: a file on the volume cannot extend a profile",) == mistakes(
        None, environ={}, builtin="", overlays=[Overlay(path, trusted=False)]
    )


def test_shipped_profiles_load() -> None:
    shipped = str(ROOT / "profiles")

    assert [] == [
        name
        for name in names(shipped)
        if name != load(name, environ={}, builtin=shipped).profile.name
    ]
