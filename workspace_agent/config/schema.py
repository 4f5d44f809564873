"""Every key of a profile: its type, its default, its rules and its documentation.

`docs/reference/profile.md` is rendered from this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from workspace_agent.config.placeholders import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

MIB = 1024 * 1024


def key(default: object, doc: str, kind: str = "text", **rules: object) -> Any:
    """Declare one key: *kind* says how it is read, *rules* what a value has to keep.

    Kinds: text, texts, flag, count, duration, size, vars (a table of variables), section, tables.
    Rules: `choices`, `least`, `most`, `takes` (placeholders), `form` (see `config.forms`), and
    `rest` for the field that stands for every other key of its own table.
    """
    metadata = {"doc": doc, "kind": kind, **rules}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def section(cls: type) -> Any:
    """Declare one table of keys, those of *cls*."""
    metadata = {"doc": cls.__doc__, "kind": "section", "section": cls}
    return field(default_factory=cls, metadata=metadata)


def tables(cls: type) -> Any:
    """Declare a list of tables, each with the keys of *cls*: `[[name]]`."""
    metadata = {"doc": cls.__doc__, "kind": "tables", "section": cls}
    return field(default=(), metadata=metadata)


@dataclass(frozen=True)
class VolumeSection:
    """Where the storage that survives pods is looked for."""

    candidates: tuple[str, ...] = key(
        ("/workspace",),
        "Where the volume may be mounted; globs such as `/mnt/*` are tried in name order,"
        " and the first real mount wins.",
        "texts",
        form="absolute",
    )
    required: bool = key(
        False, "Whether a pod without its volume must not start the workload.", "flag"
    )
    min_free: int = key(
        64 * MIB,
        "With less free space than this no home is copied, and the boot reports itself degraded.",
        "size",
    )
    deadline: float = key(
        30.0,
        "How long the volume may stay silent before the boot goes on without it.",
        "duration",
        least=0.1,
    )


@dataclass(frozen=True)
class HomeSection:
    """How the home directory comes to live on the volume."""

    mode: str = key(
        "auto",
        "How programs are brought to the home on the volume: `redirect` sets `HOME` and the"
        " account's entry, `links` links `home.links` from the image's home, `bind` mounts it over"
        " that (needs CAP_SYS_ADMIN), `copy` makes the first copy and leads nobody there, `off`"
        " makes none. `auto` is `redirect`, with `links` where the account's entry cannot be"
        " written.",
        choices=("auto", "bind", "redirect", "links", "copy", "off"),
    )
    path: str = key(
        "{volume}/home",
        "The home directory on the volume.",
        takes=("volume", "profile"),
        form="place",
    )
    marker: str = key(
        ".packet-init",
        "The file in it which says that the first copy is complete; remove it to get the image's"
        " defaults again, and your versions into a backup.",
        form="filename",
    )
    exclude: tuple[str, ...] = key(
        (),
        "What the first copy leaves out: globs relative to the image's home.",
        "texts",
        form="relative",
    )
    links: tuple[str, ...] = key(
        (".bash_history", ".gitconfig", ".config/", ".jupyter/", ".ipython/", ".local/share/"),
        "What mode `links` links into the home on the volume; a final `/` marks a folder.",
        "texts",
        form="relative",
    )
    upgrade: str = key(
        "report",
        "What a newer image's defaults do to a home that is there: `report` says which are new or"
        " changed, beside the workload; `unmodified` replaces, before it starts, those that you"
        " have not changed, adds the new ones, and puts what both sides changed beside; `off`"
        " does neither.",
        choices=("report", "unmodified", "off"),
    )
    threads: int = key(
        0,
        "How many threads make the first copy; 0 is as many as the volume asks for.",
        "count",
        least=0,
        most=64,
    )
    wait: float = key(
        60.0,
        "How long a first copy may hold up the workload before that starts with the image's home.",
        "duration",
    )


@dataclass(frozen=True)
class PropagateSection:
    """Which of the container's own variables reach every kind of shell."""

    allow: tuple[str, ...] = key(
        ("HF_*", "NCCL_*", "CUDA_*", "RUNPOD_*"),
        "Globs of the names that are passed on.",
        "texts",
        form="glob",
    )
    secret: tuple[str, ...] = key(
        ("*TOKEN*", "*KEY*", "*SECRET*", "*PASSWORD*"),
        "Globs of the names whose values are only ever written to files of mode 0600,"
        " and never to a log.",
        "texts",
        form="glob",
    )


@dataclass(frozen=True)
class EnvSection:
    """Variables for the workload and for every shell."""

    set: Mapping[str, str] = key(
        dict,
        "A variable and its value, whatever the container has set.",
        "vars",
        takes=NAMES,
        rest=True,
    )
    default: Mapping[str, str] = key(
        dict, "The same, only where the container has not set it.", "vars", takes=NAMES
    )
    propagate: PropagateSection = section(PropagateSection)


@dataclass(frozen=True)
class PathSection:
    """Where commands and Python packages on the volume are found."""

    prepend: tuple[str, ...] = key(
        ("{volume}/bin",), "Directories put in front of `PATH`.", "texts", takes=NAMES, form="place"
    )
    python: tuple[str, ...] = key(
        ("{volume}/pip-packages/{abi}",),
        "Package directories that the image's Python sees, by a `.pth` line.",
        "texts",
        takes=NAMES,
        form="place",
    )
    pythonpath: bool = key(
        True,
        "Whether they are in `PYTHONPATH` too; a directory that shadows the standard library"
        " never is.",
        "flag",
    )


@dataclass(frozen=True)
class ReplaySection:
    """Python packages that every container gets back."""

    mode: str = key(
        "overlay",
        "How packages are added to the image's: `overlay` lays an environment over them and leaves"
        " them alone, `inplace` adds to them and removes from them, `isolated` hides them,"
        " `pip-each-boot` runs pip at every boot, `off` does nothing.",
        choices=("overlay", "inplace", "isolated", "pip-each-boot", "off"),
    )
    dir: str = key(
        "{volume}",
        "Where the files that say which packages are looked for, when no `[[requirements]]` names"
        " them: `pylock.toml`, `uv.lock`, `requirements_<arch>.txt`, `requirements.txt`,"
        " `pyproject.toml`; the first that is there.",
        takes=NAMES,
        form="place",
    )
    on_conflict: str = key(
        "shadow",
        "When a file wants another version than the image has: `shadow` adds it, `keep-base` keeps"
        " the image's, `fail` adds nothing at all.",
        choices=("shadow", "keep-base", "fail"),
    )
    protected: tuple[str, ...] = key(
        ("torch", "torchvision", "torchaudio", "triton", "nvidia-*", "cuda-*", "xformers",
         "flash-attn", "vllm"),
        "Globs of packages whose replacement is told with what it costs at every restore.",
        "texts",
        form="glob",
    )  # fmt: skip
    trust: str = key(
        "always",
        "Which files are followed: `always` all, `pinned` those in which every package has one"
        " version or a hash, `never` none.",
        choices=("always", "pinned", "never"),
    )
    refresh: str = key(
        "on-change",
        "When packages without a version are looked up again: when a file changes, `daily`, or at"
        " `boot`.",
        choices=("on-change", "daily", "boot"),
    )
    wait: float = key(
        60.0,
        "How long packages may hold up the workload before that starts with those of the last good"
        " environment; 0 is for ever.",
        "duration",
    )
    capture: str = key(
        "report",
        "What becomes of packages installed by hand: `report` lists them on the volume, `replay`"
        " brings them back too, `off` does neither.",
        choices=("report", "replay", "off"),
    )
    options: tuple[str, ...] = key(
        (), "What mode `pip-each-boot` gives to `pip install`, beside the files.", "texts"
    )


@dataclass(frozen=True)
class WhenSection:
    """What the machine's cards have to be; every key that is set has to hold for every card."""

    arch: tuple[str, ...] = key(
        (),
        "Names of architectures; `blackwell` is 10, 11 and 12, whatever it is sold as.",
        "texts",
        choices=("volta", "turing", "ampere", "ada", "hopper", "blackwell"),
    )
    compute_capability: str = key(
        "",
        "Such as `8.6`, `>=10` or `>=8,<9`; only as many numbers count as are written, so that"
        " `10` is 10.0 and 10.3.",
        form="comparison",
    )
    driver: str = key("", "The driver's version, such as `>=570`.", form="comparison")
    cuda: str = key(
        "", "The newest CUDA that the driver takes, such as `>=12.8`.", form="comparison"
    )
    gpu_name: tuple[str, ...] = key(
        (), "Globs of the cards' names, such as `*5090*`, in any case.", "texts", form="glob"
    )
    gpu_count: str = key("", "How many cards, such as `>=2` or `0`.", form="comparison")


@dataclass(frozen=True)
class RequirementsRule:
    """Files of packages, and for which cards; the first that matches counts."""

    name: str = key(
        "",
        "What the rule is called; environments of each name are kept apart. Without one, a rule"
        " with a `when` is called as its first file is.",
        form="filename",
    )
    files: tuple[str, ...] = key((), "The files, relative to `replay.dir`.", "texts", takes=NAMES)
    when: WhenSection = section(WhenSection)
    extras: tuple[str, ...] = key((), "Extras of a pyproject.toml.", "texts")
    groups: tuple[str, ...] = key((), "Dependency groups of a pyproject.toml.", "texts")


@dataclass(frozen=True)
class ScriptsSection:
    """Your own scripts on the volume, run at boot."""

    enabled: bool = key(True, "Whether they are run.", "flag")
    file: str = key("{volume}/setup.sh", "The script that runs first.", takes=NAMES, form="place")
    dir: str = key(
        "{volume}/setup.d", "Scripts that run after it, in name order.", takes=NAMES, form="place"
    )
    timeout: float = key(300.0, "How long each of them may take.", "duration", least=0.1)


@dataclass(frozen=True)
class WatchSection:
    """Files outside the volume, which end with the container."""

    enabled: bool = key(
        True,
        "Whether a process beside the workload looks for them; without it none is kept, but by"
        " hand.",
        "flag",
    )
    hot: tuple[str, ...] = key(
        (),
        "Folders whose changes are seen at once, beside the image's home, the workload's own"
        " folder, `/data`, `/opt` and `/tmp`; six at the most, all others are looked at in turn.",
        "texts",
        form="absolute",
    )
    ignore: tuple[str, ...] = key(
        (),
        "What nobody would miss, in lines as in a `.gitignore`, from `/` on; so does a file"
        " `.workspace-agent/ignore` on the volume.",
        "texts",
    )


@dataclass(frozen=True)
class RescueSection:
    """What becomes of files outside the volume that would be missed."""

    mode: str = key(
        "auto",
        "When they are kept on the volume: `auto` while they are written, where they are small and"
        " precious, and the rest when the pod ends; `stop` only when it ends; `off` never.",
        choices=("auto", "stop", "off"),
    )
    budget: float = key(
        25.0,
        "How long that may take when the workload has ended by itself; when the pod is told to"
        " end, it is what `workload.grace` leaves.",
        "duration",
        least=1,
    )
    small: int = key(64 * MIB, "Larger files are kept only when the pod ends.", "size")
    most: int = key(10 * 1024 * MIB, "What they may take on the volume, all together.", "size")
    secrets: str = key(
        "auto",
        "Whether private keys and tokens are kept: `always`, `never`, or, with `auto`, where the"
        " volume is no file server's that others may read.",
        choices=("auto", "always", "never"),
    )
    owner: str = key(
        "",
        "Whose they are, where several pods share a volume: a pod gets back what one of the same"
        " owner kept. Empty: the pod's name where that ends with a number, as in a StatefulSet,"
        " else `pods`.",
        form="filename-or-empty",
    )
    back: tuple[str, ...] = key(
        (
            "secrets",
            "notebooks",
            "code",
            "git",
            "databases",
            "trackers",
            "config",
            "documents",
            "other",
        ),
        "Kinds of files that the next boot puts back by itself, up to `rescue.back_most`;"
        " `workspace-agent rescue restore` brings the others.",
        "texts",
        choices=(
            "secrets",
            "notebooks",
            "code",
            "git",
            "checkpoints",
            "databases",
            "trackers",
            "config",
            "documents",
            "other",
        ),
    )
    wait: float = key(
        30.0,
        "How long that may hold up the workload before that starts, and the rest comes beside it;"
        " 0 is for ever.",
        "duration",
    )
    back_most: int = key(
        1024 * MIB, "How much of it a boot puts back by itself, the most valuable first.", "size"
    )


@dataclass(frozen=True)
class CheckpointSection:
    """The running processes, in images that bring CRIU (Dockerfile.placeholder)."""

    mode: str = key(
        "auto",
        "When they are frozen for the next pod to go on with: `auto` when the pod is told to end,"
        " if that fits into `workload.grace`; `manual` only by `workspace-agent checkpoint`; `off`"
        " never, and what is there is not restored either.",
        choices=("auto", "manual", "off"),
    )
    fallback: str = key(
        "cold",
        "What follows when they cannot be restored: `cold` starts the workload afresh, `older`"
        " tries the version before once and then does the same, `fail` starts nothing.",
        choices=("cold", "older", "fail"),
    )
    criu: str = key("/opt/criu/criu", "CRIU, 4.2 or newer.", form="absolute")
    floor: int = key(
        500,
        "The workload's process numbers begin here; those below are the agent's in the next pod.",
        "count",
        least=300,
        most=30000,
    )
    tcp: str = key(
        "close",
        "What becomes of connections: `close` ends them for the workload, `established` keeps them,"
        " which needs CAP_NET_ADMIN and the same address.",
        choices=("close", "established"),
    )
    trial: str = key(
        "auto",
        "Whether a checkpoint is restored once beside the workload before it counts: `required`,"
        " `never`, or, with `auto`, where the container may make the namespaces for it.",
        choices=("auto", "required", "never"),
    )
    timeout: float = key(600.0, "How long one may take that no grace limits.", "duration", least=1)
    keep: int = key(2, "How many versions of a workload are kept.", "count", least=1, most=100)
    most: int = key(
        100 * 1024 * MIB, "What all of them may take on the volume; the newest stays.", "size"
    )
    hooks: str = key(
        "{volume}/checkpoint.d",
        "The folder with programs for before and after: `before.d` and `after.d`.",
        takes=NAMES,
        form="place",
    )
    http: str = key(
        "",
        "Where the workload listens for the same on this machine, such as `http://127.0.0.1:8000`;"
        " it gets POST `/checkpoint/before` and `/checkpoint/after`.",
        form="loopback-or-empty",
    )
    env: tuple[str, ...] = key(
        (),
        "Globs of the variables whose values have to be the same for a workload to be the same.",
        "texts",
        form="glob",
    )
    identity: str = key("", "Any text; another one is another workload.")
    secret: str = key(
        "",
        "A file with the secret that checkpoints are signed with; without one they are trusted as"
        " the volume is.",
        form="absolute-or-empty",
    )


@dataclass(frozen=True)
class WorkloadSection:
    """The command this container is for."""

    command: tuple[str, ...] = key(
        (), "What runs when the container was given no command; empty: nothing.", "texts"
    )
    needs: tuple[str, ...] = key(
        ("env", "scripts"),
        "What has to be finished before it starts; the rest of the boot runs beside it.",
        "texts",
        choices=("volume", "home", "env", "scripts"),
    )
    grace: float = key(
        25.0, "How long it may take to stop after a TERM before it is killed.", "duration"
    )


@dataclass(frozen=True)
class ReportSection:
    """What a boot says, and where."""

    banner: bool = key(True, "Whether shells greet with what the last boot found.", "flag")
    history: int = key(20, "How many reports are kept on the volume.", "count", least=0, most=1000)
    termination_log: str = key(
        "/dev/termination-log",
        "Where the reason is written when the agent cannot go on; empty: nowhere.",
        form="absolute-or-empty",
    )


@dataclass(frozen=True)
class Profile:
    """What an image wants to have done at boot."""

    schema: int = key(1, "The version of this format.", "count", choices=(1,))
    name: str = key(
        "persistent-workspace",
        "What `{profile}` stands for; not inherited, a file's own name when it is not given.",
        form="filename",
    )
    description: str = key(
        "Home, environment and setup scripts live on the volume.", "One line; not inherited."
    )
    extends: tuple[str, ...] = key(
        (),
        "Profiles this one starts from, by name or by path relative to this file; later ones"
        " win. One that is reached twice counts at its first place.",
        "texts",
    )
    volume: VolumeSection = section(VolumeSection)
    home: HomeSection = section(HomeSection)
    env: EnvSection = section(EnvSection)
    path: PathSection = section(PathSection)
    replay: ReplaySection = section(ReplaySection)
    requirements: tuple[RequirementsRule, ...] = tables(RequirementsRule)
    scripts: ScriptsSection = section(ScriptsSection)
    watch: WatchSection = section(WatchSection)
    rescue: RescueSection = section(RescueSection)
    checkpoint: CheckpointSection = section(CheckpointSection)
    workload: WorkloadSection = section(WorkloadSection)
    report: ReportSection = section(ReportSection)


def walk(cls: type = Profile, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the dataclass field of every key, tables before what is in them."""
    for one in fields(cls):
        here = at if one.metadata.get("rest") else (*at, one.name)
        yield here, one
        if (inner := one.metadata.get("section")) and one.metadata["kind"] == "section":
            yield from walk(inner, here)
