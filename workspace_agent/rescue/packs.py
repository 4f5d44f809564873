"""The data files that a run writes: small things one after another, large ones alone."""

from __future__ import annotations

import os

from workspace_agent.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workspace_agent.host.safe_root import SafeRoot

# Larger files are alone; a pack that is as large is followed by the next.
SMALL, PACK = 8 << 20, 16 << 20

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL


class Packs:
    """The data files of *run* in the open folder *data*; every method raises OSError."""

    def __init__(self, data: SafeRoot, run: str) -> None:
        self._data, self._run = data, run
        taken = (name.rpartition("-")[2] for name in data.names() if name.startswith(f"{run}-"))
        self._count = max((int(n) for n in taken if n.isdecimal()), default=0)
        self._fd, self.name, self._at = -1, "", 0
        self._is_new = False
        self.made: set[str] = set()

    def put(self, data: bytes) -> tuple[str, int]:
        """Append *data* to the pack; returns its file and where it stands."""
        if self._fd >= 0 and self._at + len(data) > PACK:
            self.sync()
            self.close()
        if self._fd < 0:
            self.name, self._fd = self.alone()
            self._at = 0
        files.write_all(self._fd, data)
        self._at += len(data)
        return self.name, self._at - len(data)

    def alone(self) -> tuple[str, int]:
        """Make a data file for one thing; returns its name and itself, open."""
        while True:
            self._count += 1
            name = f"{self._run}-{self._count}"
            try:
                fd = self._data.open(name, _NEW, 0o600)
            except FileExistsError:
                continue
            self._is_new = True
            self.made.add(name)
            return name, fd

    def sync(self) -> None:
        """Make durable what was put, and the names of new files."""
        if self._fd >= 0:
            os.fsync(self._fd)
        if self._is_new:
            files.sync_dir("", self._data.fd)
            self._is_new = False

    def drop(self, name: str) -> None:
        """Remove a data file that no line names, if there is one."""
        if name:
            self._data.remove(name)

    def close(self) -> None:
        """Have the next bytes in a new file: what failed once is not trusted again."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.name = -1, ""
