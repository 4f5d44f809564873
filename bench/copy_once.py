"""One copy by our copier, in a fresh process: `copy_once.py SOURCE TARGET IN_KERNEL`.

Prints JSON: seconds and CPU seconds of the copy alone, threads in use at its end, and the MiB
that the process had kept before it and at the most.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from workspace_agent.host.copy import copy_tree
from workspace_agent.host.safe_root import SafeRoot


def kept() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


source, target, in_kernel = sys.argv[1:]
before = kept()
wall, cpu = time.perf_counter(), time.process_time()
with SafeRoot.at(source) as old, SafeRoot.at(target) as new:
    copied = copy_tree(old, new, in_kernel=in_kernel == "1")
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
if copied.skipped:
    sys.exit(f"left out: {copied.skipped[:5]}")
print(json.dumps({"wall": wall, "cpu": cpu, "threads": copied.threads,
                  "files": copied.files, "before": before, "most": kept()}))  # fmt: skip
