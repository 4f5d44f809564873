"""Whom a checkpoint asks first: programs, a server, and processes that use `workload.py`.

Each has a `before` and an `after`, which take what time is left and return why it failed, or "".
No word of what they print is passed on: it may be secret.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from workspace_agent.checkpoint import tree
from workspace_agent.config import forms
from workspace_agent.host import command, files
from workspace_agent.model import jsontext
from workspace_agent.model.words import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Part(Protocol):
        """One that is asked; *told* is the body of what it hears."""

        @property
        def name(self) -> str: ...  # noqa: D102

        def before(self, told: Told, left: float) -> str: ...  # noqa: D102

        def after(self, told: Told, left: float) -> str: ...  # noqa: D102

    Told = Mapping[str, str | int]

# Between two looks for answers; the library looks five times a second.
_LOOK = 0.02

# The status line of an answer is shorter.
_HEAD = 4096


@dataclass(frozen=True)
class Hook:
    """The programs of one *name* in `before.d` and `after.d` of *folder*; either may be missing."""

    name: str
    folder: str
    environ: Mapping[str, str]
    log: str

    def before(self, told: Told, left: float) -> str:
        """Run the one in `before.d`."""
        return self._run("before.d", told, left)

    def after(self, told: Told, left: float) -> str:
        """Run the one in `after.d`."""
        return self._run("after.d", told, left)

    def _run(self, which: str, told: Told, left: float) -> str:
        path = f"{self.folder}/{which}/{self.name.partition('/')[2]}"
        if not _is_program(path):
            return ""
        words = {f"WORKSPACE_CHECKPOINT_{name.upper()}": str(value) for name, value in told.items()}
        try:
            ended = command.run(
                [path], log=self.log, env={**self.environ, **words}, timeout=max(0.01, left)
            )
        except OSError as error:
            return os.strerror(error.errno or 0)
        if ended.timed_out:
            return f"it ran longer than {duration(left)}"
        return f"exit code {ended.code}" if ended.code else ""


def hooks(folder: str, environ: Mapping[str, str], log: str) -> list[Hook]:
    """Return the programs in *folder*, in name order."""
    names = set()
    for which in ("before.d", "after.d"):
        if os.path.isdir(f"{folder}/{which}"):
            names |= {
                n for n in os.listdir(f"{folder}/{which}") if _is_program(f"{folder}/{which}/{n}")
            }
    return [Hook(f"hook/{name}", folder, environ, log) for name in sorted(names)]


def _is_program(path: str) -> bool:
    hidden = os.path.basename(path).startswith(".")
    return not hidden and os.path.isfile(path) and os.access(path, os.X_OK)


@dataclass(frozen=True)
class Http:
    """A server of the workload at *url*, which is on this machine: the profile takes no other."""

    url: str
    name: str = "http"

    def before(self, told: Told, left: float) -> str:
        """POST to /checkpoint/before."""
        return self._post("before", told, left)

    def after(self, told: Told, left: float) -> str:
        """POST to /checkpoint/after."""
        return self._post("after", told, left)

    def _post(self, what: str, told: Told, left: float) -> str:
        """Send *told* and read the status alone: no more than what is *left* goes for it."""
        import socket
        from urllib.parse import urlsplit

        until = time.monotonic() + left
        address, body = urlsplit(self.url), jsontext.dumps(dict(told))
        there = (forms.loopback(self.url), address.port or 80)
        head = (
            f"POST {address.path.rstrip('/')}/checkpoint/{what} HTTP/1.1\r\n"
            f"Host: {address.netloc}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        said = b""
        try:
            with socket.create_connection(there, max(0.01, left)) as stream:
                stream.sendall((head + body).encode())
                while b"\n" not in said and len(said) < _HEAD:
                    stream.settimeout(max(0.01, until - time.monotonic()))
                    more = stream.recv(_HEAD)
                    if not more:
                        break
                    said += more
        except TimeoutError:
            return f"no answer for {duration(left)}"
        except OSError as error:
            return f"{self.url}: {os.strerror(error.errno or 0)}"
        status = said.split()[1:2]
        if status and status[0][:1] == b"2":
            return ""
        return f"status {status[0].decode(errors='replace')[:20]}" if status else "no answer"


@dataclass(frozen=True)
class Library:
    """The processes *clients*, in which `workload.py` looks at the folder *control*.

    They are asked together: ranks of one training may wait for each other.
    """

    control: str
    clients: tuple[int, ...]
    name: str = "library"

    def before(self, told: Told, left: float) -> str:
        """Have the callbacks of all called."""
        return self._ask("before", told, left)

    def after(self, told: Told, left: float) -> str:
        """The same for those after."""
        return self._ask("after", told, left)

    def _ask(self, want: str, told: Told, left: float) -> str:
        files.commit(f"{self.control}/request", jsontext.dumps({**told, "want": want}), 0o600)
        waiting, failed = set(self.clients), []
        until = time.monotonic() + left
        while waiting and time.monotonic() < until:
            for pid in sorted(waiting):
                answer = self.answer(pid, want, str(told["nonce"]))
                if answer is not None:
                    waiting.remove(pid)
                    failed += [f"process {pid}: {one}" for one in answer]
                elif (now := tree.task(pid)) is None or now.state == tree.ZOMBIE:
                    waiting.remove(pid)
                    failed.append(f"process {pid} has ended")
            time.sleep(_LOOK if waiting else 0)
        failed += [f"process {pid}: no answer for {duration(left)}" for pid in sorted(waiting)]
        return "; ".join(failed)

    def answer(self, pid: int, want: str, nonce: str) -> list[str] | None:
        """Return which callbacks failed in *pid*; None when it has not answered to *nonce*."""
        found = jsontext.table(files.read(f"{self.control}/answer-{pid}"))
        if (found.get("nonce"), found.get("want")) != (nonce, want):
            return None
        errors = found.get("errors")
        return [str(one) for one in errors] if isinstance(errors, list) else []


def clients(control: str) -> tuple[int, ...]:
    """Return the living processes that have registered in *control*."""
    found = []
    for name in os.listdir(control):
        word, _, number = name.partition("-")
        if word == "client" and number.isdigit():
            now = tree.task(int(number))
            said = jsontext.table(files.read(f"{control}/{name}"))
            if now and now.state != tree.ZOMBIE and now.started == said.get("started"):
                found.append(int(number))
    return tuple(sorted(found))
