"""What a boot knows before its first step: who, where, on which volume."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from workspace_agent.config.placeholders import expand
from workspace_agent.host import files, interpreter, passwd
from workspace_agent.model import layout
from workspace_agent.model.recipe import path_beside
from workspace_agent.steps.volume import Choice, choose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from workspace_agent.config.schema import Profile


@dataclass(frozen=True)
class Facts:
    """The machine as this boot finds it; *system* says whether /etc is ours to write."""

    environ: Mapping[str, str]
    root: str
    runtime: str
    container: bool
    system: bool
    uid: int
    user: str
    image_home: str
    volume: Choice
    python: interpreter.Interpreter
    boot_id: str

    def fill(self, profile: Profile, text: str) -> str:
        """Return *text* with the profile's placeholders filled in."""
        names = {"volume": self.volume.path, "profile": profile.name, "abi": self.python.abi}
        home = expand(profile.home.path, **{**names, "home": ""})
        return expand(text, **names, home=home)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"  # it was removed under us


def gather(
    profile: Profile,
    environ: Mapping[str, str],
    mounts: Mapping[str, tuple[str, str, bool]],
    *,
    root: str,
    runtime: str,
    container: bool,
    volume: Choice | None = None,
) -> Facts:
    """Read the facts; nothing here touches the volume."""
    uid = os.geteuid()
    user, home = passwd.entry(passwd.read(), uid)
    wish = environ.get("WORKSPACE_AGENT_SYSTEM", "")
    explicit = environ.get("WORKSPACE_VOLUME", "")
    chosen = volume or choose(profile.volume.candidates, explicit, mounts, container, _cwd())
    path = path_beside(environ.get("PATH", os.defpath), chosen.path)
    python = interpreter.find(path_beside(path, layout.ENVIRONMENTS))
    facts = Facts(
        environ=environ,
        root=root,
        runtime=runtime,
        container=container,
        system=(container and wish != "0") or wish == "1",
        uid=uid,
        user=user,
        image_home=environ.get("HOME", home),
        volume=chosen,
        python=python,
        boot_id=os.urandom(6).hex(),
    )
    if facts.image_home == facts.fill(profile, profile.home.path):
        # A restarted container: its HOME comes from the passwd entry that we led to the volume.
        return replace(facts, image_home=_remembered_home() or facts.image_home)
    return facts


def _remembered_home() -> str:
    return os.fsdecode(files.read(layout.IMAGE_HOME) or b"").strip()
