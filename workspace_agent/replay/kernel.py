"""A kernel for Jupyter servers that the image's own Python runs."""

from __future__ import annotations

import os
from dataclasses import dataclass

from workspace_agent.host import files
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.outcome import Check, Ok, Skip, Todo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Every Jupyter of the image looks here, whatever its own prefix is.
KERNELS = "/usr/local/share/jupyter/kernels"


@dataclass(frozen=True)
class Kernel:
    """Keep a kernel spec that starts the environment *env*, if *is_able*: ipykernel is there."""

    env: str
    is_able: bool
    folder: str = f"{KERNELS}/workspace"
    name: str = "replay.kernel"
    needs: tuple[str, ...] = ()

    def check(self) -> Check:
        """Compare the spec."""
        if not self.is_able:
            return Skip("there is no ipykernel")
        path = f"{self.folder}/kernel.json"
        same = files.read(path) == self._text.encode()
        return Ok(path) if same else Todo("Jupyter does not know the environment", (path,))

    def apply(self, tell: Callable[[str], None]) -> None:
        """Write it."""
        os.makedirs(self.folder, exist_ok=True)
        files.commit(f"{self.folder}/kernel.json", self._text)

    @property
    def _text(self) -> str:
        command = [f"{self.env}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": command, "display_name": "Python (workspace)", "language": "python",
                "metadata": {"debugger": True}}  # fmt: skip
        return dumps(spec) + "\n"
