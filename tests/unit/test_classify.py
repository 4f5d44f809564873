"""What kind a file is."""

from __future__ import annotations

import os
import stat

import pytest

from workspace_agent.watch import kinds
from workspace_agent.watch.classify import Classifier, Ground

MIB = 1 << 20


def info(size: int = 100, mode: int = stat.S_IFREG | 0o644) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, 0, 0, size, 0, 0, 0))


def owner(path: str, _: os.stat_result) -> str:
    owned = {"numpy": "pip", "edited.py": "edited", "htop": "apt"}
    return next((kind for name, kind in owned.items() if name in path), "")


def kind_of(path: str, size: int = 100, beside: tuple[str, ...] = (), mode: int = 0) -> str:
    """Return the kind of *path*; *beside* are names in its own folder."""
    classifier = Classifier({"/root"}, owner)
    folder, _, name = path.rpartition("/")
    ground = classifier.ground(Ground(), "", (), 0)
    parts = folder.strip("/").split("/") if folder else []
    for n in range(len(parts)):
        inner = parts[n + 1 : n + 2] or [name, *beside]
        ground = classifier.ground(ground, "/" + "/".join(parts[: n + 1]), inner, 0)
    return classifier.kind(ground, name, info(size, mode or stat.S_IFREG | 0o644))


@pytest.mark.parametrize(
    ("path", "size", "kind"),
    [
        ("/root/.ssh/id_ed25519", 100, "secrets"),
        ("/root/.ssh/known_hosts", 100, "secrets"),
        ("/data/server.pem", 100, "secrets"),
        ("/root/.netrc", 100, "secrets"),
        ("/app/.env", 100, "secrets"),
        ("/root/.cache/huggingface/token", 40, "secrets"),
        ("/root/work.ipynb", 100, "notebooks"),
        ("/tmp/scratch.ipynb", 100, "notebooks"),
        ("/data/train.py", 100, "code"),
        ("/app/Makefile", 100, "code"),
        ("/usr/local/lib/python3.11/site-packages/edited.py", 100, "code"),
        ("/usr/local/lib/python3.11/site-packages/mine.py", 100, "code"),
        ("/usr/local/lib/python3.11/site-packages/numpy/core.py", 100, "pip"),
        ("/data/run/step-100.pt", 20 * MIB, "checkpoints"),
        ("/tmp/model.safetensors", 20 * MIB, "checkpoints"),
        ("/data/labels.bin", 100, "other"),
        ("/data/app.sqlite3", 100, "databases"),
        ("/data/app.sqlite3-wal", 100, "databases"),
        ("/data/mlruns/0/meta", 100, "trackers"),
        ("/data/events.out.tfevents.17", 100, "trackers"),
        ("/data/repo/.git/objects/ab/cd", 100, "git"),
        ("/root/.bashrc", 100, "config"),
        ("/root/.config/app/settings", 100, "config"),
        ("/etc/nginx/nginx.conf", 100, "config"),
        ("/root/notes.txt", 100, "documents"),
        ("/results/table.csv", 100, "documents"),
        ("/data/part-0001.parquet", 50 * MIB, "datasets"),
        ("/root/.cache/huggingface/hub/models--a--b/blobs/x", 50 * MIB, "models"),
        ("/root/.cache/pip/http/a", 100, "cache"),
        ("/app/node_modules/x/index.js", 100, "cache"),
        ("/usr/lib/node_modules/x/index.js", 100, "npm"),
        ("/usr/bin/htop", 100, "apt"),
        ("/usr/bin/mine", 100, "other"),
        ("/tmp/x", 100, "temporary"),
        ("/var/log/app.log", 100, "logs"),
        ("/app/__pycache__/a.pyc", 100, "hidden"),
        ("/var/lib/apt/lists/x", 100, "hidden"),
        ("/blob", 100, "documents"),
        ("/root/proj/poetry.lock", 100, "documents"),
        ("/root/run.lock", 0, "hidden"),
        ("/root/proj/pkgs/server.go", 100, "code"),
        ("/root/.cargo/credentials.toml", 100, "secrets"),
        ("/root/.local/bin/numpy-config", 100, "pip"),
        ("/root/.local/bin/mine.sh", 100, "code"),
        ("/opt/venv/bin/activate", 100, "pip"),
        ("/opt/venv/pyvenv.cfg", 100, "pip"),
    ],
)
def test_a_file_is_of_a_kind(path: str, size: int, kind: str) -> None:
    assert kind == kind_of(path, size)


@pytest.mark.parametrize("mode", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR])
def test_what_is_no_file_is_hidden(mode: int) -> None:
    assert "hidden" == kind_of("/data/thing.py", mode=mode)


def test_a_cache_says_so_itself() -> None:
    assert "code" == kind_of("/data/target/thing.rs")
    assert "cache" == kind_of("/data/target/thing.rs", beside=("CACHEDIR.TAG",))


def test_a_cache_that_holds_models_is_one_all_the_same() -> None:
    classifier = Classifier({"/root"})
    home = classifier.ground(classifier.ground(Ground(), "", (), 0), "/root", (), 0)
    cache = classifier.ground(home, "/root/.cache", {"huggingface", "pip"}, 0)
    hub = classifier.ground(cache, "/root/.cache/huggingface", {"hub", "token"}, 0)
    model = classifier.ground(hub, "/root/.cache/huggingface/models--a--b", {"blobs"}, 0)

    assert "cache" == classifier.kind(cache, "fonts.json", info())
    assert "secrets" == classifier.kind(hub, "token", info())
    assert "cache" == classifier.kind(hub, "version.txt", info())
    assert "models" == classifier.kind(model, "x", info())


def test_only_condas_own_folder_of_packages_is_a_cache() -> None:
    classifier = Classifier()
    conda = classifier.ground(Ground(), "/opt/conda", {"conda-meta", "pkgs"}, 0)

    assert "cache" == classifier.ground(conda, "/opt/conda/pkgs", (), 0).whole
    assert "" == classifier.ground(Ground("/data"), "/data/pkgs", (), 0).whole


def test_what_is_below_a_work_tree_is_code() -> None:
    classifier = Classifier({"/root"})
    tree = classifier.ground(Ground(), "/data/repo", {".git", "data"}, 0)
    below = classifier.ground(tree, "/data/repo/data", {"weights.xyz"}, 0)

    assert "code" == classifier.kind(below, "weights.xyz", info())


def test_many_data_files_are_a_data_set() -> None:
    classifier = Classifier()
    few = classifier.ground(Ground(), "/data/plots", (), 20)
    many = classifier.ground(Ground(), "/data/images", (), kinds.DATA_FILES)

    assert "documents" == classifier.kind(few, "a.png", info())
    assert "datasets" == classifier.kind(many, "a.png", info())


def test_every_kind_has_a_value_and_a_way() -> None:
    assert all(0 <= one.value <= 100 for one in kinds.KINDS.values())
    assert {"bytes", "recipe", "no"} == {one.rescued for one in kinds.KINDS.values()}
    for one in kinds.KINDS.values():
        one.advice.format(path="/p", volume="/v", home="/h")
