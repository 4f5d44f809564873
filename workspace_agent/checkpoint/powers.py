"""What this process and its container may do, as far as CRIU asks for it.

Every rule here was tried in real containers: tests/container/test_checkpoint_matrix.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from workspace_agent.checkpoint import criu
from workspace_agent.host import command, files
from workspace_agent.model.problem import Problem

# Bits of capabilities(7).
SETPCAP, DAC_READ_SEARCH, NET_ADMIN, SYS_PTRACE, SYS_ADMIN, SYS_RESOURCE, SYS_TIME = (
    1 << bit for bit in (8, 2, 12, 19, 21, 24, 25)
)
CHECKPOINT_RESTORE = 1 << 40

# CRIU as it is meant: less, and it dumps but cannot restore (a veth pair, a time namespace).
_FULL = SYS_ADMIN | SYS_PTRACE | NET_ADMIN | SYS_TIME | CHECKPOINT_RESTORE

# All that one of the rules asks for.
ASKED_FOR = _FULL | SETPCAP | DAC_READ_SEARCH | SYS_RESOURCE

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO"
    " SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME"
    " SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG"
    " WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)

# `criu --version` does nothing; a loader that is broken may hang.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Powers:
    """The sets of capabilities, as bits; *seccomp* is 0 without a filter; *criu* its version.

    *ptrace_scope* is Yama's, 0 where there is none.
    """

    effective: int
    bounding: int
    seccomp: int
    uid: int
    ptrace_scope: int
    kernel: str
    criu: tuple[int, ...]

    def has(self, bits: int) -> bool:
        """Say whether all capabilities of *bits* are there."""
        return self.effective & bits == bits


def read(criu_program: str) -> Powers:
    """Look at this process, and ask CRIU for its version."""
    said = status("self")
    scope = files.read("/proc/sys/kernel/yama/ptrace_scope") or b"0"
    return Powers(
        int(said["CapEff"], 16), int(said["CapBnd"], 16), int(said.get("Seccomp", "0")),
        os.geteuid(), int(scope), os.uname().release, _version(criu_program),
    )  # fmt: skip


def status(pid: int | str) -> dict[str, str]:
    """Return the fields of /proc/PID/status; empty when the process is gone."""
    lines = os.fsdecode(files.read(f"/proc/{pid}/status") or b"").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def is_full(powers: Powers) -> bool:
    """Say whether CRIU may run without `--unprivileged`; clocks then go on where they stopped."""
    return powers.uid == 0 and powers.has(_FULL)


def against_dump(powers: Powers) -> list[Problem]:
    """Return every reason why no process can be dumped from here."""
    found = _against_both(powers)
    if powers.ptrace_scope > 2:
        found.append(_yama(powers, "this machine lets nobody trace a process", "another machine"))
    elif powers.ptrace_scope and not powers.has(SYS_PTRACE):
        found.append(_yama(powers, "processes may trace their children only", _add("SYS_PTRACE")))
    if powers.seccomp:
        found.append(Problem(
            "checkpoint.seccomp", "processes cannot be dumped here",
            "the container has a seccomp filter, and who has one cannot suspend another's;"
            " what was dumped elsewhere can be restored",
            "seccompProfile: {type: Unconfined} in the pod, --security-opt seccomp=unconfined",
        ))  # fmt: skip
    return found


def against_restore(powers: Powers, recorded: int = 0) -> list[Problem]:
    """Return every reason why nothing can be restored here.

    *recorded* are the capabilities that the dumped processes had: nobody can be given what is not
    ours to give. Their bounding sets don't matter.
    """
    found = _against_both(powers)
    if not powers.has(SETPCAP):
        found.append(_lacking(SETPCAP, "nothing can be restored here"))
    if recorded & ~powers.effective:
        lacking = recorded & ~powers.effective
        found.append(_lacking(lacking, "these processes cannot be restored here"))
    return found


def names(bits: int) -> list[str]:
    """Return the names of these capabilities, without CAP_."""
    return [name for n, name in enumerate(_NAMES.split()) if bits & (1 << n)]


def _against_both(powers: Powers) -> list[Problem]:
    found = [one] if (one := criu.unusable(powers.criu, powers.kernel)) else []
    if not powers.effective & (CHECKPOINT_RESTORE | SYS_ADMIN):
        found.append(_lacking(CHECKPOINT_RESTORE, "CRIU may not do anything here"))
    return found


def _lacking(bits: int, what: str) -> Problem:
    lacking = ",".join(names(bits))
    return Problem("checkpoint.no-right", what, f"without {lacking}", _add(lacking))


def _yama(powers: Powers, why: str, fix: str) -> Problem:
    why = f"{why}: kernel.yama.ptrace_scope is {powers.ptrace_scope}"
    return Problem("checkpoint.no-right", "processes cannot be dumped here", why, fix)


def _add(capabilities: str) -> str:
    return f"capabilities: {{add: [{capabilities}]}} in the pod, --cap-add {capabilities}"


def _version(program: str) -> tuple[int, ...]:
    if not os.access(program, os.X_OK):
        return ()
    if noted := files.read(f"{os.path.dirname(program)}/VERSION"):  # by deploy/bundle-criu
        return criu.version(os.fsdecode(noted))
    fd = os.memfd_create("criu")
    try:
        command.run([program, "--version"], log=os.devnull, out=f"/proc/self/fd/{fd}",
                    env=os.environ, timeout=_PATIENCE)  # fmt: skip
        return criu.version(os.fsdecode(os.pread(fd, 4096, 0)))
    except OSError:
        return ()
    finally:
        os.close(fd)
