"""What is kept of files outside the volume, where, for whom: the terms of every rescue."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from workspace_agent.fastpath import BAKED
from workspace_agent.host import files
from workspace_agent.host.room import room
from workspace_agent.host.statx import is_added
from workspace_agent.model import layout
from workspace_agent.model.atrisk import Entry
from workspace_agent.model.problem import Problem
from workspace_agent.rescue.lines import Header
from workspace_agent.rescue.store import opened
from workspace_agent.watch.kinds import KINDS
from workspace_agent.watch.layer import mountinfo, root_mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import ExitStack

    from workspace_agent.app.facts import Facts
    from workspace_agent.app.survey import Ground
    from workspace_agent.config.schema import Profile, RescueSection
    from workspace_agent.rescue.run import Run
    from workspace_agent.watch.layer import Layer

# Disks of this machine alone: nobody else reads what root has written there with mode 0600.
_OWN_DISKS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay",
                        "plain folder"})  # fmt: skip

# What tells images apart where nobody named them: an image build changes at least one.
_MARKS = ("/etc/os-release", "/usr/lib/os-release", "/usr/bin", "/usr/lib", "/usr/local/bin",
          "/usr/local/lib", "/opt", "/srv", "/app", "/code", "/home")  # fmt: skip

# A tenth of the volume stays free, or this much of a large one.
_LEAST_FREE = 10 << 30

SHARED = "the volume is a file server's, which others may read: `rescue.secrets` is not `always`"

_RECIPES = {
    "pip": "noted in .workspace-agent/replay/captured.lock",
    "conda": "conda env export, and create it below the volume",
    "npm": "workspace-agent replay capture names them",
    "apt": "workspace-agent replay capture names them",
}


def owner(profile: Profile, environ: Mapping[str, str]) -> str:
    """Return whose files these are."""
    if profile.rescue.owner:
        return profile.rescue.owner
    name = environ.get("HOSTNAME") or os.uname().nodename
    stem, _, number = name.rpartition("-")
    is_ordinal = stem and number.isdigit() and len(number) < 4
    return name if is_ordinal and "KUBERNETES_SERVICE_HOST" in environ else "pods"


def refused(profile: Profile, facts: Facts) -> dict[str, str]:
    """Return the kinds that are not kept here, and why."""
    wish, kind = profile.rescue.secrets, facts.volume.kind
    if wish == "never":
        return {"secrets": "`rescue.secrets` is `never`"}
    return {"secrets": SHARED} if wish == "auto" and kind not in _OWN_DISKS else {}


def sorted_out(
    entries: Iterable[Entry], refuse: Mapping[str, str]
) -> tuple[list[Entry], list[tuple[Entry, str]]]:
    """Return what is kept as bytes, and the rest, each with why it is not."""
    wanted, left = [], []
    for one in entries:
        about = KINDS[one.kind]
        if one.kind in refuse:
            left.append((one, refuse[one.kind]))
        elif about.rescued == "bytes":
            wanted.append(one)
        elif about.value:
            left.append((one, _recipe(one)))
    return wanted, left


def _recipe(entry: Entry) -> str:
    """Say how *entry* is made again; a model's cache names what it holds."""
    if entry.kind == "models":
        _, _, rest = entry.path.partition("/models--")
        repo = rest.partition("/")[0].replace("--", "/")
        revision = rest.partition("/snapshots/")[2].partition("/")[0]
        version = f" --revision {revision}" if revision else ""
        return f"huggingface-cli download {repo}{version}" if repo else "it can be downloaded again"
    return _RECIPES.get(entry.kind, f"{KINDS[entry.kind].many or entry.kind} are not kept")


def summed(left: list[tuple[Entry, str]], most: int) -> list[tuple[Entry, str]]:
    """Return *left* with files of one folder, kind and reason as one entry: the folder."""
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for one, why in left:
        groups.setdefault((os.path.dirname(one.path), one.kind, why), []).append(one)
    found = [
        (each[0] if len(each) == 1 else
         replace(each[0], path=folder, size=sum(one.size for one in each)), why)
        for (folder, _, why), each in groups.items()
    ]  # fmt: skip
    return found[:most]


def whole(entries: Iterable[Entry], born: int) -> list[Entry]:
    """Return *entries*, each with whether it is new, after the folders above that are new, too."""
    found: list[Entry] = []
    known: set[str] = set()
    for one in entries:
        above = one.path.rpartition("/")[0]
        chain: list[Entry] = []
        while above and above not in known:
            known.add(above)
            try:
                info = os.lstat(above)
            except OSError:
                break
            if info.st_ctime_ns < born:
                break
            folder = Entry.of(above, one.kind, one.value, info)
            chain.append(replace(folder, added=is_added(above)))
            above = above.rpartition("/")[0]
        found += [*reversed(chain), replace(one, added=is_added(one.path))]
    return found


def header(facts: Facts, layer: Layer) -> Header:
    """Return the first line of this container's run."""
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Header(began, image(facts, layer), facts.environ.get("HOSTNAME", ""))


def image(facts: Facts, layer: Layer) -> str:
    """Name the image: by its own word, else by what it is made of, as far as that is untouched.

    That is when it was baked, how many layers it has, and the times of some of its folders.
    """
    if name := facts.environ.get("WORKSPACE_AGENT_IMAGE"):
        return name
    import hashlib

    _, options = root_mount(mountinfo())
    below = sum(1 + one.count(":") for one in options if one.startswith("lowerdir"))
    found: list[tuple[object, ...]] = [(below,)]
    for path in (f"{facts.root}/{BAKED}", *_MARKS):
        with suppress(OSError):
            info = os.lstat(path)
            is_its_own = info.st_ctime_ns < layer.born
            found.append((path, int(info.st_mtime) if is_its_own else "changed", info.st_mode))
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def run_name(facts: Facts, *, note: bool = True) -> str:
    """Return the name of this container's run, the same for whoever asks after a *note* of it."""
    path = f"{facts.runtime}/{layout.RESCUE_RUN}"
    name = os.fsdecode(files.read(path) or b"").strip()
    if not name:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        name = f"{stamp}-{facts.boot_id}"
        if note:
            files.commit(path, f"{name}\n")
    return name


def run_of(facts: Facts, here: Ground, rescue: RescueSection, stack: ExitStack) -> Run:
    """Open this container's run, and close it with *stack*; raises OSError."""
    owned = owner_of(facts, rescue)
    store = stack.enter_context(opened(facts.volume.path, owned, make=True))
    if store.used() > rescue.most // 2:
        store.prune()  # or one day there would be no room for anything new
    least = min(room(facts.volume.path).size // 10, _LEAST_FREE)
    first = header(facts, here.layer)
    run = store.begin(run_name(facts), first, min_free=least, most=rescue.most)
    return stack.enter_context(run)


def owner_of(facts: Facts, rescue: RescueSection) -> str:
    """Return whose files these are, by the profile's own section."""
    from workspace_agent.config.schema import Profile

    return owner(Profile(rescue=rescue), facts.environ)


@contextmanager
def locked(runtime: str) -> Iterator[None]:
    """Hold the lock of all rescues of this container: hooks and hands come at any time."""
    import fcntl

    fd = os.open(f"{runtime}/{layout.RESCUE_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def not_saved(error: OSError) -> Problem:
    """Say that the volume does not take what is to be kept."""
    return Problem(
        "rescue.not-saved",
        "files outside the volume are not being kept",
        f"{error.filename or 'the volume'}: {os.strerror(error.errno or 0)}",
        "make room on the volume, or make it writable; `workspace-agent at-risk` names them",
        str(error.filename or ""),
    )
