"""Where a command can be struck, and how: two kinds, for any folder and for a slow volume."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    # Runs the command, with the given words before it.
    Launch = Callable[[Sequence[str]], "Ended"]

SLOWVOL = str(Path(__file__).parent.with_name("slowvol") / "slowvol.sh")

# open and close are left out: every process makes dozens of them before it does anything, and
# "made but still empty" is seen before the next write anyway.
CHANGES = (
    "creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,"
    "unlink,unlinkat,rmdir,write,pwrite64,writev,pwritev,copy_file_range,sendfile,splice,truncate,"
    "ftruncate,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,utimensat,setxattr,lsetxattr,"
    "fsetxattr,fallocate,fsync,fdatasync,syncfs,sync"
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: *code* is negative for a signal, None when it took too long.

    *points* are those at which it could have been struck; *hit* says whether it was.
    """

    code: int | None
    out: str
    hit: bool = False
    points: Sequence[object] = ()


def execute(argv: Sequence[str], env: Mapping[str, str], timeout: float) -> Ended:
    """Run *argv* in a process group of its own, of which nothing is left."""
    process = subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        out, _ = process.communicate(timeout=timeout)
        return Ended(process.returncode, out)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Ended(None, process.communicate()[0])


@dataclass
class Slowvol:
    """Strikes at the N-th change of the volume at *mount*, over all threads and processes.

    The whole group dies and nothing later gets through; with *error* that request fails instead,
    and with *stays* every one after it.
    """

    mount: str
    error: str = ""
    kind: str = "change"
    stays: bool = False

    def run(self, launch: Launch, at: object = None) -> Ended:
        """Launch the command, struck *at* that point if one is given."""
        self.tell("heal", "reset")
        if isinstance(at, int):
            times = "" if self.stays else "times=1"
            fail = f"fail {self.kind} {self.error} after={at - 1} {times}"
            self.tell(fail if self.error else f"killat {at}")
        ended = launch(())
        stats = self.stats()
        self.tell("heal")
        hit = bool(stats["injected"] if self.error else stats["killed"])
        return Ended(ended.code, ended.out, hit, range(1, stats["mutations"] + 1))

    def tell(self, *commands: str) -> None:
        """Write *commands* to the mount's control file."""
        for command in commands:
            Path(self.mount, ".slowvol").write_text(command)

    def stats(self) -> dict[str, int]:
        """Return the mount's counters."""
        return json.loads(Path(self.mount, ".slowvol").read_text())


@dataclass
class Strace:
    """Strikes the one process that makes a call, before it is carried out; in any folder.

    strace counts a call by thread and by name, so "the N-th of all calls" does not exist: a point
    is a pair (name, n).
    """

    log: str
    calls: str = CHANGES
    error: str = ""

    def run(self, launch: Launch, at: object = None) -> Ended:
        """Launch the command, struck *at* that point if one is given."""
        trace = ["strace", "-f", "-qq", "-o", self.log, "-e", f"trace={self.calls}"]
        if isinstance(at, tuple):
            how = f"error={self.error}" if self.error else "signal=SIGKILL"
            trace += ["-e", f"inject={at[0]}:{how}:when={at[1]}"]
        ended = launch(trace)
        seen = Path(self.log).read_text(errors="replace")
        hit = at is not None and ("(INJECTED)" if self.error else "killed by SIGKILL") in seen
        return Ended(ended.code, ended.out, hit, _pairs(seen))


def _pairs(log: str) -> list[tuple[str, int]]:
    """Return every (name, n) up to the most calls of that name that one process made."""
    counts: dict[tuple[str, str], int] = {}
    for process, name in re.findall(r"^(\d+) +([a-z_0-9]+)\(", log, re.MULTILINE):
        counts[process, name] = counts.get((process, name), 0) + 1
    most: dict[str, int] = {}
    for (_, name), count in counts.items():
        most[name] = max(most.get(name, 0), count)
    return [(name, n) for name in sorted(most) for n in range(1, most[name] + 1)]
