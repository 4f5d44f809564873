"""Which command lines are an installer at work."""

from __future__ import annotations

import pytest

from workspace_agent.host.installing import named


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("pip install rich", "pip"),
        ("/usr/bin/python3 /usr/local/bin/pip3.11 install -r x.txt", "pip3.11"),
        ("python -I -m pip --python x install rich", "pip"),
        ("python3 -m pip uninstall -y rich", "pip"),
        ("uv pip install rich", "uv"),
        ("/root/.local/bin/uv add rich", "uv"),
        ("/opt/conda/bin/python /opt/conda/bin/conda install -y x", "conda"),
        ("apt-get install -y htop", "apt-get"),
        ("uv run serve.py", ""),
        ("pip list", ""),
        ("conda run -n x python train.py", ""),
        ("python train.py --pip install", ""),
        ("python pipeline.py install", ""),
        ("vim pip", ""),
        ("", ""),
    ],
)
def test_only_an_installer_that_changes_something_is_at_work(line: str, name: str) -> None:
    assert name == named(line.split(" "))
