"""Clip an OCI config.json to what a sandbox without CAP_SYS_RESOURCE can grant."""

from __future__ import annotations

import json
import os
import resource
import sys


def main(path: str) -> None:
    with open(path, encoding="utf-8") as handle:
        config = json.load(handle)
    process = config.get("process") or {}
    limits = []
    for item in process.get("rlimits") or []:
        number = getattr(resource, item["type"], None)
        if number is None:
            continue
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            item["hard"] = min(item["hard"], hard)
            item["soft"] = min(item["soft"], item["hard"])
        limits.append(item)
    process["rlimits"] = limits
    with open("/proc/self/oom_score_adj", encoding="ascii") as handle:
        current = int(handle.read())
    if process.get("oomScoreAdj", current) < current:
        process["oomScoreAdj"] = current
    linux = config.get("linux") or {}
    linux.pop("resources", None)
    linux.pop("cgroupsPath", None)
    temporary = f"{path}.clip"
    with open(temporary, "w", encoding="utf-8") as handle:
        json.dump(config, handle)
    os.replace(temporary, path)


if __name__ == "__main__":
    main(sys.argv[1])
