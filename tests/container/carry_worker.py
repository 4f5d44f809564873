"""Inside a container: changes it in every way, says all that is in it, packs and unpacks.

carry_worker.py change | state | pack | unpack | undo | commit
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import sys

sys.path.insert(0, "/opt/workspace-agent")
sys.dont_write_bytecode = True

ARCHIVE, JOURNAL = "/workspace/carried.tar", "/run/workspace-agent/carried.journal"
VOLATILE = ("/dev/shm", "/run", "/tmp")
NAMES = (b"new\nline", b"\xff\xfe", b"..x", b"a" * 255, b"tab\t\\", b".wh.mine")


def write(path: str | bytes, data: bytes = b"new") -> None:
    with open(path, "wb") as handle:
        handle.write(data)


def change() -> None:
    for top in ("/opt/mine", *VOLATILE):
        os.makedirs(f"{top}/mine/deep/er")
        for name in NAMES:
            write(os.fsencode(f"{top}/mine/") + name, name)
        write(f"{top}/mine/deep/er/large", os.urandom(2 << 20))
        os.link(f"{top}/mine/deep/er/large", f"{top}/mine/hard")
        os.symlink("nowhere", f"{top}/mine/link")
        os.mkfifo(f"{top}/mine/pipe", 0o600)
        write(f"{top}/mine/program", b"#!/bin/sh\n")
        os.chown(f"{top}/mine/program", 12, 34)
        os.chmod(f"{top}/mine/program", 0o6755)
        with open(f"{top}/mine/holes", "wb") as handle:
            handle.truncate(64 << 20)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"{top}/mine/socket")
    os.setxattr("/opt/mine/mine/program", "user.colour", b"blue")
    os.utime("/opt/mine/mine/deep", (1, 2))
    with open("/etc/debian_version", "a") as handle:
        handle.write("changed")
    write("/usr/share/zoneinfo/replaced.new")
    os.rename("/usr/share/zoneinfo/replaced.new", "/usr/share/zoneinfo/UTC")
    os.chmod("/usr/share/zoneinfo/GMT", 0o600)
    os.unlink("/etc/issue")
    shutil.rmtree("/usr/share/perl5")
    shutil.rmtree("/usr/share/menu")
    write("/usr/share/menu", b"a file now")
    shutil.rmtree("/usr/share/dict", ignore_errors=True)
    os.makedirs("/usr/share/dict/again")
    os.unlink("/etc/issue.net")
    os.mkdir("/etc/issue.net")
    shutil.rmtree("/usr/share/zsh")
    os.symlink("zoneinfo", "/usr/share/zsh")


def state() -> None:
    """Print everything, but what is of no container and of the agent, and sockets."""
    with open("/proc/self/mountinfo") as lines:
        mounts = {line.split(" ")[4] for line in lines}
    passed = {"/proc", "/sys", "/workspace", "/run/workspace-agent", "/etc/workspace-agent",
              "/opt/workspace-env", *mounts} - {"/", *VOLATILE}  # fmt: skip
    found: dict[str, object] = {}
    pending = ["/"]
    while pending:
        folder = pending.pop()
        for name in os.listdir(folder):
            path = f"{folder.rstrip('/')}/{name}"
            if path in passed or (folder == "/dev" and path not in VOLATILE):
                continue
            info = os.lstat(path)
            what = ""
            if stat.S_ISDIR(info.st_mode):
                pending.append(path)
            elif stat.S_ISLNK(info.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                with open(path, "rb") as handle:
                    what = hashlib.sha256(handle.read()).hexdigest()
                if info.st_nlink > 1 and "/mine/" in path:
                    what += f" {info.st_nlink} names"
            elif stat.S_ISSOCK(info.st_mode):
                continue
            xattrs = os.listxattr(path, follow_symlinks=False)
            time = 0 if path in ("/dev", *VOLATILE) else info.st_mtime_ns
            found[path] = [info.st_mode, info.st_uid, info.st_gid, time, what, xattrs]
    print(json.dumps(found))


def main(verb: str) -> None:
    if verb in ("change", "state"):
        (change if verb == "change" else state)()
        return
    from workspace_agent.app import carrying
    from workspace_agent.app.session import find
    from workspace_agent.checkpoint import carried, journal
    from workspace_agent.checkpoint.unpack import unpack

    facts = find({}).open(strict=False).facts
    with carrying.roots(facts) as roots:
        if verb == "pack":
            found = carrying.listed(facts)
            with open(ARCHIVE, "wb", buffering=0) as out:
                packed = carried.pack(found.paths, found.deleted, roots, out.fileno())
            print(
                json.dumps({"left": packed.left, "deleted": found.deleted, "files": packed.files})
            )
        elif verb == "unpack":
            with open(ARCHIVE, "rb", buffering=0) as source:
                print(unpack(source.fileno(), roots, JOURNAL))
        elif verb == "undo":
            print(json.dumps(journal.undo(JOURNAL, roots)))
        else:
            journal.commit(JOURNAL, roots)


if __name__ == "__main__":
    main(sys.argv[1])
