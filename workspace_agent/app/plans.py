"""Compile a boot for the fast path, and stamp a volume that needs nothing more."""

from __future__ import annotations

import os

from workspace_agent import __version__, fastpath
from workspace_agent.app import replays
from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.outcome import Report, Status
from workspace_agent.model.recipe import path_beside
from workspace_agent.steps import packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.fastpath import Plan
    from workspace_agent.model.recipe import Recipe

# Each image that uses a volume has a stamp of its own; more than this many are old images'.
_STAMPS = 8


def _places(profile: Profile, facts: Facts, path: str) -> list[str]:
    """Return the folders whose change may change what Python sees."""
    folder = facts.fill(profile, path)
    above = packages.parent(folder, facts.python.abi)
    return [folder, above] if above else [folder]


def compiled(profile: Profile, facts: Facts, recipe: Recipe, profiles: list[str]) -> Plan:
    """Return the plan of a boot that finds all done; *profiles* are the files it rests on."""
    import hashlib  # at image build only

    moved = facts.uid == 0 and profile.home.mode in ("auto", "redirect") and facts.user
    parts = (__version__, recipe, profile, profiles, facts.volume.path)
    key = hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    state = layout.state(facts.volume.path)
    home = facts.fill(profile, profile.home.path)
    scripts = [facts.fill(profile, p) for p in (profile.scripts.file, profile.scripts.dir)]
    return {
        "version": __version__,
        "key": key,
        "path": path_beside(facts.environ.get("PATH", ""), facts.volume.path),
        "settings": fastpath.settings(facts.environ),
        "uid": facts.uid,
        "image_home": facts.image_home,
        "user": facts.user if moved else "",
        "volume": facts.volume.path,
        "marker": f"{home}/{profile.home.marker}",
        "stamp": f"{state}/{layout.STAMPS_IN_STATE}/{key}",
        "absent": [
            f"{state}/{layout.PROFILE_IN_STATE}",
            f"{state}/{layout.ATTEMPTS_IN_STATE}",
            *(scripts if profile.scripts.enabled else []),
            *replays.told(profile, facts),
            f"{state}/{layout.RESCUE_IN_STATE}/{layout.RESCUE_WANTED}",
            f"{state}/{layout.CHECKPOINTS_IN_STATE}/{layout.CHECKPOINTS_WANTED}",
        ],
        "asks": replays.asks(profile, facts),
        "packages": [one for path in profile.path.python for one in _places(profile, facts, path)],
        "watch": replays.watched(profile, facts, None),
        "budget": budget(profile, facts),
        "floor": floor(profile, facts),
        "freeze": profile.checkpoint.mode == "auto",
        "profiles": [fastpath.layer_state(path) for path in profiles],
        "recipe": recipe,
        "fish": files.exists("/etc/fish"),
        "command": list(profile.workload.command),
        "grace": profile.workload.grace,
        "termination_log": profile.report.termination_log,
    }


def budget(profile: Profile, facts: Facts) -> float:
    """Return what the watcher may take after the workload; 0 where there is to be none.

    A person's machine has no layer that ends.
    """
    return profile.rescue.budget if profile.watch.enabled and facts.system else 0.0


def floor(profile: Profile, facts: Facts) -> int:
    """Return where the workload's process numbers begin; 0 in an image without CRIU."""
    wish = profile.checkpoint
    on = wish.mode != "off" and facts.system and files.exists(wish.criu)
    return wish.floor if on else 0


def stamp(facts: Facts, report: Report, recipe: Recipe) -> None:
    """Tell the next boot of this image that the volume is complete, if it is.

    Only for a baked image, after a boot without a problem and without scripts to run.
    """
    plan = fastpath.load(facts.root)
    if plan is None or plan["recipe"] != recipe or plan["volume"] != facts.volume.path:
        return
    done = all(row.status in (Status.OK, Status.CHANGED, Status.SKIPPED) for row in report.rows)
    text = fastpath.stamp_text(plan)
    if report.problems or not done or files.read(plan["stamp"]) == text:
        return
    try:
        if any(files.exists(path) for path in plan["absent"]) or fastpath.asks(plan):
            return
    except OSError:
        return
    from workspace_agent.host.safe_root import SafeRoot  # a warm boot has its stamp

    folder, name = f"{layout.STATE}/{layout.STAMPS_IN_STATE}", os.path.basename(plan["stamp"])
    try:
        with SafeRoot.at(facts.volume.path) as volume, volume.folder(folder, 0o700) as stamps:
            stamps.commit(name, text)
            ours = [n for n in stamps.names() if len(n) == len(plan["key"]) and n.isalnum()]
            ages = sorted((found.st_mtime, n) for n in ours if (found := stamps.look(n)))
            for _, old in ages[:-_STAMPS]:
                stamps.remove(old)
    except OSError:
        return  # a full volume: the next boot takes the longer way
