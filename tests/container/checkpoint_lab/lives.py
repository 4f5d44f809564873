"""Workloads that know whether they go on: each counts, and checks what it holds in memory.

`python3 lives.py NAME` prints `N ok`, or what is wrong. A start of its own is noted on the volume:
who was restored has started once.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
import time

VOLUME = "/workspace"
PR_SET_CHILD_SUBREAPER = 36
TOKEN = os.urandom(8).hex()


def tick(check=lambda n: "") -> None:
    n = 0
    with open(f"{VOLUME}/starts", "a") as starts:
        starts.write(f"{os.getpid()} {TOKEN}\n")
    while True:
        n += 1
        try:
            wrong = check(n)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        print(n, wrong or "ok", TOKEN, flush=True)
        if n == int(os.environ.get("ENDS_AT", "0")):
            sys.exit(9)
        time.sleep(0.02)


def plain() -> None:
    tick()


def forks() -> None:
    """Start a process at each tick; it must not come where the next container's agent is."""

    def check(n: int) -> str:
        pid = os.fork()
        if pid == 0:
            os._exit(n % 100)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        low = pid < int(os.environ["FLOOR"])
        return f"process {pid} is low" if low else "" if code == n % 100 else f"code {code}"

    tick(check)


def tree() -> None:
    """Children over pipes, a terminal of its own, a zombie, and a daemon that it adopted."""
    import pty

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    children = [_echo() for _ in range(3)]
    zombie = os.fork()
    if zombie == 0:
        os._exit(3)
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("cat", ["cat"])
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                with open(f"{VOLUME}/daemon", "a") as out:
                    out.write(".")
                time.sleep(0.02)
        os._exit(0)
    os.waitpid(between, 0)

    def check(n: int) -> str:
        for _, writer, reader in children:
            os.write(writer, b"%d" % n)
            if os.read(reader, 64) != b"%d" % n:
                return "a pipe"
        os.write(master, b"%d\n" % n)
        said = b""
        while said.count(b"%d\r\n" % n) < 2:  # its echo, and what cat says
            said += os.read(master, 256)
        with open(f"/proc/{zombie}/stat") as stat:
            return "" if stat.read().split()[2] == "Z" else "the zombie"

    tick(check)


def _echo() -> tuple[int, int, int]:
    there, writer = os.pipe()
    reader, back = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        while data := os.read(there, 64):
            os.write(back, data)
        os._exit(0)
    return pid, writer, reader


def memory() -> None:
    """SIZE MiB, and threads that count."""
    block = os.urandom(1 << 20)
    held = [bytearray(block) for _ in range(int(os.environ.get("SIZE", "64")))]
    for n, one in enumerate(held):
        one[:8] = n.to_bytes(8, "big")
    told = hashlib.sha256(b"".join(held[::8])).digest()
    counts = [0] * 8

    def count(n: int) -> None:
        while True:
            counts[n] += 1
            time.sleep(0.005)

    for n in range(len(counts)):
        threading.Thread(target=count, args=(n,), daemon=True).start()
    last = list(counts)

    def check(n: int) -> str:
        nonlocal last
        moved = n % 20 or all(now > then for now, then in zip(counts, last, strict=True))
        last = last if n % 20 else list(counts)
        same = n % 20 or hashlib.sha256(b"".join(held[::8])).digest() == told
        return "" if moved and same else f"threads {bool(moved)}, memory {bool(same)}"

    tick(check)


def outside() -> None:
    """Open files and folders that are not on the volume, one of them deleted."""
    os.makedirs("/root/scratch/below", exist_ok=True)
    os.chdir("/root/scratch/below")
    data = open("/root/scratch/data", "wb+")  # noqa: SIM115
    data.write(os.urandom(5000))
    data.flush()
    gone = open("/root/scratch/gone", "wb+")  # noqa: SIM115
    gone.write(b"g" * (3 << 20))
    gone.flush()
    os.unlink("/root/scratch/gone")
    os.unlink("/etc/motd")
    with open("/opt/late.py", "w") as module:
        module.write("VALUE = 42\n")

    def check(n: int) -> str:
        data.seek(0, 2)
        data.write(b"x")
        data.flush()
        gone.seek(0)
        if gone.read(4) != b"gggg" or data.tell() != 5000 + n:
            return "files"
        return "a deleted file is back" if os.path.exists("/etc/motd") else ""

    tick(check)


def linked() -> None:
    """A file that is open by a name that it has no longer, but has another: on the volume."""
    data = open(f"{VOLUME}/first", "wb+")  # noqa: SIM115
    data.write(b"linked")
    data.flush()
    os.link(f"{VOLUME}/first", f"{VOLUME}/second")
    os.unlink(f"{VOLUME}/first")

    def check(n: int) -> str:
        data.seek(0)
        same = os.path.samestat(os.fstat(data.fileno()), os.stat(f"{VOLUME}/second"))
        return "" if same and data.read() == b"linked" else "the file"

    tick(check)


def packages() -> None:
    """A package that is looked for anew each time."""

    def check(n: int) -> str:
        sys.modules.pop("hello", None)
        import hello

        return "" if "/workspace-env" in hello.__file__ else hello.__file__

    tick(check)


def pool() -> None:
    """Two spawned workers with queues, and shared memory: semaphores below /dev/shm."""
    import multiprocessing
    from multiprocessing import shared_memory

    context = multiprocessing.get_context("spawn")
    asked, told = context.Queue(), context.Queue()
    for _ in range(2):
        context.Process(target=_work, args=(asked, told), daemon=True).start()
    block = shared_memory.SharedMemory("lives", create=True, size=1 << 20)
    block.buf[:5] = b"hello"

    def check(n: int) -> str:
        asked.put(n)
        return "" if told.get(timeout=30) == 2 * n and bytes(block.buf[:5]) == b"hello" else "pool"

    tick(check)


def _work(asked, told) -> None:
    while True:
        told.put(asked.get() * 2)


def server() -> None:
    """HTTP on PORT; it answers how many asked."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        count = 0

        def do_GET(self) -> None:
            Handler.count += 1
            body = b"%d" % Handler.count
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    one = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
    threading.Thread(target=one.serve_forever, daemon=True).start()
    tick()


def training() -> None:
    """Fit a model step by step; its loss falls on from where it was."""
    import numpy
    from sklearn.linear_model import SGDRegressor

    rng = numpy.random.default_rng(0)
    data = rng.standard_normal((2000, 50))
    wanted = data @ rng.standard_normal(50)
    model = SGDRegressor(learning_rate="constant", eta0=1e-4, random_state=0)
    losses: list[float] = []

    def check(n: int) -> str:
        model.partial_fit(data, wanted)
        losses.append(float(((model.predict(data) - wanted) ** 2).mean()))
        fell = len(losses) < 2 or losses[-1] <= losses[-2] * 1.01
        return "" if fell and len(losses) == n and model.t_ == n * 2000 + 1 else f"{losses[-2:]}"

    tick(check)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
