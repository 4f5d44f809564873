"""The step that puts back what earlier containers had outside the volume, where there is any."""

from __future__ import annotations

from workspace_agent.host import files
from workspace_agent.model import layout
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workspace_agent.app.facts import Facts
    from workspace_agent.config.schema import Profile
    from workspace_agent.rescue.back import PutBack


def step_of(profile: Profile, facts: Facts, *, dry_run: bool = False) -> PutBack | None:
    """Return the step that puts back what earlier containers had; None where nothing was kept.

    A *dry_run* leaves no note of this container's run.
    """
    state = layout.state(facts.volume.path)
    on = profile.rescue.mode != "off" and facts.system and facts.runtime
    if not on or not files.is_folder(f"{state}/{layout.RESCUE_IN_STATE}"):
        return None
    from workspace_agent.app import rescues
    from workspace_agent.rescue.back import PutBack
    from workspace_agent.watch.layer import EXACT, probe

    layer = probe(facts.runtime, note=False)
    return PutBack(
        volume=facts.volume.path,
        owner=rescues.owner(profile, facts.environ),
        run=rescues.run_name(facts, note=not dry_run),
        header=rescues.header(facts, layer),
        # Where the layer's birth is not known, a file of the image may be one that was changed.
        untouched=lambda info: layer.mode == EXACT and info.st_ctime_ns < layer.born,
        kinds=profile.rescue.back,
        most_bytes=profile.rescue.back_most,
    )


def late(wait: float) -> Problem:
    """Say that files are still being put back."""
    return Problem(
        "rescue.late",
        "files of the last container are still being put back",
        f"that took longer than {duration(wait)} (`rescue.wait`)",
        "programs that were started already may miss them: `workspace-agent rescue show`",
    )
