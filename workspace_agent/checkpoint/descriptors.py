"""What the workload has open, and whether it can be frozen and opened again elsewhere."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from workspace_agent.checkpoint import powers, regular, tree, watches
from workspace_agent.checkpoint.scene import descriptors, inode
from workspace_agent.host import files
from workspace_agent.model.problem import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from workspace_agent.checkpoint.scene import Found, Open, Scene

# Of the kernel's kinds without a path, CRIU knows these.
_KNOWN = {f"anon_inode:{kind}" for kind in (
    "[eventfd]", "[eventpoll]", "[signalfd]", "[timerfd]", "[pidfd]", "inotify", "[fanotify]",
)}  # fmt: skip

# What the kernel calls the protocols of sockets that CRIU knows.
_PROTOCOLS = {
    "TCP", "TCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITEv6", "RAW", "RAWv6", "PING", "PINGv6",
    "UNIX", "UNIX-STREAM", "NETLINK", "PACKET",
}  # fmt: skip

# What helps, where it is known.
_INSTEAD = {
    "anon_inode:[io_uring]": "switch io_uring off: UV_USE_IO_URING=0 for libuv and uvloop",
    "MPTCP": "GODEBUG=multipathtcp=0 for programs in Go",
}

# Numbers of devices: memory (null, zero, random), terminals, /dev/tty and the like, tun.
_MEMORY, _PTS, _TTYS, _TUN = 1, range(136, 144), 5, (10, 200)
_CURRENT, _PTMX = 0, 2


def of_descriptors(scene: Scene) -> Iterator[Found]:
    """Judge every descriptor of the tree."""
    ends = _ends(scene)
    ours = scene.inodes("socket")
    for one in scene.opened:
        kind = one.target.partition(":")[0]
        if kind == "socket":
            yield from _socket(one, scene, ours)
        elif kind == "pipe":
            if one.target in ends:
                yield _outside(one, f"a pipe to {ends[one.target]}", False)
        elif kind in ("anon_inode", "pidfd"):
            yield from _nameless(one, scene)
        elif one.target.startswith("/dev/"):
            yield from _device(one, scene)
        if one.target.startswith("/"):
            yield from regular.judge(one, scene)


def unknown_kind(what: str, kind: str = "") -> Problem:
    """Say that something cannot be dumped."""
    return Problem(
        "checkpoint.not-dumpable", what, "CRIU does not know how to dump this",
        _INSTEAD.get(kind, "let the program close it before a checkpoint (checkpoint.hooks)"),
    )  # fmt: skip


def _outside(one: Open, what: str, stops: bool) -> Found:
    why = "that is not restored, or not in the state that it expects" if stops else "it ends there"
    return Problem(
        "checkpoint.outside", f"{one} is {what}", f"what is outside of the workload: {why}",
        "close it before a checkpoint, or start the other side as part of the workload",
    ), stops, one.target  # fmt: skip


def _socket(one: Open, scene: Scene, ours: set[int]) -> Iterator[Found]:
    number, known = inode(one.target), scene.sockets
    protocol = ""
    with suppress(OSError):
        protocol = os.getxattr(one.link, "system.sockprotoname").rstrip(b"\0").decode()
    if protocol and protocol not in _PROTOCOLS:
        yield unknown_kind(f"{one} is a socket of {protocol}", protocol), True, one.target
    if number in known.ends and known.ends[number] not in ours:
        yield _outside(one, "a unix socket to another process", True)
    if number in known.unread:
        yield Problem(
            "checkpoint.not-taken", f"{one} has an answer of the kernel's that is not read yet",
            "CRIU does not keep it", "try again: the program reads it in a moment",
        ), True, one.target  # fmt: skip
    if number in known.connected:
        about = f"{one} is a connection, port {known.connected[number]} here"
        if scene.tcp == "close":
            yield Problem(
                "checkpoint.connection", about, "the program will find it closed", "close it before"
                " a checkpoint, or set `checkpoint.tcp` to established (CAP_NET_ADMIN)",
            ), False, "connection"  # fmt: skip
        elif not scene.may.has(powers.NET_ADMIN):
            yield Problem(
                "checkpoint.connection", about, "without NET_ADMIN it cannot be kept",
                "add the capability NET_ADMIN, or set `checkpoint.tcp` to close",
            ), True, "connection"  # fmt: skip


def _ends(scene: Scene) -> dict[str, str]:
    """Return the pipes of the tree that lead out of it, and to whom; the container's do not count.

    Those are there in the next container, too, and are given to the workload again.
    """
    sides: dict[str, set[bool]] = {}
    for one in scene.opened:
        if one.target.startswith("pipe:"):
            both = one.flags & os.O_ACCMODE == os.O_RDWR
            sides.setdefault(one.target, set()).update({True, False} if both else {one.writes})
    single = {target for target, found in sides.items() if len(found) == 1} - scene.given
    found: dict[str, str] = {}
    others = (one for one in tree.processes() if one.pid not in scene.pids) if single else ()
    for other in others:
        for one in descriptors(other.pid, other):
            if one.target in single:
                found.setdefault(one.target, f"process {other.pid} ({other.name})")
    return found


def _nameless(one: Open, scene: Scene) -> Iterator[Found]:
    kind = one.target
    if kind.startswith("pidfd:") or kind == "anon_inode:[pidfd]":
        pid = int(one.field("Pid") or -1)
        if pid > 0 and pid not in scene.pids:
            yield _outside(one, f"a handle of process {pid}", True)
    elif kind not in _KNOWN:
        yield unknown_kind(f"{one} is {kind.partition(':')[2]}", kind), True, ""
    elif kind == "anon_inode:[timerfd]":
        yield from _timer(one)
    elif kind in ("anon_inode:inotify", "anon_inode:[fanotify]"):
        yield from watches.judge(one, scene)


def _timer(one: Open) -> Iterator[Found]:
    ended = one.field("it_value") == "(0, 0)" and one.field("ticks") != "0"
    if ended and one.field("it_interval") != "(0, 0)":
        yield Problem(
            "checkpoint.timer", f"{one} is a periodic timer that has ended and was not read",
            "it never ends again after a restore", "read timers that are no longer waited for,"
            " or close them",
        ), False, ""  # fmt: skip


def _device(one: Open, scene: Scene) -> Iterator[Found]:
    if one.target.startswith("/dev/nvidia"):
        yield Problem(
            "checkpoint.gpu", f"{one} is a GPU", "what is in its memory cannot be frozen yet",
            "let the program leave the GPU before a checkpoint (checkpoint.hooks)",
        ), True, "gpu"  # fmt: skip
        return
    try:
        info = os.stat(one.link)
    except OSError:
        return
    major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
    if not stat.S_ISCHR(info.st_mode):
        return
    if f"tty[{info.st_rdev:x}:{info.st_dev:x}]" in scene.given:
        return
    if major in _PTS or major == _TTYS:
        masters = {other.field("tty-index") for other in scene.opened} - {""}
        index = str(minor + 256 * (major - _PTS[0]))
        if major == _TTYS and minor == _CURRENT:
            index = _terminal(one.task.pid)
        if (major, minor) != (_TTYS, _PTMX) and index not in masters:
            yield _outside(one, f"a terminal, {one.target}", True)
    elif major != _MEMORY and (major, minor) != _TUN:
        yield unknown_kind(f"{one} is the device {one.target}"), True, one.target


def _terminal(pid: int) -> str:
    """Return the index of the pty that controls *pid*: field 7 of /proc/PID/stat."""
    words = (files.read(f"/proc/{pid}/stat") or b"").rpartition(b")")[2].split()
    number = int(words[4]) if words else 0
    return str((number & 0xFF) | (number >> 12 & 0xFFF00))
