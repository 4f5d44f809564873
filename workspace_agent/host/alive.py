"""Signs of life: how a process proves to others that it is no more.

A process number means nothing outside its container, and a time needs patience. An abstract
socket belongs to the network namespace, which the containers of one pod share, and a restarted
container has again; it ends with its process, however that ends.
"""

from __future__ import annotations

import errno
import os

from workspace_agent.host import files

_NAME = b"\0workspace-agent-"


class Sign:
    """A sign of life of this process, until `end`; others ask `is_gone(text)`.

    *text* is always three words.
    """

    def __init__(self) -> None:
        import _socket  # the C half: `socket` costs 10 ms; a warm boot gives no sign

        name = os.urandom(8).hex()
        here, self.text = _here(), f"- - {name}"
        self._socket: _socket.socket | None = None
        try:
            self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
            self._socket.bind(_NAME + name.encode())
        except OSError:
            return  # no sockets here: of us nobody knows anything
        if here:
            self.text = f"{here} {name}"

    def end(self) -> None:
        """Be gone."""
        if self._socket:
            self._socket.close()


def is_gone(text: bytes) -> bool | None:
    """Say whether whoever gave the sign *text* is gone; None when that cannot be known here.

    Only the same network namespace of the same kernel can know.
    """
    import _socket

    here, _, name = text.strip().rpartition(b" ")
    if not here or here.decode("ascii", "replace") != _here():
        return None
    try:
        asking = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        try:
            asking.connect(_NAME + name)
        finally:
            asking.close()
    except OSError as error:
        return True if error.errno == errno.ECONNREFUSED else None
    return False


def _here() -> str:
    """Name this kernel's run and this network namespace; an empty text where nobody can."""
    boot = (files.read("/proc/sys/kernel/random/boot_id") or b"").decode("ascii", "replace")
    try:
        namespace = os.readlink("/proc/self/ns/net")
    except OSError:
        return ""
    return f"{boot.strip()} {namespace}" if boot else ""
