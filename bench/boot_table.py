"""Print the table of bench/boot: medians, and ratios to the bash baseline of the same run."""

from __future__ import annotations

import json
import statistics
import sys

BASELINE, FLOOR = "bash baseline, known volume", "floor: the workload alone"

HEAD = """\
CPU in ms, medians. "PID 1" is what PID 1 itself had used when the workload came to life; "in all"
is what the start and all that it waited for had used at the end. Both less the floor's. On the fast
path PID 1 does all; elsewhere an engine, and in the baseline `mkdir` and `grep`, work for it.

| start | PID 1 | / baseline | in all | / baseline | wall ms | least in all | PID 1, MiB |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    print(HEAD)
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as handle:
            table(json.load(handle))


def table(found: dict[str, dict[str, list[list[float]]]]) -> None:
    middle = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in found["samples"].items()
    }
    floor, base = middle[FLOOR], middle[BASELINE]
    for name, (cpu, wall, until, kept) in middle.items():
        own, early = cpu - floor[0], until - floor[2]
        least = min(row[0] for row in found["samples"][name]) - floor[0]
        ratios = (early / (base[2] - floor[2]), own / (base[0] - floor[0]))
        if name == FLOOR:
            print(f"| {name} | ({until:.1f}) | | ({cpu:.1f}) | | {wall:.1f} | | {kept:.1f} |")
        else:
            print(f"| {name} | {early:.1f} | {ratios[0]:.2f} | {own:.1f} | {ratios[1]:.2f}"
                  f" | {wall:.1f} | {least:.1f} | {kept:.1f} |")  # fmt: skip
    print(f"| warm boots that wrote on the volume | {found['warm_boots_that_wrote']}"
          f" of {found['rounds']} | | | | | | |")  # fmt: skip


main()
