"""Restore a checkpoint beside the workload, in namespaces that are thrown away: a program.

python -I -S trial.py CRIU-ARGUMENTS...     exit code 0: it came back; 75: no namespaces here

Its processes stay stopped: no code of theirs runs. The namespace of process numbers is new, so
theirs are free in it; the one of the network, so that its ports are. CRIU needs a /proc of its own,
which the kernel refuses to a user namespace where parts of /proc are masked, as engines do: then it
takes CAP_SYS_ADMIN.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import CDLL

# linux/sched.h, linux/mount.h
_NEWNS, _NEWPID, _NEWNET = 0x00020000, 0x20000000, 0x40000000
_PRIVATE = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE

# New mounts: where, and of what; the workload's terminals have their numbers in the old one.
_MOUNTS = (
    (b"/proc", b"proc", None),
    (b"/dev/pts", b"devpts", b"newinstance,ptmxmode=0666,mode=0620"),
)

# linux/sockios.h, linux/if.h
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1

NO_NAMESPACES = 75  # sysexits.h: a temporary failure; nothing was tried


def main(argv: list[str]) -> int:
    """Run *argv*, a `criu restore`, in new namespaces; returns its exit code."""
    import ctypes

    libc = ctypes.CDLL(None)
    if libc.unshare(_NEWNS | _NEWPID | _NEWNET):
        return NO_NAMESPACES
    child = os.fork()
    if child == 0:
        os._exit(_within(libc, argv))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _within(libc: CDLL, argv: list[str]) -> int:
    """Be the first process there: what is restored ends when we do."""
    if libc.mount(b"none", b"/", None, _PRIVATE, None):
        return NO_NAMESPACES
    if any(libc.mount(kind, at, kind, 0, options) for at, kind, options in _MOUNTS):
        return NO_NAMESPACES
    _raise_loopback()
    child = os.posix_spawn(argv[0], argv, dict(os.environ))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _raise_loopback() -> None:
    """CRIU looks at the network before it does anything, and gives up where it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        asked = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(one, _GET_FLAGS, asked))
        fcntl.ioctl(one, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
