"""Lines of a run: what is written is read back, and nothing else is."""

from __future__ import annotations

import json
import random

import pytest

from workspace_agent.rescue.lines import (
    FOLDER,
    LINK,
    LONGEST,
    MOST_EXTENTS,
    Back,
    Header,
    Left,
    Mark,
    Saved,
    decode,
    encode,
)  # fmt: skip

SEED = 20261121
FILE_AT = "20260101T000000Z-b00t-1"
PLAIN = Saved(
    "/home/a.py", "f", 0o644, 1000, 1000, 3, 10**18, "code", True, "0" * 64, FILE_AT, 5, 3
)
HOLES = Saved(
    "/sparse", "f", 0o600, 0, 0, 1 << 43, -5, sha256="1" * 64, file=FILE_AT, stored=4096,
    extents=((4096, 96), (1 << 42, 4000)), xattrs=(("user.a", "AAE="),), torn=True, backup=True,
    added=False, image="sha256:x",
)  # fmt: skip
LINES = [
    PLAIN,
    HOLES,
    Saved("/hole", "f", 0o600, 0, 0, 1 << 33, 0),
    Saved("/empty", "f", 0, 0, 0, 0, 0),
    Saved("/l", LINK, 0o777, 0, 0, 0, 1, to="../\udcff\n\x1b[2J"),
    Saved("/d", FOLDER, 0o1777, 0, 0, 0, 1),
    Saved("/h", "f", 0o644, 0, 0, 3, 1, sha256="0" * 64, file=FILE_AT, stored=3, hard="/home/a.py"),
    Saved("/a\nb\x1b[31m\u202e\udcff", "l", 0o777, 0, 0, 0, 1, to="x"),
    Saved("/" + "n" * 255, "d", 0o755, 0, 0, 0, 1),
    Saved("/" + "/".join("\N{SNOWMAN}" * 80 for _ in range(30)), "d", 0o755, 0, 0, 0, 1),
    Mark("gone", "/x\udc80"),
    Mark("took"),
    Mark("end", "SIGTERM"),
    Left("/big", "datasets", 1 << 40, "no time was left"),
    Back("/a", "restored"),
    Back("/a", "beside", "/a.rescued-x"),
    Back("/a", "replaced", "", PLAIN),
    Header(began="2026-01-01", image="sha256:x", host="pod-0"),
    Header(),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: type(line).__name__)
def test_what_is_written_is_read_back(line: object) -> None:
    assert line == decode(encode(line))


@pytest.mark.parametrize("line", LINES, ids=lambda line: type(line).__name__)
def test_a_line_is_one_line_of_printable_ascii(line: object) -> None:
    text = encode(line)

    assert text.endswith(b"\n")
    assert all(32 <= byte < 127 for byte in text[:-1])


def fields(**more: object) -> bytes:
    return json.dumps({**json.loads(encode(PLAIN)), **more}).encode()


WRONG = {
    "relative": fields(path="home/a"),
    "dots": fields(path="/home/../etc/shadow"),
    "a dot": fields(path="/home/./a"),
    "twice the same, said otherwise": fields(path="/home//a"),
    "a slash at the end": fields(path="/home/a/"),
    "the root": fields(path="/"),
    "nothing": fields(path=""),
    "a NUL": fields(path="/a\0b"),
    "a NUL in base64": fields(path={"b64": "L2EAYg=="}),
    "dots in base64": fields(path={"b64": "Ly4uL2E="}),
    "no base64": fields(path={"b64": "x"}),
    "half a surrogate": fields(path="/\ud800"),
    "a long name": fields(path="/" + "n" * 256),
    "a long path": fields(path="/n" * 5000),
    "a number for a path": fields(path=7),
    "a list for a path": fields(path=["/a"]),
    "a device": fields(type="b"),
    "a fifo": fields(type="p"),
    "no type": fields(type=None),
    "a type of its own": fields(type=["f"]),
    "no mode": fields(mode=None),
    "a mode that is true": fields(mode=True),
    "a huge mode": fields(mode=1 << 40),
    "nobody's uid": fields(uid=(1 << 32) - 1),
    "a negative gid": fields(gid=-1),
    "a size beyond disks": fields(size=1 << 63),
    "a time beyond clocks": fields(mtime_ns=1 << 70),
    "a time that is a float": fields(mtime_ns=1.5),
    "infinity": fields(size=3).replace(b'"size": 3', b'"size": Infinity'),
    "another file": fields(file="../../etc/shadow"),
    "a file of no run": fields(file="shadow"),
    "no digest": fields(sha256=""),
    "a short digest": fields(sha256="00"),
    "more bytes than it has": fields(stored=4),
    "fewer bytes than it has": fields(stored=2),
    "extents beyond its end": fields(extents=[[1, 3]]),
    "extents that overlap": fields(size=9, stored=4, extents=[[0, 2], [1, 2]]),
    "an empty extent": fields(extents=[[0, 0], [0, 3]]),
    "negative extents": fields(extents=[[-1, 3]]),
    "extents of another sum": fields(extents=[[0, 2]]),
    "extents that are none": fields(extents=[7]),
    "too many extents": fields(
        size=9999, stored=MOST_EXTENTS + 1, extents=[[n * 2, 1] for n in range(MOST_EXTENTS + 1)]
    ),
    "a link with bytes": fields(type="l", to="x"),
    "a link without a text": fields(type="l", stored=0),
    "a file with a link's text": fields(to="/etc/shadow"),
    "a long link": fields(type="l", stored=0, to="x" * 4096),
    "attributes of the kernel": fields(xattrs=[["security.capability", "AA=="]]),
    "attributes of a share": fields(xattrs=[["trusted.overlay", "AA=="]]),
    "attributes that are none": fields(xattrs=7),
    "a name for a first": fields(hard="../x"),
    "a word of its own": fields(shell="/bin/sh"),
    "a torn word": fields(torn="yes"),
    "gone without a path": b'{"gone": "../x"}',
    "back by magic": b'{"back": "/a", "how": "magic", "place": "/b"}',
    "back elsewhere": b'{"back": "/a", "how": "beside", "place": "../x"}',
    "back with a wrong old": b'{"back": "/a", "how": "replaced", "old": {"path": "/a"}}',
    "a number that is a flag": fields(torn=1),
    "left without a size": b'{"left": "/a", "kind": "code", "why": ""}',
    "deep": b'{"path": ' + b"[" * 60_000,
    "long": fields(kind="k" * LONGEST),
    "no object": b"[]",
    "nothing at all": b"",
    "half": encode(PLAIN)[:-5],
    "no text": b"\xff\xfe\0",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_not_exactly_right_is_no_line(text: bytes) -> None:
    assert decode(fields()) == PLAIN
    assert decode(text) is None


@pytest.mark.parametrize(("kind", "kept"), [("f", 0o777), ("d", 0o1777)])
def test_no_privilege_comes_with_a_mode(kind: str, kept: int) -> None:
    more = {} if kind == "f" else {"stored": 0, "extents": []}
    line = decode(fields(type=kind, mode=0o107777, **more))

    assert isinstance(line, Saved)
    assert kept == line.mode


def test_two_spellings_of_one_name_are_one_path() -> None:
    spelled = decode(fields(path="/\udcc3\udca9"))
    usual = decode(fields(path="/é"))

    assert usual == spelled != None  # noqa: E711


def test_a_text_with_anything_in_it_never_raises_and_what_is_read_can_be_written() -> None:
    chance = random.Random(SEED)
    texts = [encode(line) for line in LINES]
    words = [b'"..', b"null", b"-1", b"1e999", b"[", b"{", b'"', b"\\u0000", b"\xff", b"true", b"/"]
    read = 0
    for _ in range(20_000):
        text = bytearray(chance.choice(texts))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text) + 1)
            text[at : at + chance.randint(0, 6)] = chance.choice(
                [chance.choice(words), chance.randbytes(2), chance.choice(texts)[at : at + 9]]
            )
        line = decode(bytes(text))
        if line is not None:
            read += 1
            assert line == decode(encode(line))

    assert read > 100  # some changes say something else that is right
