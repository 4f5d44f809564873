"""The command line: its texts by golden files, its JSON by key sets, its exit codes.

`GOLDEN=write pytest tests/unit/test_cli.py` writes the golden files anew; read the diff. What
differs between machines is replaced in them: folders by `@`, times by `N ms`, days by `DATE`.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from workspace_agent import __version__
from workspace_agent.cli import lazy, render
from workspace_agent.cli.main import cli, entry
from workspace_agent.model.outcome import Row, Status

GOLDEN = Path(__file__).parent / "golden"
ROOT = str(Path(__file__).parents[2])

Call = Callable[..., tuple[int, str, str]]

VERBS: dict[str, tuple[str, ...]] = {
    "root": (),
    **{name: (name,) for name in lazy.VERBS},
    "profile-list": ("profile", "list"),
    "profile-show": ("profile", "show"),
    "profile-validate": ("profile", "validate"),
    "image-bake": ("image", "bake"),
    **{f"home-{verb}": ("home", verb) for verb in ("status", "diff", "merge", "reset", "verify")},
}

MISTAKES = """\
schema = 1
[home]
mdoe = "auto"
mode = "bound"
[scripts]
timeout = 5
"""


@pytest.fixture
def call(
    tmp_path: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> Call:
    """Return `call(*words, **variables)`: exit code, stdout and stderr, in a world of its own."""
    plant(tmp_path, {"home/.bashrc": "x\n", "volume/": None, "run/": None})
    for name in list(os.environ):
        if name.startswith(("WORKSPACE_", "NO_COLOR", "FORCE_COLOR", "_WORKSPACE")):
            monkeypatch.delenv(name)
    world = {
        "HOME": f"{tmp_path}/home",
        "PATH": "/usr/bin:/bin",
        "COLUMNS": "80",
        "TERM": "xterm",
        "WORKSPACE_VOLUME": f"{tmp_path}/volume",
        "WORKSPACE_AGENT_RUNTIME": f"{tmp_path}/run",
        "WORKSPACE_AGENT_SYSTEM": "0",
        "WORKSPACE_AGENT_PRIVATE": "0",
    }
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    one_disk = {"/": ("overlay", "overlay", False)}
    monkeypatch.setattr("workspace_agent.host.mounts.read_mounts", lambda: one_disk)
    monkeypatch.setattr("workspace_agent.host.mounts.in_container", lambda *_, **__: False)
    monkeypatch.setattr("workspace_agent.app.look.private_state", lambda _: "ready")

    def act(*words: str, **variables: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            code = 0
            try:
                entry(list(words))
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
        out, err = capfd.readouterr()
        return code, out, err

    return act


@pytest.fixture
def golden(tmp_path: Path) -> Callable[[str, str], None]:
    """Return `golden(name, text)`, which compares *text* with the file, or writes that."""

    def compare(name: str, text: str) -> None:
        text = text.replace(str(tmp_path), "@").replace(ROOT, "@INSTALL")
        # older versions of click
        text = re.sub(r"No such option: (\S+)", r"No such option '\1'.", text)
        text = re.sub(r" {2,}\d+(\.\d)? (ms|s)$", "  N ms", text, flags=re.M)
        text = re.sub(r" in \d+(\.\d)? (ms|s)$", " in N ms", text, flags=re.M)
        text = re.sub(r"(?<=, )\d+(\.\d)? (ms|s)$", "N ms", text, flags=re.M)
        text = re.sub(r"\d+(\.\d)? [KMGT]iB free", "N GiB free", text)
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
        path = GOLDEN / f"{name}.txt"
        if os.environ.get("GOLDEN") == "write":
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

        assert path.read_text() == text

    return compare


@pytest.mark.parametrize("name", VERBS)
def test_help_reads_as_in_its_golden_file(name: str, call: Call, golden: Callable) -> None:
    code, out, err = call(*VERBS[name], "--help")

    assert (0, "") == (code, err)
    golden(f"help-{name}", out)


@pytest.mark.parametrize("name", lazy.VERBS)
def test_the_line_of_a_verb_in_the_root_help_is_that_of_its_own(name: str) -> None:
    command = lazy.LazyGroup().get_command(click.Context(cli), name)

    assert command is not None
    first = command.help.splitlines()[0].rstrip(".")
    assert lazy.VERBS[name] == first
    assert len(first) <= 64
    assert name == command.name


def test_every_option_that_is_a_variable_says_so(call: Call) -> None:
    _, out, _ = call("--help")
    variables = [p.envvar for p in cli.params if isinstance(p, click.Option) and p.envvar]

    assert len(variables) >= 6
    assert [] == [name for name in variables if name not in out]


def test_setup_on_a_fresh_volume(call: Call, golden: Callable) -> None:
    code, out, err = call("setup")

    assert (0, "") == (code, err)
    golden("setup", out)


def test_setup_a_second_time_changes_nothing(call: Call, golden: Callable) -> None:
    call("setup")
    code, out, err = call("setup")

    assert (0, "") == (code, err)
    golden("setup-again", out)


def test_a_dry_run_says_what_would_change_and_writes_nothing(
    call: Call, golden: Callable, tmp_path: Path, tree: Callable
) -> None:
    before = tree(tmp_path, times=True)
    code, out, err = call("setup", "--dry-run")

    assert (0, "") == (code, err)
    assert before == tree(tmp_path, times=True)
    golden("setup-dry-run", out)


def test_a_degraded_setup_says_what_why_and_fix_and_exits_3(
    call: Call, golden: Callable, plant: Callable, tmp_path: Path
) -> None:
    plant(tmp_path / "volume", {"home": "a file", "setup.sh": "exit 7"})
    code, out, err = call("setup")

    assert 3 == code
    golden("setup-degraded", f"{out}{err}")


def test_strict_makes_a_degraded_setup_a_failed_one(
    call: Call, plant: Callable, tmp_path: Path
) -> None:
    plant(tmp_path / "volume", {"home": "a file"})
    code, _, err = call("setup", "--strict")

    assert 1 == code
    assert err.startswith("error: ")


def test_a_profile_with_three_mistakes_lists_all_of_them_and_exits_2(
    call: Call, golden: Callable, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text(MISTAKES)
    code, out, err = call("--profile", f"{tmp_path}/bad.toml", "setup")

    assert (2, "") == (code, out)
    golden("profile-mistakes", err)


def test_validate_counts_the_good_and_lists_the_bad(
    call: Call, golden: Callable, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text(MISTAKES)
    (tmp_path / "good.toml").write_text("schema = 1\n")
    good = call("profile", "validate", f"{tmp_path}/good.toml")
    code, out, err = call("profile", "validate", f"{tmp_path}/good.toml", f"{tmp_path}/bad.toml")

    assert (0, "1 of 1 without mistakes\n", "") == good
    assert 2 == code
    golden("profile-validate", f"{out}{err}")


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("error-no-verb", ("stetup",), 2),
        ("error-no-such-verb", ("frobnicate",), 2),
        ("error-no-option", ("setup", "--frob"), 2),
        ("error-no-step", ("setup", "--only", "home.sed"), 1),
        ("error-no-profile", ("--profile", "gqu", "setup"), 2),
        ("error-no-boot", ("env",), 1),
        ("error-no-files", ("profile", "validate"), 2),
    ],
)
def test_an_error_says_what_and_fix_with_its_slug(
    name: str, words: tuple[str, ...], code: int, call: Call, golden: Callable
) -> None:
    found, out, err = call(*words)

    assert (code, "") == (found, out)
    golden(name, err)


def test_status_before_and_after_a_setup(call: Call, golden: Callable) -> None:
    code, out, err = call("status")
    call("setup")
    later, out_later, err_later = call("status")

    assert (3, 0) == (code, later)
    golden("status-none", f"{out}{err}")
    golden("status", f"{out_later}{err_later}")


def test_status_of_a_degraded_boot_repeats_its_problems(
    call: Call, golden: Callable, plant: Callable, tmp_path: Path
) -> None:
    plant(tmp_path / "volume", {"home": "a file"})
    call("setup")
    code, out, err = call("-v", "status")

    assert 3 == code
    golden("status-degraded", f"{out}{err}")


def test_doctor_lists_each_finding_with_its_remedy(call: Call, golden: Callable) -> None:
    code, out, err = call("doctor")
    call("setup")
    healed, _, quiet = call("doctor")

    assert (3, 0, "") == (code, healed, quiet)
    golden("doctor", f"{out}{err}")


def test_doctor_writes_nothing(call: Call, tmp_path: Path, tree: Callable) -> None:
    before = tree(tmp_path, times=True)
    call("doctor")

    assert before == tree(tmp_path, times=True)


def test_profile_list_names_what_is_shipped(call: Call) -> None:
    assert (0, "persistent-workspace\n", "") == call("profile", "list")


def test_profile_show_says_where_each_value_came_from(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[home]\nmode = "links"\n')
    code, out, _ = call(
        "profile", "show", f"{tmp_path}/mine.toml", WORKSPACE_AGENT__REPORT__HISTORY="7"
    )
    lines = [re.split(r" +# ", line) for line in out.splitlines()]
    origins = dict(lines)

    assert 0 == code
    assert f"file {tmp_path}/mine.toml:2" == origins['home.mode = "links"']
    assert "env WORKSPACE_AGENT__REPORT__HISTORY" == origins["report.history = 7"]
    assert "default" == origins['home.marker = ".packet-init"']


def test_image_bake_is_for_root_alone(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, out, err = call("image", "bake")

    assert (1, "") == (code, out)
    assert "(image.not-root)" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_that_shell(shell: str, call: Call) -> None:
    code, out, err = call("completion", shell)

    assert (0, "") == (code, err)
    assert "_WORKSPACE_AGENT_COMPLETE" in out


def test_env_prints_what_a_shell_can_read_back(call: Call, tmp_path: Path) -> None:
    block = b"B=it's $HOME\0A=1\0bad-name=x\0"
    call("setup")
    (tmp_path / "run/environ").write_bytes(block)
    code, out, _ = call("env")

    assert (0, "export A='1'\nexport B='it'\\''s $HOME'\n") == (code, out)


def test_env_runs_a_command_with_the_workloads_variables_over_the_callers(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[list[str], str, str]] = []

    def execute(argv: tuple[str, ...], env: dict[str, str]) -> int:
        heard.append((list(argv), env["A"], env["TERM"]))
        raise SystemExit(0)

    call("setup")
    (tmp_path / "run/environ").write_bytes(b"A=workload\0PATH=/x\0")
    monkeypatch.setattr("workspace_agent.supervise.spawn.execute", execute)
    call("env", "--", "python", "-c", "pass", "--json", A="caller")

    assert [(["python", "-c", "pass", "--json"], "workload", "xterm")] == heard


@pytest.mark.parametrize(("error", "code"), [(2, 127), (13, 126)])
def test_env_exits_as_shells_do_when_the_command_cannot_run(
    error: int, code: int, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("setup")
    (tmp_path / "run/environ").write_bytes(b"A=1\0")
    monkeypatch.setattr("workspace_agent.supervise.spawn.execute", lambda *_: error)
    found, out, err = call("env", "--", "nosuch")

    assert (code, "") == (found, out)
    assert f"workspace-agent: `nosuch`: {os.strerror(error)}\n" == err


@pytest.mark.parametrize(
    ("words", "argv", "wishes"),
    [
        (("run", "--", "a", "-x"), ["a", "-x"], {}),
        (("run", "a", "--grace", "1s"), ["a", "--grace", "1s"], {}),
        (("run", "--no-system", "--", "a"), ["a"], {"WORKSPACE_AGENT_SYSTEM": "0"}),
        (("run", "--system", "a"), ["a"], {"WORKSPACE_AGENT_SYSTEM": "1"}),
        (("run", "--grace", "9s", "a"), ["a"], {"WORKSPACE_AGENT__WORKLOAD__GRACE": "9s"}),
        (("--profile", "p", "-q", "run", "a"), ["a"],
         {"WORKSPACE_AGENT_PROFILE": "p", "WORKSPACE_AGENT_QUIET": "1"}),
        (("--json", "run", "a", "--json"), ["a", "--json"], {"WORKSPACE_AGENT_JSON": "1"}),
    ],
)  # fmt: skip
def test_run_hands_its_words_to_pid_1_and_its_flags_as_variables(
    words: tuple[str, ...],
    argv: list[str],
    wishes: dict[str, str],
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[tuple[list[str], dict[str, str]]] = []

    def execve(_: str, argv: list[str], env: dict[str, str]) -> None:
        heard.append((argv, env))

    monkeypatch.setattr(os, "execve", execve)
    call(*words)
    ((given, env),) = heard
    at = next(n for n, word in enumerate(given) if word.endswith("/pid1.py"))

    assert ["-I", "-S"] == given[1:3]
    assert argv == [word for word in given[at + 1 :] if word != "--"]
    assert wishes == {name: env.get(name) for name in wishes}


ENVELOPE = {"schema", "command", "status", "exit_code", "data", "problems"}
PROBLEM = {"slug", "what", "why", "fix", "where"}
ROW = {"name", "status", "why", "secs", "detail", "problem"}


@pytest.mark.parametrize(
    ("words", "code", "keys"),
    [
        (("setup",), 0, {"dry_run", "steps"}),
        (("setup", "--dry-run"), 0, {"dry_run", "steps"}),
        (
            ("status",),
            3,
            {"boot", "agent", "private", "defaults", "watch", "restored", "checkpoint"},
        ),
        (("doctor",), 3, {"findings"}),
        (("profile", "list"), 0, {"profiles"}),
        (("profile", "show"), 0, {"profile", "origin"}),
        (("profile", "validate", "/nowhere.toml"), 2, {"valid"}),
        (("completion", "bash"), 0, {"shell", "script"}),
        (("home", "status"), 1, None),
        (("env",), 1, None),
        (("frobnicate",), 2, None),
        (("setup", "--only", "nope"), 1, None),
    ],
)
def test_json_is_one_object_on_stdout_whatever_happens(
    words: tuple[str, ...], code: int, keys: set[str] | None, call: Call
) -> None:
    found, out, err = call("--json", *words)
    answer = json.loads(out)

    assert (code, "") == (found, err)
    assert ENVELOPE == set(answer)
    assert ("workspace-agent/1", [words[0]], code) == (
        answer["schema"],
        answer["command"],
        answer["exit_code"],
    )
    assert {0: "ok", 3: "degraded"}.get(code, "error") == answer["status"]
    assert keys == (None if answer["data"] is None else set(answer["data"]))
    assert all(PROBLEM == set(problem) for problem in answer["problems"])
    assert bool(code) is bool(answer["problems"])


def test_json_rows_have_these_keys(call: Call) -> None:
    _, out, _ = call("--json", "setup")
    steps = json.loads(out)["data"]["steps"]

    assert ["volume.ready", "home.seed", "env.files", "scripts"] == [row["name"] for row in steps]
    assert all(ROW == set(row) for row in steps)
    assert all(isinstance(row["secs"], float) for row in steps)


def test_json_findings_have_these_keys(call: Call) -> None:
    _, out, _ = call("--json", "doctor")

    assert [{"about", "why", "problem"}] == [
        set(one) for one in json.loads(out)["data"]["findings"][:1]
    ]


def test_quiet_leaves_the_summary_and_the_problems(
    call: Call, plant: Callable, tmp_path: Path
) -> None:
    _, out, err = call("-q", "setup")
    plant(tmp_path / "other", {"home": "a file"})
    _, _, problems = call("-q", "--volume", f"{tmp_path}/other", "setup")

    assert 1 == len(out.splitlines())
    assert "3 changed, 1 skipped in" in out
    assert "" == err
    assert "(home.in-the-way)" in problems


def test_only_runs_that_step_alone_and_skip_leaves_it_out(call: Call) -> None:
    _, only, _ = call("--json", "setup", "--only", "volume.ready")
    _, skip, _ = call("--json", "setup", "--skip", "home.seed", "--skip", "scripts")

    assert ["volume.ready"] == [row["name"] for row in json.loads(only)["data"]["steps"]]
    assert ["volume.ready", "env.files"] == [r["name"] for r in json.loads(skip)["data"]["steps"]]


def test_version(call: Call) -> None:
    assert (0, f"workspace-agent {__version__}\n", "") == call("--version")


def test_a_crash_of_ours_is_one_error_and_a_traceback_only_when_asked(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr("workspace_agent.app.look.status", broken)
    code, out, err = call("status")
    with pytest.raises(ValueError, match="boom"):
        call("-v", "status")

    assert (1, "") == (code, out)
    assert err.startswith("error: the agent broke: ValueError: boom\n")
    assert "(agent.crashed)" in err


@pytest.mark.parametrize(
    ("words", "variables", "coloured"),
    [
        ((), {}, False),
        ((), {"FORCE_COLOR": "1"}, True),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
        (("--color", "never"), {"FORCE_COLOR": "1"}, False),
        ((), {"WORKSPACE_AGENT_COLOR": "always"}, True),
    ],
)
def test_colour_is_the_flags_then_no_color_then_force_color_then_the_terminals(
    words: tuple[str, ...], variables: dict[str, str], coloured: bool, call: Call
) -> None:
    _, out, _ = call(*words, "setup", "--dry-run", **variables)

    assert coloured is ("\x1b[" in out)


@pytest.mark.parametrize(("term", "coloured"), [("xterm", True), ("dumb", False)])
def test_a_terminal_gets_colour_unless_it_is_dumb(
    term: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", term)

    assert coloured is render.wants_colour(Terminal(), "auto")


def test_colour_marks_only_the_state_word() -> None:
    plain = render.row(Row("home.seed", Status.CHANGED, "seeded", 0.5))
    coloured = render.row(Row("home.seed", Status.CHANGED, "seeded", 0.5), color=True)

    assert plain == click.unstyle(coloured)
    assert "changed" in re.search(r"\x1b\[\d+m(.*?)\x1b\[0m", coloured)[1]
    assert 1 == coloured.count("\x1b[0m")


def test_a_file_that_is_no_checkpoint_is_not_taken_in(call: Call, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("no tar")
    with tarfile.open(tmp_path / "other.tar", "w") as other:
        other.add(tmp_path / "notes", "notes")

    for name, why in (("notes", "it is no tar archive"), ("other.tar", "it has no manifest")):
        code, _, err = call("artifacts", "import", f"{tmp_path}/{name}")
        assert code == 1 and why in err and "(checkpoint.not-imported)" in err


@pytest.mark.parametrize("words", [("show", "x"), ("export", "x/y", "z"), ("verify", "x")])
def test_what_is_not_there_is_no_checkpoint(call: Call, words: tuple[str, ...]) -> None:
    code, _, err = call("artifacts", *words)

    assert code == 1 and f"there is no checkpoint {words[1]}" in err
