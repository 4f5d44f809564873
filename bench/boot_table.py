"""Print the table of bench/boot: medians, and ratios to the bash baseline of the same run."""

from __future__ import annotations

import json
import statistics
import sys

BASELINE, FLOOR = "bash baseline, known volume", "floor: the workload alone"


def main() -> None:
    print(
        "| start | CPU ms | of that before the workload | wall ms | CPU / baseline | min CPU ms |"
    )
    print("|---|---|---|---|---|---|")
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as handle:
            found = json.load(handle)
        table(found)


def table(found: dict[str, object]) -> None:
    samples = found["samples"]
    assert isinstance(samples, dict)
    cpu = {name: statistics.median(c for c, _ in rows) for name, rows in samples.items()}
    own = {name: value - cpu[FLOOR] for name, value in cpu.items()}
    for name, rows in samples.items():
        wall = statistics.median(w for _, w in rows)
        ratio = f"{own[name] / own[BASELINE]:.2f}" if name != FLOOR else ""
        least = min(c for c, _ in rows)
        print(
            f"| {name} | {cpu[name]:.1f} | {own[name]:.1f} | {wall:.1f} | {ratio} | {least:.1f} |"
        )
    print(f"| warm boots that wrote on the volume | {found['warm_boots_that_wrote']}"
          f" of {found['rounds']} | | | | |")  # fmt: skip


main()
