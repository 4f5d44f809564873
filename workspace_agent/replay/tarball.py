"""Pack and unpack where the image has no tar that will do: a program, a process for each part.

python -I -S tarball.py pack gzip FOLDER LISTING > part
python -I -S tarball.py unpack gzip FOLDER < part
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def pack(_: str, top: str, listing: str) -> None:
    """Write the files that *listing* names below *top* to standard output, by gzip."""
    with (
        open(listing, encoding="utf-8", errors="surrogateescape", newline="") as names,
        gzip.GzipFile(fileobj=sys.stdout.buffer, mode="wb", compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w|") as members,
    ):
        for name in filter(None, names.read().split("\0")):
            with open(f"{top}/{name}", "rb") as content:
                member = members.gettarinfo(arcname=name, fileobj=content)
                member.type, member.uid, member.gid = tarfile.REGTYPE, 0, 0
                member.size = os.fstat(content.fileno()).st_size  # tarfile: 0 for a hard link
                members.addfile(member, content)


def unpack(codec: str, top: str) -> None:
    """Read standard input into the folder *top*: regular files, and not what has anything else."""
    packed = _opened(codec)
    with tarfile.open(fileobj=packed, mode="r|") as members:
        for member in members:
            content = members.extractfile(member) if member.isreg() else None
            if content is None or {"", ".", ".."} & set(member.name.split("/")):
                sys.exit(f"{member.name!r} is not one of ours")
            path = f"{top}/{member.name}"
            with suppress(FileNotFoundError):
                os.unlink(path)
            with open(path, "xb") as target:
                shutil.copyfileobj(content, target, 1 << 20)
            os.chmod(path, member.mode & 0o755)
    while packed.read(1 << 20):
        pass  # what the packer knows of the whole is at its end


def _opened(codec: str) -> Any:
    if codec == "gzip":
        return gzip.GzipFile(fileobj=sys.stdin.buffer)
    from compression import zstd  # type: ignore[import-not-found]  # Python 3.14 and newer

    return zstd.open(sys.stdin.buffer)


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        pack(*sys.argv[2:])
    else:
        unpack(*sys.argv[2:])
