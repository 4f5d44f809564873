"""A saver that is killed: says what is saved as soon as it is, and never ends by itself.

`rescue_worker.py CONTAINER VOLUME RUN`
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model.atrisk import Entry
from workspace_agent.rescue.lines import Header
from workspace_agent.rescue.store import opened


def main(container: str, volume: str, run: str) -> None:
    with (
        opened(volume, "me", make=True) as store,
        SafeRoot.at(container) as top,
        store.begin(run, Header(image="i")) as writing,
    ):
        turn = 0
        while True:
            turn += 1
            for part in range(8):
                entries = []
                for n in range(part * 5, part * 5 + 5):
                    path = f"/d{n % 3}/f{n}"
                    Path(f"{container}/d{n % 3}").mkdir(exist_ok=True)
                    size = 9 << 20 if n == 17 else (n * 7919) % 200_000
                    Path(container + path).write_bytes(bytes([turn % 256]) * size)
                    os.utime(container + path, ns=(turn, turn))
                    entries.append(Entry.of(path, "code", 90, os.lstat(container + path)))
                assert [] == writing.save(top, entries).left
                print("saved", turn, *(entry.path for entry in entries), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
