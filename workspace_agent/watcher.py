"""What PID 1 starts beside the workload, as `python -I [-S] watcher.py RUNTIME`; see keeper.py.

A workload that was over at once mostly wrote nothing outside the volume: that is found out with a
few modules, before the rest of the agent is loaded.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    _root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path[0] != _root:
        sys.path.insert(0, _root)


def nothing_changed(runtime: str) -> bool:
    """Say whether the workload is over, and nothing on the layer changed since it was started.

    Where the boot has put something back, that may be gone: a scan does not see it.
    """
    import select

    from workspace_agent.host import mounts
    from workspace_agent.host.safe_root import SafeRoot
    from workspace_agent.model import layout
    from workspace_agent.watch import layer as layers
    from workspace_agent.watch.scan import Scan

    poll = select.poll()
    poll.register(0, 0)  # its end, and no line that is for the watcher
    if not poll.poll(0) or os.path.lexists(f"{runtime}/{layout.RESCUE_RUN}"):
        return False
    layer = layers.probe(runtime)
    changed: list[str] = []

    def visit(path: str, _: object, found: list[tuple[str, os.stat_result]], __: object) -> None:
        changed.extend(name for name, info in found if layer.is_news(path, name, info.st_ctime_ns))

    passed = {*mounts.read_mounts(), runtime, layout.ENVIRONMENTS,
              os.path.dirname(layout.BEGAN), "/proc", "/sys", "/dev", "/run"} - {"/"}  # fmt: skip
    with SafeRoot.at("/") as root:
        Scan(root, layer, passed, visit).run()
    return not changed


def main(runtime: str) -> int:
    """Watch until the workload ends; returns the exit code."""
    if nothing_changed(runtime):
        return 0
    from workspace_agent.app.watching import watch

    return watch(_root, runtime)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
