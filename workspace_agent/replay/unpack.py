"""Unpack a tar stream without tar: a program of its own, one process for each part.

python -I -S unpack.py CODEC FOLDER < part
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from contextlib import suppress


def main(codec: str, top: str) -> int:
    """Unpack standard input into the folder *top*: regular files and nothing else."""
    with _opened(codec) as members:
        for member in members:
            inside = not {"", ".", ".."} & set(member.name.split("/"))
            content = members.extractfile(member) if member.isreg() and inside else None
            if content is not None:
                path = f"{top}/{member.name}"
                with suppress(FileNotFoundError):
                    os.unlink(path)
                with open(path, "xb") as target:
                    shutil.copyfileobj(content, target, 1 << 20)
                os.chmod(path, member.mode & 0o755)
                os.utime(path, (member.mtime, member.mtime))
    return 0


def _opened(codec: str) -> tarfile.TarFile:
    if codec == "gzip":
        return tarfile.open(fileobj=sys.stdin.buffer, mode="r|gz")
    from compression import zstd  # type: ignore[import-not-found]  # Python 3.14 and newer

    return tarfile.open(fileobj=zstd.open(sys.stdin.buffer), mode="r|")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
