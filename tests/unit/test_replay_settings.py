"""pip.conf and PIP_* as uv's variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from workspace_agent.replay import settings

CERTIFICATES = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
NOTHING = {"PIP_CONFIG_FILE": "/dev/null"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, {}),
        ({"PIP_INDEX_URL": "https://h/s"}, {"UV_DEFAULT_INDEX": "https://h/s"}),
        (
            {"PIP_EXTRA_INDEX_URL": "https://a/s\n  https://b/s"},
            {"UV_INDEX": "https://a/s https://b/s", "UV_INDEX_STRATEGY": "unsafe-best-match"},
        ),
        ({"PIP_FIND_LINKS": "/w"}, {"UV_FIND_LINKS": "/w"}),
        ({"PIP_DEFAULT_TIMEOUT": "9"}, {"UV_HTTP_TIMEOUT": "9"}),
        ({"PIP_TRUSTED_HOST": "h"}, {"UV_INSECURE_HOST": "h"}),
        ({"PIP_PRE": "1"}, {"UV_PRERELEASE": "allow"}),
        ({"PIP_PRE": "0", "PIP_WHAT": "x"}, {}),
        ({"PIP_INDEX_URL": "https://h/s", "UV_DEFAULT_INDEX": "https://mine"}, {}),
    ],
)
def test_a_variable_of_pip_is_one_of_uv(env: dict[str, str], expected: dict[str, str]) -> None:
    assert {**expected, **CERTIFICATES} == settings.for_uv({**NOTHING, **env})


def test_a_certificate_of_pip_replaces_the_systems() -> None:
    assert {"SSL_CERT_FILE": "/c.pem"} == settings.for_uv({**NOTHING, "PIP_CERT": "/c.pem"})


def test_the_nearest_file_wins_and_a_variable_over_all(tmp_path: Path) -> None:
    for name, text in {
        ".config/pip/pip.conf": "[global]\nindex-url = https://user/s\ntimeout = 5\n",
        "venv/pip.conf": "[global]\nindex_url = https://venv/s\n"
        "[install]\nfind-links =\n  /a\n  /b\n",
        "told.conf": "[global]\ntimeout = 7\n[list]\nindex-url = https://no/s\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    env = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": f"{tmp_path}/told.conf"}
    found = settings.for_uv({**env, "PIP_CERT": "/c.pem"}, f"{tmp_path}/venv")
    assert ("https://venv/s", "/a /b", "7", "/c.pem") == tuple(
        found[name] for name in ("UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_HTTP_TIMEOUT",
                                 "SSL_CERT_FILE")
    )  # fmt: skip
    assert "https://x" == settings.for_uv({**env, "PIP_INDEX_URL": "https://x"})["UV_DEFAULT_INDEX"]


@pytest.mark.parametrize("data", [b"[global", b"\xff\xfe", b"index-url = x\n", b"[global]\n%(x)s"])
def test_a_file_that_pip_would_refuse_breaks_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pip.conf").write_bytes(data)
    env = {"HOME": str(tmp_path / "none"), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    assert "UV_DEFAULT_INDEX" not in settings.for_uv({**env, "PIP_CERT": "/c"})
