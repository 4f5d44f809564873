"""The command lines of CRIU, and what its version can do.

Facts: version 4.2 is the first that dumps sockets on kernels from 6.16 on (SO_PASSCRED became
restricted to families); `--tcp-close` with `--network-lock skip` needs neither NET_ADMIN nor
iptables; the ghost limit's default of 1 MiB refuses a deleted file of 3 MiB; without
`--skip-in-flight` a connection that is not accepted yet fails the dump. Either mode restores what
the other dumped; only a restore with all rights makes a time namespace, and does so for both. What
has one already needs those rights from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

from workspace_agent.host import files
from workspace_agent.model.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Where the placeholder image has it, with its libraries and its loader.
BUNDLED = "/opt/criu/criu"

LEAST, LEAST_WORD = (4, 2), "4.2"

# Some lines for each page range of a large tree.
_LONGEST_LOG = 256 << 20

# CRIU's own limit of 10 s covers the freezing of the tree, too.
_TIMEOUT = 600

# What both ends have to agree on.
_BOTH = ("--no-default-config", "--file-locks", "--link-remap", "--network-lock", "skip")

DUMP_LOG, RESTORE_LOG = "dump.log", "restore.log"


@dataclass(frozen=True)
class Criu:
    """A CRIU: its *program*, and whether it runs *unprivileged* (CAP_CHECKPOINT_RESTORE alone).

    It runs in the folder of the images, and writes its log and statistics into *work*. *tcp* is
    `close` or `established`.
    """

    program: str = BUNDLED
    work: str = "."
    unprivileged: bool = True
    tcp: str = "close"

    def dump(self, root: int, terminals: Sequence[str] = ()) -> list[str]:
        """Return what dumps the tree of *root*, and leaves it stopped.

        *terminals* are those of the container, by their numbers: `tty[RDEV:DEV]`.
        """
        outside = [word for one in terminals for word in ("--external", one)]
        return [*self._start("dump", DUMP_LOG), "--tree", str(root), "--leave-stopped",
                "--ghost-limit", "512M", "--timeout", str(_TIMEOUT), "--skip-in-flight",
                *outside]  # fmt: skip

    def restore(self, pidfile: str, inherit: Mapping[int, str]) -> list[str]:
        """Return what restores them, and leaves them stopped.

        *inherit* leads our descriptors to what was at them: `pipe:[INODE]`, `tty[RDEV:DEV]`.
        """
        plumbed = [word for fd, what in sorted(inherit.items())
                   for word in ("--inherit-fd", f"fd[{fd}]:{what}")]  # fmt: skip
        return [*self._start("restore", RESTORE_LOG), "--restore-detached", "--leave-stopped",
                "--pidfile", pidfile, *plumbed]  # fmt: skip

    def _start(self, verb: str, log: str) -> list[str]:
        rights = ["--unprivileged"] if self.unprivileged else []
        return [self.program, verb, *rights, "--images-dir", ".", "--work-dir", self.work,
                "--log-file", log, "-v4", f"--tcp-{self.tcp}", *_BOTH]  # fmt: skip


def version(said: str) -> tuple[int, ...]:
    """Return the version in what `criu --version` *said*; empty where there is none."""
    for line in said.splitlines():
        name, _, number = line.partition(":")
        if name.strip() == "Version":
            parts = number.strip().split("-")[0].split(".")
            return tuple(int(part) for part in parts if part.isdigit())
    return ()


def unusable(found: Sequence[int], kernel: str) -> Problem | None:
    """Say why a CRIU of version *found* does not do on *kernel*; None where it does."""
    if not found:
        return Problem(
            "checkpoint.no-criu", "processes cannot be dumped or restored here",
            "CRIU is not in this image", "build the image with Dockerfile.placeholder",
        )  # fmt: skip
    if tuple(found) >= LEAST:
        return None
    have = ".".join(map(str, found))
    return Problem(
        "checkpoint.old-criu", f"CRIU {have} is too old",
        f"it cannot dump sockets on kernel {kernel}", f"CRIU {LEAST_WORD}: Dockerfile.placeholder",
    )  # fmt: skip


# Said by runs that succeed, too: never the cause of a failure.
_HARMLESS = ("RLIMIT_NOFILE", "kdat cache", "Failed to turn off repair mode", "create tun")


def causes(log: str, most: int = 4) -> list[str]:
    """Return the last lines of a *log* that may say why a run failed."""
    found = [line.partition("Error ")[2] for line in log.splitlines() if "Error (" in line]
    return [line for line in found if not any(word in line for word in _HARMLESS)][-most:]


def failed(verb: str, log: str, otherwise: str) -> Problem:
    """Return the problem of a `criu VERB` that failed: what its *log* says, or *otherwise*."""
    text = (files.read(log, _LONGEST_LOG) or b"").decode("utf-8", "replace")
    why = "; ".join(causes(text)) or otherwise or "it does not say why"
    fix = "`workspace-agent doctor --for checkpoint`"
    if verb == "dump":
        what = "the workload could not be frozen, and runs on"
        return Problem("checkpoint.dump-failed", what, why, fix, log)
    what = "the frozen workload could not be restored"
    return Problem("checkpoint.restore-failed", what, why, fix, log)
