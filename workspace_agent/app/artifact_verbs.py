"""What `workspace-agent artifacts` says and does."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workspace_agent.app import checkpoints, standby
from workspace_agent.app.checkpoints import Bench
from workspace_agent.app.session import Told
from workspace_agent.checkpoint import artifact, restore, tries
from workspace_agent.model.problem import AgentError
from workspace_agent.model.words import counted, duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workspace_agent.app.session import Session
    from workspace_agent.checkpoint.artifact import Shelf, Version


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
    with version_of(session, which) as (shelf, version):
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
            wrong = wrong_in(shelf, shelf.read(name))
        except AgentError as error:
            problems.append(error.problem)
            continue
        if wrong:
            problems.append(restore.damaged(shelf.read(name), wrong))
    line = f"{counted(count, 'checkpoint')} read, {len(problems)} not as they should be"
    return Told([line], {"read": count, "wrong": len(problems)}, problems)


def wrong_in(shelf: Shelf, version: Version) -> list[str]:
    """Return which files of *version* are not as they were written."""
    with shelf.top.folder(f"versions/{version.name}") as folder:
        return restore.wrong(version, folder, os.cpu_count() or 1)


def prune(session: Session, keep: int, damaged: bool, dry_run: bool) -> Told:
    """Remove what is old, and what is damaged if that is asked for."""
    bench, gone = bench_of(session), []
    wish = bench.profile.checkpoint
    for shelf in _shelves(session):
        if damaged:
            for name in [one for one in shelf.names() if _is_damaged(shelf, one)]:
                gone.append(f"{shelf.workload}/{name}")
                if not dry_run:
                    shelf.remove(name)
        busy = tries.under_way(shelf.ledger())
        old = shelf.prune(keep if keep >= 0 else wish.keep, wish.most, busy=busy, dry_run=dry_run)
        gone += [f"{shelf.workload}/{name}" for name in old]
    if not dry_run:
        checkpoints.settle_wanted(bench.facts)
    word = "would be removed" if dry_run else "removed"
    return Told([*gone, f"{counted(len(gone), 'checkpoint')} {word}"], {"removed": gone})


def _is_damaged(shelf: Shelf, name: str) -> bool:
    try:
        return bool(wrong_in(shelf, shelf.read(name)))
    except AgentError as error:
        return error.problem.slug == "checkpoint.broken"


def bench_of(session: Session) -> Bench:
    """Return what all checkpoints of the volume are worked on with."""
    opening = session.open(strict=False)
    return Bench(opening.profile, opening.facts, ())


def _shelves(session: Session) -> Iterator[Shelf]:
    bench = bench_of(session)
    for workload in artifact.workloads(bench.facts.volume.path):
        with bench.shelf(workload) as shelf:
            yield shelf


def _chosen(session: Session, which: str) -> Iterator[tuple[Shelf, str]]:
    if which:
        with version_of(session, which) as (shelf, version):
            yield shelf, version.name
        return
    for shelf in _shelves(session):
        for name in shelf.names():
            yield shelf, name


@contextmanager
def version_of(session: Session, which: str) -> Iterator[tuple[Shelf, Version]]:
    """Open what somebody calls *which*; of a workload, what is restored, else the newest."""
    bench = bench_of(session)
    workload, name = standby.found(bench.facts.volume.path, which)
    with bench.shelf(workload) as shelf:
        yield shelf, shelf.read(name or shelf.current() or max(shelf.names(), default=""))
