"""What is kept of files outside the volume, for whom, and what is said of the rest."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from workspace_agent.app import at_risk, gone, notices, rescues, survey
from workspace_agent.app import keeping as module
from workspace_agent.app.engine import Opening
from workspace_agent.app.keeping import Keeping
from workspace_agent.config.schema import Profile, RescueSection
from workspace_agent.model.atrisk import Entry
from workspace_agent.model.words import named
from workspace_agent.rescue.lines import Left, Saved
from workspace_agent.rescue.saving import Outcome
from workspace_agent.rescue.store import Content, Store
from workspace_agent.steps.volume import Choice
from workspace_agent.watch.kinds import KINDS
from workspace_agent.watch.layer import Layer

KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def entry(path: str, kind: str, size: int = 10) -> Entry:
    return Entry(path, kind, KINDS[kind].value, 0o100644, 0, 0, size, 4096, 1, 1, 1, 1, 1)


def profile(**fields: object) -> Profile:
    return replace(Profile(), rescue=replace(RescueSection(), **fields))


@pytest.mark.parametrize(
    ("owner", "environ", "said"),
    [
        ("mine", {"HOSTNAME": "web-0", **KUBERNETES}, "mine"),
        ("", {"HOSTNAME": "web-0", **KUBERNETES}, "web-0"),
        ("", {"HOSTNAME": "web-12", **KUBERNETES}, "web-12"),
        ("", {"HOSTNAME": "web-7d9f8b6c5-x2x9z", **KUBERNETES}, "pods"),
        ("", {"HOSTNAME": "job-1732000000", **KUBERNETES}, "pods"),
        ("", {"HOSTNAME": "web-0"}, "pods"),
        ("", {"HOSTNAME": "-0", **KUBERNETES}, "pods"),
    ],
)
def test_a_pod_gets_what_its_own_owner_left(owner: str, environ: dict, said: str) -> None:
    assert said == rescues.owner(profile(owner=owner), environ)


@pytest.mark.parametrize(
    ("wish", "kind", "kept"),
    [
        ("auto", "ext4", True),
        ("auto", "xfs", True),
        ("auto", "nfs4", False),
        ("auto", "cifs", False),
        ("auto", "fuse.s3fs", False),
        ("auto", "ceph", False),
        ("auto", "some-new-one", False),
        ("always", "nfs4", True),
        ("never", "ext4", False),
    ],
)
def test_keys_stay_off_a_server_that_others_read(
    wish: str, kind: str, kept: bool, tmp_path: Path, facts: Callable
) -> None:
    here = facts(tmp_path, volume=Choice(f"{tmp_path}/volume", True, kind))
    refuse = rescues.refused(profile(secrets=wish), here)

    wanted, left = rescues.sorted_out([entry("/root/.ssh/id", "secrets")], refuse)

    assert (kept, not kept) == (bool(wanted), bool(left))


def test_recipes_and_data_are_named_and_not_copied() -> None:
    snapshot = "/root/.cache/huggingface/hub/models--org--tiny/snapshots/abc/config.json"
    every = [
        entry("/root/a.ipynb", "notebooks"), entry(snapshot, "models"), entry("/d/x", "datasets"),
        entry("/usr/lib/python3/dist-packages/x.py", "pip"), entry("/x.pyc", "hidden"),
    ]  # fmt: skip

    wanted, left = rescues.sorted_out(every, {})

    assert ["/root/a.ipynb"] == [one.path for one in wanted]
    said = {one.kind: why for one, why in left}
    assert {"models", "datasets", "pip"} == said.keys()
    assert "huggingface-cli download org/tiny --revision abc" == said["models"]
    assert "captured.lock" in said["pip"]


def test_what_is_left_of_one_folder_is_one_line() -> None:
    left = [(entry(f"/d/{n}", "datasets"), "no") for n in range(5)]
    left += [(entry("/e/1", "datasets"), "no"), (entry("/d/9", "pip"), "no")]

    found = rescues.summed(left, 10)

    assert [("/d", 50), ("/e/1", 10), ("/d/9", 10)] == [(one.path, one.size) for one, _ in found]
    assert 1 == len(rescues.summed(left, 1))


@pytest.mark.parametrize(
    ("paths", "where"),
    [
        (["/a/x.py"], "/a/x.py"),
        (["/a/x.py", "/a/y.py"], "/a"),
        (["/a/b/x", "/a/c/y"], "/a"),
        (["/a/x", "/b/y"], "/a"),
    ],
)
def test_advice_names_one_place_and_never_the_root(paths: list[str], where: str) -> None:
    assert where == at_risk.common([entry(path, "code") for path in paths])


def test_advice_survives_a_shell() -> None:
    assert "mv '/a b; rm -rf x' /v/" in at_risk.advice("documents", "/a b; rm -rf x", "/v", "/h")


@pytest.mark.parametrize(
    ("where", "path"),
    [("/root", "/root/*"), ("/root/a", "/root/a"), ("/home/u", "/home/u/*"), ("/blob", "/blob")],
)
def test_advice_moves_no_home_away(where: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.isdir", lambda at: at != "/blob")

    assert f"mv {path} /v/" in at_risk.advice("code", where, "/v", "/h")


@pytest.mark.parametrize("where", ["/usr", "/etc", "/usr/bin", "/var"])
def test_nobody_is_told_to_move_the_system(where: str) -> None:
    for kind in KINDS:
        assert where not in at_risk.advice(kind, where, "/v", "/h")


def test_a_name_that_is_no_text_has_its_bytes_beside() -> None:
    assert {"path": "/a\nb"} == named("/a\nb")
    assert {"path": "/\\udcff", "b64": "L/8="} == named("/\udcff")


def test_status_shows_the_dearest_first() -> None:
    watch = {
        "mode": "exact", "kept": {"on": True, "files": 2, "waiting": 1}, "disk": {"line": "full"},
        "at_risk": {
            "cache": {"files": 9, "bytes": 9, "value": 5},
            "code": {"files": 1, "bytes": 4096, "value": 90},
            "notebooks": {"files": 2, "bytes": 8192, "value": 95},
        },
    }  # fmt: skip

    rows = dict(notices.rows(watch))

    assert "2 files of notebooks (8.0 KiB), 1 file of code (4.0 KiB)" == rows["outside the volume"]
    assert "2 kept, 1 waiting" == rows["rescue"]
    assert [] == notices.rows({})


class Past:
    """What earlier containers noted, told to `why-gone`."""

    def __init__(self, at: Path, facts: Callable) -> None:
        self.opening = Opening(Profile(), facts(at), None)
        self.content = Content()

    def why(self, path: str) -> str:
        return " / ".join(gone._path(self.opening, path, [("20260101T000000Z-x", self.content)]))


@pytest.fixture
def past(tmp_path: Path, facts: Callable) -> Past:
    return Past(tmp_path, facts)


def test_why_gone_knows_what_is_kept_and_how_it_comes_back(past: Past) -> None:
    past.content.add(Saved("/gone/x.pt", "f", 0o644, 0, 0, 1, 10**18, kind="checkpoints"))

    assert "workspace-agent rescue restore /gone/x.pt" in past.why("/gone/x.pt")
    assert "2001-09-09" in past.why("/gone/x.pt")


def test_why_gone_knows_what_was_not_kept_and_what_keeps_it(past: Past) -> None:
    past.content.add(Left("/gone/data", "datasets", 5, "data sets are not kept"))

    said = past.why("/gone/data/part-1")

    assert "data sets are not kept" in said
    assert "keep: put data below" in said


def test_why_gone_says_when_nobody_knows(past: Past) -> None:
    assert "no container has noted it" in past.why("/gone/other")
    assert "is here" in past.why("/")
    assert "was on the volume" in past.why(f"{past.opening.facts.volume.path}/x")


def test_a_volume_that_is_gone_while_it_is_kept_on_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        def length(self) -> int:
            raise OSError(errno.ENOTCONN, "")

        close = length

    keeping = object.__new__(Keeping)
    keeping._facts = SimpleNamespace(runtime=str(tmp_path))
    keeping._run, keeping._length, keeping._open = Gone(), 5, ExitStack()
    keeping._open.callback(Gone().close)
    monkeypatch.setattr(Keeping, "_opened", lambda self: self._run)

    with keeping._locked() as run:
        assert run is None


def idle(run: object, monkeypatch: pytest.MonkeyPatch) -> Keeping:
    """Return what keeps things on a volume as *run*, and has nothing to keep."""
    keeping = object.__new__(Keeping)
    keeping.is_on, keeping._pending, keeping._here_once = True, {}, set()
    keeping._due = keeping._gone_due = 0.0
    keeping._has_more = False
    keeping._saved = keeping._bytes = 0
    keeping._run, keeping._root, keeping.refused = run, None, {}
    keeping._here, keeping._written = SimpleNamespace(layer=SimpleNamespace(born=0)), set
    keeping._problem = None
    monkeypatch.setattr(Keeping, "_locked", lambda self: nullcontext(run))
    return keeping


@pytest.mark.parametrize("is_begun", [True, False])
def test_what_was_put_back_and_is_gone_is_noted_where_nothing_else_is_kept(
    is_begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or every boot brings back again what its owner has removed."""
    looks: list = []
    keeping = idle(None, monkeypatch)
    keeping._is_begun = is_begun
    monkeypatch.setattr(Keeping, "_forget", lambda self, run: looks.append(run))

    keeping.on_time(1.0, None)

    assert is_begun == bool(looks)


@pytest.mark.parametrize(("count", "is_measured"), [(500, False), (2, True)])
def test_small_files_say_nothing_of_the_volumes_bandwidth(
    count: int, is_measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or no checkpoint would be tried when the pod ends."""
    done = Outcome(saved=count, bytes=4 << 20, secs=2.0)
    keeping = idle(SimpleNamespace(save=lambda *_: done), monkeypatch)
    keeping.rate = 5e7

    keeping._save([], None)

    assert is_measured == (keeping.rate != 5e7)


def test_a_tree_of_generated_files_waits_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the watcher would have all of them in its memory."""
    monkeypatch.setattr(module, "_WAITING", 2)
    keeping = idle(None, monkeypatch)
    keeping._rescue, keeping._is_begun = RescueSection(), False
    inventory = SimpleNamespace(fresh=9)
    for n in range(3):
        keeping.take(entry(f"/root/{n}.py", "code"))
    assert 2 == len(keeping._pending)

    keeping._pending.clear()  # they are kept by now

    assert keeping.on_time(1.0, inventory)
    assert not keeping.on_time(9.0, inventory)
    assert 0 == inventory.fresh, "the third is heard of again"


def test_what_is_kept_as_it_is_does_not_wait_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Saved("/root/a.py", "f", 0o644, 0, 0, 10, 1, kind="code")
    run = SimpleNamespace(own=SimpleNamespace(saved={"/root/a.py": kept}))
    keeping = idle(run, monkeypatch)
    keeping._rescue = RescueSection()

    keeping.take(entry("/root/a.py", "code"))
    assert not keeping._pending

    keeping.take(entry("/root/a.py", "code", size=11))
    assert keeping._pending
    monkeypatch.setattr(module, "_KEPT", 1)
    keeping.take(entry("/root/one-too-many.py", "code"))
    assert "/root/one-too-many.py" not in keeping._pending


def test_a_notice_names_the_folder_that_all_are_in(tmp_path: Path, facts: Callable) -> None:
    said = notices.Notices(Profile(), facts(tmp_path), None, None, print)
    where = []
    for path in ("/a/b/1.py", "/a/b/2.py", "/a/3.py", "/a/b/4.py", "/c/5.py"):
        said.take(entry(path, "code"))
        where.append(said._where["code"])

    assert ["/a/b", "/a/b", "/a", "/a", "/"] == where


def test_no_advice_is_ever_about_the_root(tmp_path: Path, facts: Callable) -> None:
    lines: list[str] = []
    who = SimpleNamespace(__str__=lambda: "")
    saying = notices.Notices(Profile(), facts(tmp_path), None, lambda *_: who, lines.append)
    for path in ("/a/1.py", "/c/5.py"):
        saying.take(entry(path, "code"))

    saying._advise("code", 2, 1 << 30, 1e9)

    assert "in /c" in lines[0]
    assert " / " not in lines[0]
    assert "//" not in lines[0]


def test_an_empty_dir_is_told_by_its_path_on_the_node() -> None:
    text = (
        "1 0 8:1 /var/lib/kubelet/pods/x/volumes/kubernetes.io~empty-dir/s /scratch rw - ext4 d rw"
        "\n2 0 8:1 /data/claim /workspace rw - ext4 d rw\nbroken\n"
    )

    assert {"/scratch"} == survey.empty_dirs(text)


def test_old_runs_go_before_there_is_no_room_for_new_ones(
    tmp_path: Path, facts: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, layer = facts(tmp_path), Layer("exact", 1, 1)
    for path in (here.volume.path, here.runtime):
        Path(path).mkdir()
    pruned: list[str] = []
    monkeypatch.setattr(Store, "prune", lambda self: pruned.append("pruned"))
    for most, wanted in ((1 << 30, []), (0, ["pruned"])):
        with ExitStack() as stack:
            run = rescues.run_of(
                here, SimpleNamespace(layer=layer), replace(RescueSection(), most=most), stack
            )
            run.write([Left("/a", "other", 1, "why")])
        with ExitStack() as stack:
            rescues.run_of(
                here, SimpleNamespace(layer=layer), replace(RescueSection(), most=most), stack
            )
        assert wanted == pruned[:1]
