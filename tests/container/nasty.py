"""Everything awkward that programs do to a container's disk; runs inside it, by the image's Python.

nasty.py FILES: waits for /workspace/go, works, makes /workspace/done, and stays, with its
database open. /opt/image is of the image (test_watch_truth.py); /scratch is a tmpfs.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time

HOME, WORK, IMAGE = "/root/nasty", "/data/nasty", "/opt/image"
NAMES = (b"new\nline.py", b"\x1b[31mred\x07.py", b"caf\xe9-latin1.ipynb", b"\xff\xfe\x80.md",
         b"a" * 252 + b".py", b"-rf.py", b" spaces .py", b"..x", b"*?[a].py", b"tab\t\x01.py",
         "\u202egnp.py".encode(), b"back\\slash.py", b"quote'\".py", b"n--b\n.py")  # fmt: skip

# More than the kernel takes for a path at once.
DEEP = 6_000


def write(path: str | bytes, data: bytes = b"print()\n") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(data)


def tree(amount: int, dice: random.Random) -> None:
    """Many files in many folders, of many kinds."""
    ends = ("py", "txt", "bin", "ipynb", "json", "o", "")
    for n in range(amount):
        name = f"{n}.{ends[n % len(ends)]}".rstrip(".")
        folder = f"{WORK}/tree/{n % 97}/{n % 7}"
        write(f"{folder}/{name}", dice.randbytes(dice.randrange(6_000)))


def storm(amount: int, dice: random.Random) -> None:
    """Names change all the time: of files, and of the folders that they are in."""
    folders = [f"{HOME}/storm/{n}" for n in range(20)]
    for n in range(amount):
        write(f"{folders[n % 20]}/{n}.py")
    for _ in range(amount):
        one = dice.choice(folders)
        os.rename(one, f"{one}.away")
        os.rename(f"{one}.away", one)
        names = os.listdir(one)
        if names:
            os.rename(f"{one}/{dice.choice(names)}", f"{dice.choice(folders)}/{dice.random()}.py")


def mapped() -> None:
    """Written through memory alone: no write, hardly an event."""
    write(f"{HOME}/mapped.py", bytes(8192))
    for path in (f"{HOME}/mapped.py", f"{IMAGE}/mapped"):
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[:6] = b"mapped"


def unnamed() -> None:
    """Made without a name, and given one at last."""
    try:
        fd = os.open(HOME, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:  # an older overlay
        if error.errno != errno.EOPNOTSUPP:
            raise
        return
    os.write(fd, b"linked\n")
    numbers = os.open("/proc/self/fd", os.O_RDONLY)  # with it Python follows the link, at last
    os.link(str(fd), f"{HOME}/linked.py", src_dir_fd=numbers, follow_symlinks=True)
    os.close(numbers)
    os.close(fd)


def special() -> None:
    """A file with a hole of 8 GB, what is no file, a link to itself, a link to nothing."""
    with open(f"{HOME}/sparse.db", "wb") as out:
        out.truncate(8 << 30)
        out.seek(5 << 30)
        out.write(bytes(range(256)) * 16)
    os.mkfifo(f"{HOME}/fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{HOME}/socket")
    os.symlink(".", f"{HOME}/loop")
    os.symlink("nowhere\n\x1b", f"{HOME}/nowhere.py")
    os.symlink("/etc/passwd", f"{HOME}/passwd.py")


def links() -> None:
    """Two names for one file; and a second name for one of the image's, which nobody writes."""
    write(f"{HOME}/twin-a.py", b"x" * 70_000)
    os.link(f"{HOME}/twin-a.py", f"{HOME}/twin-b.py")
    os.link(f"{IMAGE}/linked", f"{IMAGE}/linked-too")


def names() -> None:
    for name in NAMES:
        write(os.fsencode(f"{HOME}/names/") + name)
    fd = os.open(HOME, os.O_RDONLY)
    for _ in range(DEEP // 240):
        os.mkdir("d" * 240, dir_fd=fd)
        below = os.open("d" * 240, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("deep.py", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def attributes() -> None:
    """Changes of the image that are none of content."""
    os.chmod(f"{IMAGE}/mode", 0o600)
    os.chown(f"{IMAGE}/owner", 7, 7)
    os.setxattr(f"{IMAGE}/attribute", "user.of", b"mine")


def dated() -> None:
    """Files that say they are from 1970: by hand, by `cp -a`, by `tar`."""
    write(f"{HOME}/dated.py")
    os.utime(f"{HOME}/dated.py", (1, 1))
    subprocess.run(["cp", "-a", f"{IMAGE}/dated", f"{WORK}/copied.py"], check=True)
    with tarfile.open(f"{WORK}/old.tar", "w") as tar:
        tar.add(f"{HOME}/dated.py", "untarred.py")
    subprocess.run(["tar", "-xf", f"{WORK}/old.tar", "-C", WORK], check=True)
    os.rename(f"{HOME}/dated.py", f"{HOME}/moved.py")


def replaced() -> None:
    """Folders and files of the image: removed, made anew, moved away."""
    shutil.rmtree(f"{IMAGE}/remade")
    write(f"{IMAGE}/remade/new.py")
    shutil.move(f"{IMAGE}/moved", f"{WORK}/moved")
    write(f"{IMAGE}/saved.part", b"by another name\n")
    os.rename(f"{IMAGE}/saved.part", f"{IMAGE}/saved")
    os.remove(f"{IMAGE}/gone")
    shutil.rmtree(f"{IMAGE}/gone-folder")
    write(f"{WORK}/came/and/went.py")
    shutil.rmtree(f"{WORK}/came")
    os.makedirs(f"{IMAGE}/upper-only/empty")
    for n in range(20):
        os.remove(f"{WORK}/tree/{n % 97}/{n % 7}/{n}.py") if n % 7 == 0 else None


def appended() -> None:
    for path in (f"{HOME}/run.log", f"{IMAGE}/appended"):
        for _ in range(100):
            with open(path, "ab") as out:
                out.write(b"x" * 1000)


def database() -> sqlite3.Connection:
    live = sqlite3.connect(f"{HOME}/live.db", isolation_level=None)
    live.execute("PRAGMA journal_mode=WAL")
    live.execute("CREATE TABLE rows (n)")
    live.executemany("INSERT INTO rows VALUES (?)", ((n,) for n in range(200)))
    return live


def elsewhere() -> None:
    """What is on a mount is not on the container's disk."""
    write("/workspace/mine/volume.py")
    write("/scratch/tmpfs.py")
    write("/dev/shm/shared.py")
    os.symlink("/workspace/mine", f"{HOME}/to-the-volume")


def main() -> None:
    amount, dice = int(sys.argv[1]), random.Random(7)
    while not os.path.exists("/workspace/go"):
        time.sleep(0.02)
    os.makedirs(HOME)
    tree(amount, dice)
    storm(amount // 4, dice)
    for work in (mapped, unnamed, special, links, names, attributes, dated, replaced, appended):
        work()
    elsewhere()
    live = database()
    write("/workspace/done")
    while live:
        time.sleep(1000)


if __name__ == "__main__":
    main()
