"""Whether a checkpoint is all there: half of one is worth nothing. Pure, over a small reader."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# What writers put behind the name of a file that is not finished.
UNDER_WAY = (".tmp", ".part", ".incomplete")

# A header names every tensor; real ones are far below this.
_HEADER = 16 << 20

# The end of a zip archive: a record, and a comment of up to 64 KiB behind it.
_ZIP, _ZIPPED = b"PK\x03\x04", (".pt", ".pth", ".ckpt", ".bin")
_END, _END_SIZE, _COMMENT = b"PK\x05\x06", 22, 1 << 16


def is_checkpoint(kind: str) -> bool:
    """Say whether things of this *kind* are of use only when they are whole."""
    return kind == "checkpoints"


def unfinished(path: str, size: int, read: Callable[[int, int], bytes]) -> str:
    """Say what *path* lacks, as far as its format tells; "" for nothing.

    *read* returns so many bytes from a place, or fewer at the end.
    """
    if path.endswith(".safetensors"):
        return _safetensors(size, read)
    if path.endswith(_ZIPPED) and read(0, 4) == _ZIP:
        return _zip(size, read)
    return ""


def _safetensors(size: int, read: Callable[[int, int], bytes]) -> str:
    from workspace_agent.model.jsontext import table

    length = int.from_bytes(read(0, 8), "little")
    if size < 8 or 8 + length > size:
        return "its header is cut off"
    if length > _HEADER:
        return ""
    ends = [0]
    for one in table(read(8, length)).values():
        offsets = one.get("data_offsets") if isinstance(one, dict) else None
        if isinstance(offsets, list) and all(type(n) is int for n in offsets):
            ends += offsets
    needed = 8 + length + max(ends)
    return "" if needed == size else f"it has {size} bytes of {needed}"


def _zip(size: int, read: Callable[[int, int], bytes]) -> str:
    start = max(0, size - _END_SIZE - _COMMENT)
    tail = read(start, size - start)
    at = tail.rfind(_END)
    if at < 0 or at + _END_SIZE > len(tail):
        return "its list of contents is missing"
    comment = int.from_bytes(tail[at + 20 : at + 22], "little")
    return "" if at + _END_SIZE + comment == len(tail) else "something follows its end"
