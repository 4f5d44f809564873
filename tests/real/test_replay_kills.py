"""Pods that die at any moment: the next one ends with the environment whole."""

from __future__ import annotations

import json
import random
import shutil
import time

import pytest
from pods import Pods, fleet

SEED = 20261121


@pytest.mark.parametrize("count", [3, pytest.param(10, marks=pytest.mark.long)])
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_the_next_pod_is_whole_wherever_one_was_killed(
    pods: Pods, installer: str, count: int
) -> None:
    """Each kill is at another tenth of the writes of a pod that builds, packs and publishes."""
    pods.uv = installer == "uv"
    expected = fleet(pods.wheels)
    pods.ask("p0\n")
    last = int(pods.whole().word("writes")) - 4  # one more or less, from run to run
    moment = random.Random(f"{SEED} {installer}")
    for n in range(count):
        shutil.rmtree(pods.store)
        pod = pods.start(at=moment.randint(last * n // count + 1, last * (n + 1) // count))
        pod.until("here")
        time.sleep(moment.random() / 20)  # installers work between our own writes
        seen = pod.out.split("\n")
        pods.kill(pod)

        after = pods.whole()
        print(n, *seen, "->", *after.out.split("\n"))
        assert "settled well" in after.out
        assert expected == {name: pods.dists(after)[name] for name in expected}
        (manifest,) = pods.manifests()
        assert expected == json.loads(manifest.read_text())["mark"]["dists"]
        noted = json.loads(next(pods.store.glob("current-*")).read_text())
        assert manifest.parent.name == noted["current"]
        if "tells packing" in after.out:  # who stores one also cleans up
            assert not any(pods.store.glob("tmp-*"))
