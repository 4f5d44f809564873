"""The home on the volume: where it comes from, what became of it, what a newer image asks of it."""

from __future__ import annotations

from dataclasses import replace

from workspace_agent.app.boot import workspace_steps
from workspace_agent.model.problem import AgentError
from workspace_agent.model.words import counted
from workspace_agent.steps.home import HomeSeed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workspace_agent.app.engine import Opening
    from workspace_agent.app.session import Session
    from workspace_agent.steps.upgrade import HomeUpgrade

# In these modes programs write into the image's own home: what is in it is not the image's.
_SHARED = ("copy", "links")


def settle(opening: Opening, image: int = -1) -> bool:
    """Make what `home` verbs and later boots rest on; says whether a later boot has nothing to do.

    All content may be read: this is for a process beside the workload. *image* is the image's
    home, opened before something else had its place.
    """
    upgrade = of(opening)
    if upgrade is None:
        return True
    if image >= 0:
        upgrade = replace(upgrade, seed=replace(upgrade.seed, source=f"/proc/self/fd/{image}"))
    try:
        if opening.profile.home.mode not in _SHARED and upgrade.seed.is_made():
            return upgrade.settle(report=opening.profile.home.upgrade != "off")
    except AgentError:
        pass  # out of sight: there is no more that a later boot could do
    except OSError:
        return False
    return upgrade.seed.tidy()


def of(opening: Opening) -> HomeUpgrade | None:
    """Return the home of a boot as its steps would make it; None when the profile wants none."""
    from workspace_agent.steps.upgrade import HomeUpgrade

    steps = workspace_steps(opening.profile, opening.facts)
    seed = next((one for one in steps if isinstance(one, HomeSeed)), None)
    return HomeUpgrade(seed) if seed else None


def notice(session: Session) -> str:
    """Return what this image asks of the home, as far as a boot has noted it; "" is nothing.

    It looks at the volume, which may hang.
    """
    from workspace_agent.steps.places import places

    try:
        upgrade = of(session.open(strict=False, dry_run=True, patient=True))
        if upgrade is None or not upgrade.seed.is_made():
            return ""
        with places(upgrade.seed) as at:
            image = at.fingerprint()
            counts = at.noted(image) if image != at.base() else {}
    except (AgentError, OSError):
        return ""
    new = counts.get("new", 0) + counts.get("changed", 0)
    words = [f"{counted(new, 'default is', 'defaults are')} new in this image"] * bool(new)
    for name, word in (("conflict", "conflicts"), ("unknown", "not as in this image")):
        words += [f"{counts[name]} {word}"] if counts.get(name) else []
    return f"{', '.join(words)}: `workspace-agent home diff`" if words else ""
