"""The command lines of CRIU, and what its version can do. Pure.

Facts: version 4.2 is the first that dumps sockets on kernels from 6.16 on (SO_PASSCRED became
restricted to families); `--tcp-close` with `--network-lock skip` needs neither NET_ADMIN nor
iptables; the ghost limit's default of 1 MiB refuses a deleted file of 3 MiB.
"""

from __future__ import annotations

from dataclasses import dataclass

from workspace_agent.model.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Where the placeholder image has it, with its libraries and its loader.
BUNDLED = "/opt/criu/criu"

LEAST, LEAST_WORD = (4, 2), "4.2"

# CRIU's own limit of 10 s covers the freezing of the tree, too.
_TIMEOUT = 600

# What both ends have to agree on.
_BOTH = ("--no-default-config", "--file-locks", "--link-remap", "--network-lock", "skip")


@dataclass(frozen=True)
class Criu:
    """A CRIU: its *program*, and whether it runs *unprivileged* (CAP_CHECKPOINT_RESTORE alone)."""

    program: str = BUNDLED
    unprivileged: bool = True

    def dump(self, root: int, images: str, *, leave_running: bool, tcp: str = "close") -> list[str]:
        """Return what dumps the tree of *root* into the folder *images*."""
        more = ["--leave-running"] if leave_running else []
        return [*self._start("dump", images), "--tree", str(root), "--ghost-limit", "512M",
                "--timeout", str(_TIMEOUT), *_network(tcp), *_BOTH, *more]  # fmt: skip

    def restore(
        self, images: str, pidfile: str, inherit: Mapping[int, str], *, tcp: str = "close",
        stopped: bool = False,
    ) -> list[str]:  # fmt: skip
        """Return what restores *images*; *inherit* leads our descriptors to what was at them."""
        plumbed = [word for fd, what in sorted(inherit.items())
                   for word in ("--inherit-fd", f"fd[{fd}]:{what}")]  # fmt: skip
        more = ["--leave-stopped"] if stopped else []
        return [*self._start("restore", images), "--restore-detached", "--pidfile", pidfile,
                *_network(tcp), *_BOTH, *plumbed, *more]  # fmt: skip

    def _start(self, verb: str, images: str) -> list[str]:
        rights = ["--unprivileged"] if self.unprivileged else []
        return [self.program, verb, *rights, "--images-dir", images, "--log-file", f"{verb}.log",
                "-v4"]  # fmt: skip


def _network(tcp: str) -> list[str]:
    return ["--tcp-established"] if tcp == "established" else ["--tcp-close"]


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
_HARMLESS = ("RLIMIT_NOFILE", "kdat cache", "Failed to turn off repair mode")


def causes(log: str, most: int = 4) -> list[str]:
    """Return the last lines of a *log* that may say why a run failed."""
    found = [line.partition("Error ")[2] for line in log.splitlines() if "Error (" in line]
    return [line for line in found if not any(word in line for word in _HARMLESS)][-most:]
