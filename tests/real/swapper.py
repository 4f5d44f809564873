"""Swaps a folder and a link to another one, as fast as it can, until its input ends.

swapper.py OUTSIDE JUNK FOLDER LINK [FOLDER LINK]... prints how often each pair was swapped. Where
a link is gone it is planted again, and what stands in its place goes to JUNK.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys

RENAME_EXCHANGE = 2
AT_FDCWD = -100

outside, junk, *names = map(os.fsencode, sys.argv[1:])
pairs = list(zip(names[::2], names[1::2], strict=True))
exchange = ctypes.CDLL(None).renameat2
swaps, moved = [0] * len(pairs), 0
while True:
    for number, (folder, link) in enumerate(pairs):
        for _ in range(50):
            swaps[number] += exchange(AT_FDCWD, folder, AT_FDCWD, link, RENAME_EXCHANGE) == 0
        if not os.path.islink(link) and not os.path.islink(folder):
            moved += 1
            if os.path.lexists(link):
                os.rename(link, b"%s/%d" % (junk, moved))
            os.symlink(outside, link)
    if select.select([0], [], [], 0)[0]:
        break
print(*swaps)
