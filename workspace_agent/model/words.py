"""Numbers and counts as people read them. Pure."""

from __future__ import annotations


def size(count: int) -> str:
    """Return *count* bytes as `412 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"


def duration(secs: float) -> str:
    """Return *secs* as `4 ms`, `8.2 s` or `2 h 40 min`."""
    if secs < 1:
        return f"{secs * 1000:.0f} ms"
    if secs < 60:
        return f"{secs:.1f} s"
    minutes = round(secs / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(count: int, one: str, many: str = "") -> str:
    """Return `1 file`, `2 files`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def shown(text: str) -> str:
    """Return *text*, a name of somebody's choice, without anything that a terminal would act on."""
    return text if text.isprintable() else ascii(text)[1:-1]


def named(path: str) -> dict[str, str]:
    """Return *path* for JSON: as it is, or, where it is no text, shown and its bytes in base64."""
    try:
        path.encode()
    except UnicodeEncodeError:
        import base64

        raw = path.encode("utf-8", "surrogateescape")
        return {"path": shown(path), "b64": base64.b64encode(raw).decode()}
    return {"path": path}
