"""Forms of requirements that only the line itself explains, through real installers."""

from __future__ import annotations

import hashlib

import pytest
from pods import Pods
from wheels import wheel


@pytest.mark.parametrize("installer", ["uv", pytest.param("pip", marks=pytest.mark.long)])
def test_paths_urls_hashes_and_extras_are_installed_as_they_are_written(
    pods: Pods, installer: str
) -> None:
    pods.uv = installer == "uv"
    aside = pods.volume / "own"
    wheel(aside, "path", "1.0", needs=("needed",))
    named = wheel(aside, "named", "1.0")
    wheel(pods.wheels, "needed", "2.0")
    wheel(pods.wheels, "more", "3.0", extras={"x": ("extra==4.0",)})
    wheel(pods.wheels, "extra", "4.0")
    wheel(pods.wheels, "extra", "5.0")
    pods.ask(f"./own/path-1.0-py3-none-any.whl\nnamed @ file://{named}\nmore[x]\n")
    pod = pods.whole()
    assert "settled well" in pod.out
    expected = {"path": "1.0", "needed": "2.0", "named": "1.0", "more": "3.0", "extra": "4.0"}
    assert expected == {name: pods.dists(pod)[name] for name in expected}

    digest = hashlib.sha256((pods.wheels / "needed-2.0-py3-none-any.whl").read_bytes()).hexdigest()
    pods.ask(f"needed==2.0 \\\n  --hash=sha256:{digest}\n")
    assert "settled well" in pods.whole().out
    pods.ask(f"needed==2.0 --hash=sha256:{'0' * 64}\n")
    assert "failed replay.build-failed" in pods.whole().out
