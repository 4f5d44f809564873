"""`artifacts export` and `import`: one checkpoint as a tar, to be carried to another volume."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

from workspace_agent.app import checkpoints
from workspace_agent.app.artifact_verbs import bench_of, version_of, wrong_in
from workspace_agent.app.session import Told
from workspace_agent.checkpoint import artifact
from workspace_agent.model.problem import AgentError, Problem

if TYPE_CHECKING:
    from workspace_agent.app.checkpoints import Bench
    from workspace_agent.app.session import Session
    from workspace_agent.checkpoint.artifact import Version
    from workspace_agent.host.safe_root import SafeRoot

# What a version consists of, for a tar of it: these, and the images.
_OWN = (artifact.MANIFEST, artifact.SIGNATURE, artifact.CARRIED)


def export(session: Session, which: str, file: str) -> Told:
    """Write one as a tar, readable for its owner only."""
    with version_of(session, which) as (shelf, version):
        try:
            with shelf.top.folder(f"versions/{version.name}") as folder:
                _pack(version, folder, file)
        except OSError as error:
            why, fix = os.strerror(error.errno or 0), "name a file in a folder that has room"
            what = "the checkpoint was not exported"
            raise AgentError(Problem("checkpoint.not-exported", what, why, fix, file)) from error
    return Told([f"{version.name} is in {file}"], {"file": file, "version": version.name})


def _pack(version: Version, folder: SafeRoot, file: str) -> None:
    names = [*filter(folder.look, _OWN), *sorted(version.manifest["files"])]
    with open(file, "wb", opener=_private) as out, tarfile.open(fileobj=out, mode="w|") as packed:
        for name in dict.fromkeys(names):
            with open(folder.open(name, os.O_RDONLY), "rb") as source:
                packed.addfile(packed.gettarinfo(arcname=name, fileobj=source), source)


def _private(file: str, flags: int) -> int:
    fd = os.open(file, flags, 0o600)
    os.fchmod(fd, 0o600)  # of one that was there
    return fd


def take_in(session: Session, file: str) -> Told:
    """Take in a tar of one; raises AgentError unless all of it is as its manifest says."""
    try:
        with tarfile.open(file) as packed:
            return _taken_in(bench_of(session), packed, file)
    except tarfile.TarError as error:
        raise AgentError(_foreign(file, "it is no tar archive, or not all of one")) from error


def _taken_in(bench: Bench, packed: tarfile.TarFile, file: str) -> Told:
    members = {one.name: one for one in packed.getmembers() if one.isreg()}
    said = members.get(artifact.MANIFEST)
    source = packed.extractfile(said) if said else None
    manifest = artifact.decoded(source.read() if source else b"")
    if manifest is None:
        raise AgentError(_foreign(file, "it has no manifest"))
    workload, name = str(manifest["id"]), str(manifest["version"])
    with bench.shelf(workload, make=True) as shelf:
        if name in shelf.names():
            raise AgentError(_foreign(file, "it is here already", "use what is here"))
        with shelf.stage(name) as stage, stage.folder(artifact.IMAGES, 0o700):
            for below, one in members.items():
                _extract(packed, one, below, stage)
            shelf.accept(name, stage)
        wrong = wrong_in(shelf, shelf.read(name))
        if wrong:
            shelf.remove(name)
            raise AgentError(_foreign(file, f"damaged: {', '.join(wrong[:5])}"))
        shelf.choose(name)
    checkpoints.settle_wanted(bench.facts)
    return Told([f"{workload}/{name} is here"], {"workload": workload, "version": name})


def _extract(packed: tarfile.TarFile, one: tarfile.TarInfo, below: str, stage: SafeRoot) -> None:
    folder, _, name = below.rpartition("/")
    if folder not in ("", artifact.IMAGES) or (not folder and name not in _OWN):
        raise AgentError(_foreign(packed.name, f"{below} does not belong there"))
    source = packed.extractfile(one)
    fd = stage.open(below, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "wb") as target:
        while source and (data := source.read(1 << 20)):
            target.write(data)
        target.flush()
        os.fsync(target.fileno())


def _foreign(file: object, why: str, fix: str = "export it again where it was made") -> Problem:
    return Problem("checkpoint.not-imported", "the file was not taken in", why, fix, str(file))
