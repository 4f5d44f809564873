"""What the kernel says about sockets: connections, what is unread, and who is at the other end.

Nothing is asked of the processes that have them open.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# States of /proc/net/tcp (tcp_states.h): closed and listening ones are no connections.
_CLOSED, _LISTENS = 7, 10

# sock_diag(7): ask for all unix sockets with the ends of theirs and who waits to be accepted.
_BY_FAMILY, _DUMP, _AF_UNIX, _DONE, _ERROR = 20, 0x301, 1, 3, 2
_SHOW_PEER, _SHOW_WAITING = 4, 8
_PEER, _WAITING = 2, 3


@dataclass(frozen=True)
class Sockets:
    """By inode: *ends* lead from a unix socket to the other end of it.

    *connected* are TCP connections and their ports here; *unread* are netlink sockets that have an
    answer which nobody has read yet.
    """

    connected: dict[int, int] = field(default_factory=dict)
    unread: set[int] = field(default_factory=set)
    ends: dict[int, int] = field(default_factory=dict)


def look(pid: int) -> Sockets:
    """Return the sockets of *pid*'s network; the unix ones are of ours."""
    found = Sockets()
    for name in ("tcp", "tcp6"):
        for words in _rows(f"/proc/{pid}/net/{name}"):
            state, inode = int(words[3], 16), int(words[9])
            if state not in (_LISTENS, _CLOSED):
                found.connected[inode] = int(words[1].partition(":")[2], 16)
    for words in _rows(f"/proc/{pid}/net/netlink"):
        if int(words[4]):
            found.unread.add(int(words[9]))
    with suppress(OSError):  # no socket for this in a container that is closed very tightly
        found.ends.update(_unix_ends())
    return found


def _rows(path: str) -> Iterator[list[str]]:
    with suppress(OSError), open(path) as handle:
        next(handle, None)
        for line in handle:
            yield line.split()


def _unix_ends() -> dict[int, int]:
    """Ask for all unix sockets. A connection that nobody accepted ends at the listener."""
    ends: dict[int, int] = {}
    for inode, about in _unix_sockets():
        if peer := about.get(_PEER, b""):
            ends.setdefault(inode, int.from_bytes(peer, "little"))
        waiting = about.get(_WAITING, b"")
        ends.update(dict.fromkeys((n for (n,) in struct.iter_unpack("=I", waiting)), inode))
    return {inode: end for inode, end in ends.items() if end}


def _unix_sockets() -> Iterator[tuple[int, dict[int, bytes]]]:
    import socket

    ask = struct.pack("=BBHIIIQ", _AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_PEER | _SHOW_WAITING, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as link:  # NETLINK_SOCK_DIAG
        link.send(struct.pack("=IHHII", 16 + len(ask), _BY_FAMILY, _DUMP, 1, 0) + ask)
        while True:
            said = link.recv(1 << 18)
            while said:
                size, kind = struct.unpack_from("=IH", said)
                if kind in (_DONE, _ERROR):
                    return
                (inode,) = struct.unpack_from("=I", said, 20)
                yield inode, _attributes(said[32:size])
                said = said[(size + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        size, kind = struct.unpack_from("=HH", data)
        found[kind] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found
