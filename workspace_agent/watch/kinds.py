"""What kinds of files there are outside the volume, and what would have kept each.

A table of values; `classify` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind: how much it is worth (0 to 100), and how it is brought over.

    *rescued* is `bytes`, `recipe` (what it was made from), or `no`. The *advice* is a command that
    keeps it next time, with `{path}`, `{volume}` and `{home}` to be filled in.
    """

    value: int
    rescued: str
    advice: str
    many: str = ""  # what people call several of them


KINDS: dict[str, Kind] = {
    "secrets": Kind(
        100, "bytes", "mv {path} {home}/ (0600), or use the platform's secrets", "keys and tokens"
    ),
    "notebooks": Kind(
        95, "bytes", "mv {path} {volume}/ and start Jupyter with --ServerApp.root_dir={volume}"
    ),
    "code": Kind(90, "bytes", "mv {path} {volume}/, and work there"),
    "checkpoints": Kind(85, "bytes", "have them written below {volume}: output_dir={volume}/runs"),
    "databases": Kind(80, "bytes", "have it written below {volume}: mv {path} {volume}/"),
    "trackers": Kind(
        80, "bytes", "export MLFLOW_TRACKING_URI=file:{volume}/mlruns WANDB_DIR={volume}",
        "records of experiments",
    ),
    "git": Kind(75, "bytes", "git clone below {volume}: mv {path} {volume}/", "repositories"),
    "config": Kind(70, "bytes", "write it into {home}, or have {volume}/setup.sh write it"),
    "documents": Kind(70, "bytes", "mv {path} {volume}/"),
    "other": Kind(50, "bytes", "mv {path} {volume}/", "other files"),
    "datasets": Kind(40, "no", "put data below {volume}: mv {path} {volume}/"),
    "pip": Kind(35, "recipe", "name them in {volume}/requirements.txt", "Python packages"),
    "conda": Kind(35, "recipe", "conda create --prefix {volume}/envs/NAME", "conda environments"),
    "models": Kind(30, "recipe", "export HF_HOME={volume}/huggingface", "downloaded models"),
    "npm": Kind(30, "recipe", "npm install -g in {volume}/setup.sh", "npm packages"),
    "apt": Kind(20, "recipe", "apt-get install in {volume}/setup.sh, or in the image",
                "system packages"),
    "logs": Kind(10, "no", "have them written below {volume}"),
    "temporary": Kind(10, "no", "export TMPDIR={volume}/tmp", "temporary files"),
    "cache": Kind(5, "no", "export XDG_CACHE_HOME={volume}/cache", "caches and builds"),
    "hidden": Kind(0, "no", "", "hidden files"),
}  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# From here on a file is kept while it is there, and not only at the end.
PRECIOUS = 70

NOTEBOOKS = frozenset({"ipynb"})
CODE = _words(
    "py pyx pyi sh bash zsh fish c cc cpp cxx h hh hpp cu cuh rs go java kt scala js jsx ts "
    "tsx r jl lua pl rb php swift m mm f90 sql tf proto cmake mk dockerfile tex ipy"
)
CHECKPOINTS = frozenset({"pt", "pth", "ckpt", "safetensors", "bin", "h5", "keras", "msgpack",
                         "distcp", "gguf", "onnx", "npz", "pkl"})  # fmt: skip
DATABASES = frozenset(
    f"{name}{end}"
    for name in ("db", "sqlite", "sqlite3", "db3", "duckdb")
    for end in ("", "-wal", "-shm", "-journal", ".wal")
)
DOCUMENTS = _words(
    "txt md rst csv tsv json jsonl yaml yml toml ini cfg conf log pdf html svg png jpg jpeg "
    "gif xlsx docx odt ods pptx diff patch lock out err env"
)
DATA = _words(
    "parquet arrow feather tfrecord tfrecords tar tgz gz zst xz bz2 zip 7z npy npz jpg jpeg "
    "png webp mp4 mkv wav flac mp3 hdf5 h5 lmdb mdb webdataset csv jsonl json bin idx txt"
)
KEYS = frozenset({"pem", "key", "p12", "pfx", "ppk", "kdbx", "asc", "gpg"})
KEY_NAMES = frozenset({
    ".netrc", ".git-credentials", ".pgpass", ".env", "credentials.json", "token", "stored_tokens",
    ".npmrc", ".pypirc", "kaggle.json", "service-account.json", ".vault-token",
})  # fmt: skip
KEY_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".kube", ".azure", ".gcloud", ".docker"})

# Smaller ones are parts of a program, or of its tests.
CHECKPOINT_BYTES = 10 << 20

# Data that somebody made by hand is smaller, and there is less of it in one folder.
DATA_BYTES, DATA_FILES = 20 << 20, 1000

CACHES = frozenset({
    ".cache", "__pycache__", "node_modules", ".tox", ".nox", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".ipynb_checkpoints", ".triton", ".nv", "torchinductor", ".npm", ".cargo",
    ".rustup", ".vscode-server", ".cursor-server",
})  # fmt: skip
# What programs keep of their users among what they can make again.
KEPT_IN_CACHES = frozenset({"token", "stored_tokens", "credentials.toml"})
TRACKERS = frozenset({"mlruns", "wandb", "lightning_logs", "tensorboard", "tb_logs", ".aim",
                      ".neptune"})  # fmt: skip
