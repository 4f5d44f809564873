"""What `workspace-agent artifacts` says and does."""

from __future__ import annotations

import os
import tarfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workspace_agent.app import checkpoints, standby
from workspace_agent.app.checkpoints import Bench
from workspace_agent.app.session import Told
from workspace_agent.checkpoint import artifact, restore
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.model.words import counted, duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workspace_agent.app.session import Session
    from workspace_agent.checkpoint.artifact import Shelf, Version
    from workspace_agent.host.safe_root import SafeRoot

# What a version consists of, for a tar of it: these, and the images.
_OWN = (artifact.MANIFEST, artifact.SIGNATURE, artifact.CARRIED)


def listed(session: Session) -> Told:
    """List what there is, the newest last, and what is not whole."""
    rows, problems = [], []
    for shelf in _shelves(session):
        current, ledger = shelf.current(), shelf.ledger()
        for name in shelf.names():
            try:
                rows.append(_row(shelf.read(name), current, ledger))
            except AgentError as error:
                problems.append(error.problem)
        rows += [
            {"workload": shelf.workload, "version": name, "phase": artifact.CREATING, "label": "",
             "why": "it is being made, or its pod died meanwhile"} for name in shelf.stages()
        ]  # fmt: skip
        if ledger and ledger[-1].get("what") == "dump" and ledger[-1].get("state") == "failed":
            rows.append({"workload": shelf.workload, "version": "", "phase": artifact.FAILED,
                         "why": ledger[-1].get("why", ""), "label": ""})  # fmt: skip
    lines = [_line(row) for row in sorted(rows, key=lambda row: str(row["version"]))]
    return Told(lines or ([] if problems else ["nothing is frozen"]), {"artifacts": rows}, problems)


def _row(version: Version, current: str, ledger: list[dict[str, Any]]) -> dict[str, Any]:
    said, is_current, has_current = version.manifest, version.name == current, bool(current)
    uses = sum(one.get("version") == version.name and one.get("what") == "restore"
               and one.get("state") == "done" for one in ledger)  # fmt: skip
    return {
        "workload": version.workload, "version": version.name, "label": said.get("label", ""),
        "phase": artifact.READY if is_current else artifact.SUPERSEDED if has_current
        else artifact.SPENT,
        "bytes": said["bytes"], "age": round(max(0.0, time.time() - said["made"])),
        "generation": said["generation"], "processes": said["processes"], "restored": uses,
        "trial": said["trial"], "argv": said.get("argv", []),
    }  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    if "bytes" not in row:
        name = "/".join(filter(None, (row["workload"], row["version"])))
        return f"! {name}  {row['phase']}: {row['why']}"
    mark = "*" if row["phase"] == artifact.READY else " "
    return (
        f"{mark} {row['workload']}/{row['version']}  {size(row['bytes']):>8}"
        f"  {duration(row['age'])} old  {' '.join(row['argv'])[:40]}  {row['label']}"
    ).rstrip()


def show(session: Session, which: str) -> Told:
    """Show the manifest of one, but for its long lists, and its ledger."""
    with _version(session, which) as (shelf, version):
        said, ledger = version.manifest, shelf.ledger()
        row = _row(version, shelf.current(), ledger)
        own = [one for one in ledger if one.get("version") == version.name]
    facts, took = said["facts"], [f"{name} {duration(secs)}" for name, secs in said["secs"].items()]
    rows = {
        **row, "bytes": size(row["bytes"]), "age": duration(row["age"]),
        "argv": " ".join(row["argv"]), "root": said["root"], "threads": said["threads"],
        "carried": f"{counted(said['carried']['files'], 'file')}, {size(said['carried']['bytes'])}",
        "asked": ", ".join(said["contract"]) or "nobody", "where": version.where,
        "machine": ", ".join(str(facts.get(name, "")) for name in ("arch", "cpu", "kernel")),
        "took": ", ".join(took),
    }  # fmt: skip
    lines = [f"{name:<10} {value}" for name, value in rows.items()]
    lines += [f"{one['what']:<10} {one['state']} {one.get('why', '')}".rstrip() for one in own]
    return Told(lines, {**said, "ledger": own})


def verify(session: Session, which: str) -> Told:
    """Read one, or all, and compare with what was written."""
    problems, count = [], 0
    for shelf, name in _chosen(session, which):
        count += 1
        try:
            wrong = _wrong(shelf, shelf.read(name))
        except AgentError as error:
            problems.append(error.problem)
            continue
        if wrong:
            problems.append(restore.damaged(shelf.read(name), wrong))
    line = f"{counted(count, 'checkpoint')} read, {len(problems)} not as they should be"
    return Told([line], {"read": count, "wrong": len(problems)}, problems)


def _wrong(shelf: Shelf, version: Version) -> list[str]:
    with shelf.top.folder(f"versions/{version.name}") as folder:
        return restore.wrong(version, folder, os.cpu_count() or 1)


def prune(session: Session, keep: int, damaged: bool, dry_run: bool) -> Told:
    """Remove what is old, and what is damaged if that is asked for."""
    bench, gone = _bench(session), []
    wish = bench.profile.checkpoint
    for shelf in _shelves(session):
        if damaged:
            for name in [one for one in shelf.names() if _is_damaged(shelf, one)]:
                gone.append(f"{shelf.workload}/{name}")
                if not dry_run:
                    shelf.remove(name)
        old = shelf.prune(keep if keep >= 0 else wish.keep, wish.most, dry_run=dry_run)
        gone += [f"{shelf.workload}/{name}" for name in old]
    if not dry_run:
        checkpoints.settle_wanted(bench.facts)
    word = "would be removed" if dry_run else "removed"
    return Told([*gone, f"{counted(len(gone), 'checkpoint')} {word}"], {"removed": gone})


def _is_damaged(shelf: Shelf, name: str) -> bool:
    try:
        return bool(_wrong(shelf, shelf.read(name)))
    except AgentError as error:
        return error.problem.slug == "checkpoint.broken"


def export(session: Session, which: str, file: str) -> Told:
    """Write one as a tar, readable for its owner only."""
    with _version(session, which) as (shelf, version):
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
            return _taken_in(_bench(session), packed, file)
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
        wrong = _wrong(shelf, shelf.read(name))
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


def _bench(session: Session) -> Bench:
    opening = session.open(strict=False)
    return Bench(opening.profile, opening.facts, ())


def _shelves(session: Session) -> Iterator[Shelf]:
    bench = _bench(session)
    for workload in artifact.workloads(bench.facts.volume.path):
        with bench.shelf(workload) as shelf:
            yield shelf


def _chosen(session: Session, which: str) -> Iterator[tuple[Shelf, str]]:
    if which:
        with _version(session, which) as (shelf, version):
            yield shelf, version.name
        return
    for shelf in _shelves(session):
        for name in shelf.names():
            yield shelf, name


@contextmanager
def _version(session: Session, which: str) -> Iterator[tuple[Shelf, Version]]:
    bench = _bench(session)
    workload, name = standby.found(bench.facts.volume.path, which)
    with bench.shelf(workload) as shelf:
        yield shelf, shelf.read(name or shelf.current())
