"""What a person has told pip, told to uv: it reads neither pip's files nor its variables."""

from __future__ import annotations

import os
from configparser import ConfigParser, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# pip's name of an option, and uv's variable for it.
_SAME = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
}

_TRUE = ("1", "true", "yes", "on")


def for_uv(env: Mapping[str, str], prefix: str = "") -> dict[str, str]:
    """Return the variables that make uv do as pip would with *env* and its configuration files.

    *prefix* is that of the interpreter. What uv is told already stays.
    """
    told = _told(env, prefix)
    found = {_SAME[name]: value for name, value in told.items() if name in _SAME and value}
    if told.get("pre", "").lower() in _TRUE:
        found["UV_PRERELEASE"] = "allow"
    if "UV_INDEX" in found:
        # To pip all indexes are one; uv would take a package from the first that has its name.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "SSL_CERT_FILE" not in found:
        # Where a company's own authority is, and what pip looks at by default.
        found |= {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    return {name: value for name, value in found.items() if name not in env}


def flags_for_uv(env: Mapping[str, str], prefix: str = "") -> list[str]:
    """Return the rest of it, for which uv has no variables but the flags of pip."""
    told = _told(env, prefix)
    flags = ["--no-index"] if told.get("no-index", "").lower() in _TRUE else []
    for name in ("no-binary", "only-binary"):
        for one in told.get(name, "").replace(",", " ").split():
            flags += [f"--{name}", one]
    return flags


def _told(env: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {**_from_files(env, prefix), **_from_variables(env)}


def _from_variables(env: Mapping[str, str]) -> dict[str, str]:
    named = {"default-timeout": "timeout"}
    found = {
        name[4:].lower().replace("_", "-"): value
        for name, value in env.items()
        if name.startswith("PIP_")
    }
    return {named.get(name, name): " ".join(value.split()) for name, value in found.items()}


def _from_files(env: Mapping[str, str], prefix: str) -> dict[str, str]:
    if env.get("PIP_CONFIG_FILE") == os.devnull:
        return {}
    home = env.get("HOME", "")
    paths = (
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        f"{home}/.pip/pip.conf",
        f"{env.get('XDG_CONFIG_HOME') or home + '/.config'}/pip/pip.conf",
        f"{prefix}/pip.conf",
        env.get("PIP_CONFIG_FILE", ""),
    )
    found: dict[str, str] = {}
    for path in filter(None, paths):
        config = ConfigParser(interpolation=None)
        try:
            config.read(path, encoding="utf-8")
        except (Error, OSError, UnicodeDecodeError):
            continue  # pip says what is wrong with it
        for section in ("global", "install"):
            if config.has_section(section):
                items = config.items(section)
                found |= {n.replace("_", "-"): " ".join(value.split()) for n, value in items}
    return found
