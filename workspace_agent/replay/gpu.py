"""Which GPUs this container has.

A driver that hangs cannot even be killed, and its library may crash: each is asked in a child of
its own, for so long and no longer.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import asdict, replace
from shutil import which

from workspace_agent.host import command, files
from workspace_agent.host.asking import in_time
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps, table
from workspace_agent.replay.rules import Card, Cards, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# What to say instead of asking: "none", or "12.0,12.0 driver=570.86 cuda=12.8", one for each card.
OVERRIDE = "WORKSPACE_AGENT_GPU"

LIBRARY = "libnvidia-ml.so.1"

# How long each is waited for. A driver that nothing keeps awake takes seconds to answer; what
# /proc shows of it is there at once.
_NVML, _SMI, _PROC = 1.0, 5.0, 1.0

# Where nobody tells the newest CUDA that a driver takes, by its first number.
_CUDA = (
    (450, "11.0"), (455, "11.1"), (460, "11.2"), (465, "11.3"), (470, "11.4"), (495, "11.5"),
    (510, "11.6"), (515, "11.7"), (520, "11.8"), (525, "12.0"), (530, "12.1"), (535, "12.2"),
    (545, "12.3"), (550, "12.4"), (555, "12.5"), (560, "12.6"), (565, "12.7"), (570, "12.8"),
    (575, "12.9"), (580, "13.0"),
)  # fmt: skip

# Where nobody tells the capability, by words of the card's name; the first that is found counts.
_NAMES = (
    ("10.3", r"G?B300"), ("10.0", r"G?B[12]00"), ("12.1", r"GB10"), ("11.0", r"Thor"),
    ("12.0", r"RTX 50\d\d|RTX PRO \d+"), ("9.0", r"GH200|H[128]00|H20"),
    ("8.9", r"L4|L40S?|L20|RTX 40\d\d|RTX \d+ Ada"), ("8.0", r"A100X?|A800|A30"),
    ("8.6", r"A40|A10G?|A16|A2|RTX 30\d\d|RTX A\d+"), ("8.7", r"Orin"),
    ("7.5", r"T4G?|RTX 20\d\d|GTX 16\d\d|TITAN RTX|Quadro RTX \d+"), ("7.0", r"V100S?|TITAN V"),
)  # fmt: skip


def known(runtime: str, environ: Mapping[str, str]) -> Cards:
    """Return the cards as this boot has found them; the first to ask looks."""
    path = f"{runtime}/{layout.CARDS}"
    with suppress(ValueError, TypeError, KeyError):
        return _cards(files.read(path))
    found = find(environ)
    with suppress(OSError):
        files.commit(path, dumps(asdict(found)) + "\n")
    return found


def find(
    environ: Mapping[str, str], *, library: str = LIBRARY, proc: str = "/proc", dev: str = "/dev"
) -> Cards:
    """Ask for the cards: the override, NVML, nvidia-smi, /proc. The first answer counts."""
    if told := environ.get(OVERRIDE):
        return _told(told)
    asks: tuple[tuple[Callable[[], Cards], float], ...] = (
        (lambda: _nvml(library), _NVML),
        (lambda: _smi(environ), _SMI + 1),
        (lambda: _proc(proc, dev), _PROC),
    )
    for ask, limit in asks:
        with suppress(OSError, ValueError, TypeError, KeyError):
            return _cards(in_time(lambda ask=ask: dumps(asdict(ask())), limit))  # type: ignore[misc]
    return Cards()


def _cards(data: bytes | str | None) -> Cards:
    """Return what *data* says, and what that tells of the rest; raises for what is none."""
    said = table(data)
    cards = (Card(**one) for one in said["cards"])
    known = (replace(one, capability=one.capability or _guessed(one.name)) for one in cards)
    driver = str(said["driver"])
    return Cards(tuple(known), driver, said["cuda"] or _newest(driver), said["source"])


def _guessed(name: str) -> str:
    found = (version for version, words in _NAMES if re.search(rf"\b(?:{words})\b", name))
    return next(found, "")


def _newest(driver: str) -> str:
    (have,) = numbers(driver, 1)
    return next((cuda for least, cuda in reversed(_CUDA) if least <= have), "")


def _told(text: str) -> Cards:
    first, *rest = text.split() or [""]
    more = dict(one.split("=", 1) for one in rest if "=" in one)
    cards = tuple(Card("", one) for one in first.split(",") if re.match(r"\d", one))
    driver = more.get("driver", "")
    return Cards(cards, driver, more.get("cuda") or _newest(driver), "told")


def _nvml(library: str) -> Cards:
    """Ask the driver's own library."""
    import ctypes

    nvml = ctypes.CDLL(library)

    def call(name: str, *args: Any) -> None:
        if code := getattr(nvml, name)(*args):
            raise OSError(code, name)

    def text(name: str, *args: Any) -> str:
        out = ctypes.create_string_buffer(256)
        call(name, *args, out, ctypes.c_uint(len(out)))
        return out.value.decode("utf-8", "replace")

    call("nvmlInit_v2")
    count, cuda = ctypes.c_uint(), ctypes.c_int()
    call("nvmlDeviceGetCount_v2", ctypes.byref(count))
    with suppress(OSError, AttributeError):
        call("nvmlSystemGetCudaDriverVersion", ctypes.byref(cuda))
    cards: list[Card] = []
    for index in range(count.value):
        card, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(card))
        numbered = (ctypes.byref(major), ctypes.byref(minor))
        call("nvmlDeviceGetCudaComputeCapability", card, *numbered)
        cards.append(Card(text("nvmlDeviceGetName", card), f"{major.value}.{minor.value}"))
    newest = f"{cuda.value // 1000}.{cuda.value % 1000 // 10}" if cuda.value else ""
    return Cards(tuple(cards), text("nvmlSystemGetDriverVersion"), newest, "nvml")


def _smi(environ: Mapping[str, str]) -> Cards:
    """Ask the driver's tool; an older one does not know the capability."""
    tool = which("nvidia-smi", path=environ.get("PATH", os.defpath))
    if not tool:
        raise FileNotFoundError
    out = f"/proc/self/fd/{os.memfd_create('cards')}"
    began = time.monotonic()
    for fields in ("name,driver_version,compute_cap", "name,driver_version"):
        argv = [tool, f"--query-gpu={fields}", "--format=csv,noheader"]
        left = max(0.1, _SMI - (time.monotonic() - began))
        ended = command.run(argv, log=os.devnull, env=environ, timeout=left, out=out)
        if ended.code == 0 or ended.timed_out:
            break
    if ended.code or ended.timed_out:
        raise OSError
    with open(out, encoding="utf-8", errors="replace") as answer:
        rows = [line.strip().rsplit(", ", fields.count(",")) for line in answer if line.strip()]
    cards = (Card(row[0], row[2] if row[2:] and row[2][:1].isdigit() else "") for row in rows)
    return Cards(tuple(cards), rows[0][1] if rows else "", source="nvidia-smi")


def _proc(proc: str, dev: str) -> Cards:
    """Read what the kernel's module shows: of all cards of the machine, and not only of ours."""
    version = (files.read(f"{proc}/driver/nvidia/version") or b"").decode("utf-8", "replace")
    driver = re.search(r"Module\s+(?:for \S+\s+)?(\d[\d.]*)", version)
    if driver is None:
        raise FileNotFoundError
    folder, cards = f"{proc}/driver/nvidia/gpus", []
    for name in sorted(os.listdir(folder)):
        text = (files.read(f"{folder}/{name}/information") or b"").decode("utf-8", "replace")
        said = dict(re.findall(r"^([^:\n]+):\s*(.*?)\s*$", text, re.MULTILINE))
        if os.path.exists(f"{dev}/nvidia{said.get('Device Minor')}"):
            cards.append(Card(said.get("Model", "")))
    return Cards(tuple(cards), driver[1], source="proc")
