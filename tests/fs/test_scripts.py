"""The user's own scripts: in order, once a boot, and none in another's way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workspace_agent.app.boot import run
from workspace_agent.host.command import Finished
from workspace_agent.model.outcome import Ok, Report, Skip, Status, Todo
from workspace_agent.steps.scripts import SetupScripts


class Shell:
    """Remembers what it was asked to run, and ends as it was told."""

    def __init__(self) -> None:
        self.argvs: list[list[str]] = []
        self.options: list[dict[str, object]] = []
        self.ends: dict[str, Finished] = {}
        self.acts: dict[str, Callable[[], object]] = {}

    def __call__(self, argv: list[str], **options: object) -> Finished:
        name = os.path.basename(argv[-1])
        self.argvs.append(argv)
        self.options.append(options)
        self.acts.get(name, lambda: None)()
        return self.ends.get(name, Finished(0, 0.1, ""))

    @property
    def ran(self) -> list[str]:
        return [os.path.basename(argv[-1]) for argv in self.argvs]


@pytest.fixture
def shell() -> Shell:
    return Shell()


@pytest.fixture
def scripts(root: Path, plant: Callable, shell: Shell) -> SetupScripts:
    """Return the step over an empty volume and a runtime folder; each run is a fresh instance."""
    plant(root, {"volume/": None, "run/": None})
    return SetupScripts(
        file=str(root / "volume/setup.sh"),
        folder=str(root / "volume/setup.d"),
        volume=str(root / "volume"),
        runtime=str(root / "run"),
        env={"A": "1"},
        timeout=300.0,
        run=shell,
    )


@pytest.fixture
def volume(root: Path) -> Path:
    return root / "volume"


def test_nothing_to_run_is_skipped(scripts: SetupScripts, volume: Path, plant: Callable) -> None:
    plant(volume, {"setup.d/README": "x", "setup.d/.hidden.sh": "x", "setup.d/folder.sh/": None})

    assert Skip("no setup.sh, no setup.d") == scripts.check()


def test_setup_sh_comes_first_and_then_setup_d_by_name(
    scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(
        volume, {"setup.d/20-b.sh": "", "setup.d/10-a.sh": "", "setup.d/3.sh": "", "setup.sh": ""}
    )
    report = run([scripts], Report())

    assert ["setup.sh", "10-a.sh", "20-b.sh", "3.sh"] == shell.ran
    assert [(Status.CHANGED, "4 run in this boot")] == [(r.status, r.why) for r in report.rows]


def test_each_runs_in_the_workloads_environment_on_the_volume_with_its_own_log(
    root: Path, scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(volume, {"setup.sh": "", "setup.d/a.sh": ""})
    run([scripts], Report())
    logs = [options["log"] for options in shell.options]

    assert [{"A": "1"}] * 2 == [options["env"] for options in shell.options]
    assert [str(volume)] * 2 == [options["cwd"] for options in shell.options]
    assert [300.0] * 2 == [options["timeout"] for options in shell.options]
    assert [f"{root}/run/logs/setup.sh.log", f"{root}/run/logs/a.sh.log"] == logs
    assert 0o40700 == os.stat(root / "run/logs").st_mode


def test_an_executable_is_run_itself_and_a_plain_sh_by_a_shell(
    scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(volume, {"setup.d/1-tool": "", "setup.d/2-plain.sh": "", "setup.d/3-data.txt": ""})
    (volume / "setup.d/1-tool").chmod(0o755)
    run([scripts], Report())
    first, second = shell.argvs

    assert [f"{volume}/setup.d/1-tool"] == first
    assert f"{volume}/setup.d/2-plain.sh" == second[1]
    assert os.path.basename(second[0]) in ("bash", "sh")


def test_once_a_boot(scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell) -> None:
    plant(volume, {"setup.sh": ""})
    run([scripts], Report())
    again = run([scripts], Report())

    assert ["setup.sh"] == shell.ran
    assert [Status.OK] == [row.status for row in again.rows]


def test_the_next_boot_runs_them_again(
    root: Path, scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(volume, {"setup.sh": ""})
    run([scripts], Report())
    (root / "run/scripts.json").unlink()  # as host/runtime.clear does
    run([scripts], Report())

    assert ["setup.sh", "setup.sh"] == shell.ran


def test_a_changed_script_runs_again_and_only_that_one(
    scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(volume, {"setup.sh": "", "setup.d/a.sh": ""})
    run([scripts], Report())
    (volume / "setup.d/a.sh").write_text("changed")

    assert Todo("1 to run", (f"{volume}/setup.d/a.sh",)) == scripts.check()
    run([scripts], Report())
    assert ["setup.sh", "a.sh", "a.sh"] == shell.ran


@pytest.mark.parametrize("record", ["", "{", "{}", "null", "3", '["other"]', "\0" * 2_000_000])
def test_a_record_that_cannot_be_read_means_that_they_run(
    record: str, root: Path, scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(root, {"volume/setup.sh": "", "run/scripts.json": record})
    report = run([scripts], Report())

    assert ["setup.sh"] == shell.ran
    assert "ok" == report.status


def test_one_that_fails_does_not_stop_the_next_and_is_reported(
    scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(volume, {"setup.sh": "", "setup.d/a.sh": "", "setup.d/b.sh": ""})
    shell.ends = {"setup.sh": Finished(7, 0.1, "TOKEN=canary"), "a.sh": Finished(137, 0.1, "")}
    report = run([scripts], Report())
    problem = report.problems[0]

    assert ["setup.sh", "a.sh", "b.sh"] == shell.ran
    assert ("scripts.failed", "exit code 7", f"{volume}/setup.sh") == (
        problem.slug,
        problem.why,
        problem.where,
    )
    assert "setup.sh.log" in problem.fix


def test_no_word_of_a_scripts_output_is_in_the_report(
    scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(volume, {"setup.sh": ""})
    shell.ends = {"setup.sh": Finished(1, 0.1, "login with canary")}
    report = run([scripts], Report())

    assert "canary" not in str(report)


def test_a_time_limit_is_told_as_such(
    scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(volume, {"setup.sh": ""})
    shell.ends = {"setup.sh": Finished(143, 300.0, "", timed_out=True)}

    assert ["it ran longer than 5 min"] == [p.why for p in run([scripts], Report()).problems]


def test_one_that_cannot_be_started_is_told_and_does_not_stop_the_next(
    scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    def refuse() -> None:
        raise OSError(8, "Exec format error")

    plant(volume, {"setup.sh": "", "setup.d/a.sh": ""})
    shell.acts = {"setup.sh": refuse}
    report = run([scripts], Report())

    assert ["setup.sh", "a.sh"] == shell.ran
    assert ["Exec format error"] == [problem.why for problem in report.problems]


def test_what_setup_sh_puts_into_setup_d_runs_in_the_same_boot(
    scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(volume, {"setup.sh": ""})
    shell.acts = {"setup.sh": lambda: plant(volume, {"setup.d/made.sh": ""})}
    report = run([scripts], Report())

    assert ["setup.sh", "made.sh"] == shell.ran
    assert "ok" == report.status


@pytest.mark.parametrize("change", ["write", "remove"])
def test_a_script_that_changes_itself_is_done(
    change: str, scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    plant(volume, {"setup.sh": "", "setup.d/a.sh": ""})
    path = volume / "setup.sh"
    act = {"write": lambda: path.write_text("newer"), "remove": path.unlink}[change]
    shell.acts = {"setup.sh": act}
    report = run([scripts], Report())

    assert ["setup.sh", "a.sh"] == shell.ran
    assert "ok" == report.status
    assert isinstance(scripts.check(), Ok)


def test_the_record_is_written_after_each_so_that_a_kill_repeats_at_most_one(
    root: Path, scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    records = []
    plant(volume, {"setup.sh": "", "setup.d/a.sh": ""})
    shell.acts = {
        "a.sh": lambda: records.append(json.loads((root / "run/scripts.json").read_text()))
    }
    run([scripts], Report())

    assert [1] == [len(record) for record in records]
    assert records[0][0].startswith(f"{volume}/setup.sh ")


def test_without_a_runtime_folder_they_run_and_the_step_says_that_it_keeps_no_record(
    scripts: SetupScripts, volume: Path, plant: Callable, shell: Shell
) -> None:
    from dataclasses import replace

    plant(volume, {"setup.sh": ""})
    bare = replace(scripts, runtime="")

    assert Todo("this machine keeps no record: they run at every set-up", (scripts.file,)) == (
        bare.check()
    )
    assert [Status.CHANGED] == [row.status for row in run([bare], Report()).rows]
    assert ["setup.sh"] == shell.ran
    assert os.devnull == shell.options[0]["log"]


@pytest.mark.parametrize("root", ["real"], indirect=True)
def test_a_real_script_runs_and_its_output_is_in_its_log(
    root: Path, scripts: SetupScripts, volume: Path, plant: Callable
) -> None:
    from dataclasses import replace

    from workspace_agent.host.command import run as really

    plant(volume, {"setup.sh": "echo out; echo err >&2; echo $A > made; exit 3"})
    real = replace(scripts, run=really, env={**os.environ, "A": "it's"})
    report = run([real], Report())

    assert ["exit code 3"] == [problem.why for problem in report.problems]
    assert "it's\n" == (volume / "made").read_text()
    assert "out\nerr\n" == (root / "run/logs/setup.sh.log").read_text()
