"""Workloads, one function each: they set something up and then tick. Run in a container.

`python3 zoo.py NAME`; the log is standard output.
"""

# ruff: noqa: SIM115 (what is open is what this is about)

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import socket
import sqlite3
import struct
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
VOLUME = "/workspace"
KEPT: list[object] = []


def tick() -> None:
    n = 0
    while True:
        n += 1
        print(n, flush=True)
        time.sleep(0.02)


def need(result: int) -> int:
    if result < 0:
        sys.exit(f"cannot be set up: {os.strerror(ctypes.get_errno())}")
    return result


def child(work) -> int:
    """Start a child that does *work* and waits; it has done that when this returns."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        work()
        os.write(writer, b"1")
        while True:
            signal.pause()
    os.close(writer)
    if not os.read(reader, 1):
        sys.exit("a child cannot be set up")
    os.close(reader)
    return pid


# What can be dumped and restored.


def plain() -> None: ...


def tree() -> None:
    import pty

    for _ in range(2):
        child(lambda: None)
    if (pid := os.fork()) == 0:
        os._exit(3)
    while open(f"/proc/{pid}/stat").read().split()[2] != "Z":
        time.sleep(0.01)
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("cat", ["cat"])
    KEPT.append(master)


def descriptors() -> None:
    reader, writer = os.pipe()
    poll = select.epoll()
    poll.register(reader, select.EPOLLIN)
    memory = os.memfd_create("m")
    os.ftruncate(memory, 4096)
    timer = libc.timerfd_create(1, 0)
    libc.timerfd_settime(timer, 0, struct.pack("4q", 0, 0, 500, 0), None)
    KEPT.extend([poll, writer, mmap.mmap(memory, 4096), mmap.mmap(-1, 4096), socket.socketpair()])
    KEPT.extend(
        [os.eventfd(1), os.pidfd_open(os.getpid()), open("/dev/zero"), open("/proc/1/stat")]
    )


def listeners() -> None:
    for family, kind, where in (
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        (socket.AF_UNIX, socket.SOCK_STREAM, f"{VOLUME}/listener"),
        (socket.AF_NETLINK, socket.SOCK_RAW, (0, 0)),
    ):
        one = socket.socket(family, kind)
        one.bind(where)
        if kind == socket.SOCK_STREAM:
            one.listen()
        KEPT.append(one)
    near = socket.socket(socket.AF_UNIX)
    near.connect(f"{VOLUME}/listener")  # not accepted: its other end is the listener
    KEPT.append(near)


def shared() -> None:
    with open("/dev/shm/zoo", "wb+") as handle:
        handle.truncate(4096)
        KEPT.append(mmap.mmap(handle.fileno(), 4096))
    KEPT.append(os.open(VOLUME, os.O_TMPFILE | os.O_RDWR))
    KEPT.append(open(f"{VOLUME}/zoo.log", "ab"))


def etc_watch() -> None:
    need(libc.inotify_add_watch(libc.inotify_init1(0), b"/etc", 0x100))


# What works, and is worth a word.


def connection() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    KEPT.extend([listener, socket.create_connection(listener.getsockname()), listener.accept()])


def timer() -> None:
    fd = libc.timerfd_create(1, 0)
    libc.timerfd_settime(fd, 0, struct.pack("4q", 0, 1000, 0, 1000), None)
    select.select([fd], [], [])


def database() -> None:
    one = sqlite3.connect("/root/zoo.db")
    one.execute("create table t (a)")
    one.commit()
    KEPT.append(one)


def size() -> None:
    KEPT.append(open(f"{VOLUME}/sized.log", "w"))


def daemon() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 3)
            signal.pause()
        os._exit(0)
    os.wait()


def pipe_outside() -> None: ...


# What CRIU refuses, at the dump or at the restore.


def io_uring() -> None:
    need(libc.syscall(425, 8, ctypes.create_string_buffer(120)))


def perf() -> None:
    about = bytearray(128)
    struct.pack_into("IIQ", about, 0, 1, 128, 1)
    struct.pack_into("Q", about, 40, 0x60)
    need(libc.syscall(298, (ctypes.c_char * 128).from_buffer(about), 0, -1, -1, 0))


def userfaultfd() -> None:
    need(libc.syscall(323, 1))


def landlock() -> None:
    need(libc.syscall(444, struct.pack("Q", 1), 8, 0))


def secret_memory() -> None:
    fd = need(libc.syscall(447, 0))
    os.ftruncate(fd, 4096)
    KEPT.append(mmap.mmap(fd, 4096))
    os.close(fd)


def vsock() -> None:
    KEPT.append(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))


def mptcp() -> None:
    KEPT.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))


def unread_netlink() -> None:
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    one.bind((0, 0))
    one.send(struct.pack("IHHIIB", 17, 18, 0x301, 1, 0, 0))
    KEPT.append(one)


def not_accepted() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    KEPT.extend([listener, socket.create_connection(listener.getsockname())])


def system_v() -> None:
    need(libc.shmat(libc.shmget(0, 4096, 0o1600), None, 0) or -1)


def stream_outside() -> None:
    one = socket.socket(socket.AF_UNIX)
    one.connect(f"{VOLUME}/outside.stream")
    KEPT.append(one)


def datagram_outside() -> None:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.connect(f"{VOLUME}/outside.dgram")
    KEPT.append(one)


def pair_outside() -> None: ...


def terminal_outside() -> None:
    KEPT.append(os.open(os.readlink(f"{VOLUME}/outside.tty"), os.O_RDWR | os.O_NOCTTY))


def handle_outside() -> None:
    os.pidfd_open(1)


def watch() -> None:
    need(libc.inotify_add_watch(libc.inotify_init1(0), VOLUME.encode(), 0x100))


def layer_watch() -> None:
    need(libc.inotify_add_watch(libc.inotify_init1(0), b"/root", 0x100))


def leaked() -> None:
    """Get a descriptor of a mount that is gone, with its namespace: its path leads nowhere."""
    here, there = socket.socketpair()

    def away() -> None:
        need(libc.unshare(0x10020000))  # a user and a mount namespace
        socket.send_fds(there, [b"1"], [os.open(f"{VOLUME}/leaked", os.O_CREAT)])

    pid = child(away)
    KEPT.append(socket.recv_fds(here, 1, 1)[1])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def large_ghost() -> None:
    fd = os.open(VOLUME, os.O_TMPFILE | os.O_RDWR)
    os.posix_fallocate(fd, 0, 513 << 20)


def large_ghost_mapped() -> None:
    fd = os.open(VOLUME, os.O_TMPFILE | os.O_RDWR)
    os.posix_fallocate(fd, 0, 513 << 20)
    KEPT.append(mmap.mmap(fd, 4096))
    os.close(fd)


def no_leader() -> None: ...


def own_filter() -> None:
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
    libc.prctl(38, 1, 0, 0, 0)
    need(libc.prctl(22, 2, struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow)), 0, 0))


def own_user_namespace() -> None:
    child(lambda: need(libc.unshare(0x10000000)))


def own_network() -> None:
    child(lambda: need(libc.unshare(0x40000000)))


def traced() -> None:
    need(libc.ptrace(0x4206, child(lambda: None), 0, 0))


def other_user() -> None:
    child(lambda: os.setresuid(33, 33, 33))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    tick()
