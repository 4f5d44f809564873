"""No credential in what people, logs and volumes get to see."""

from __future__ import annotations

import pytest

from workspace_agent.replay import redact


@pytest.mark.parametrize(
    ("text", "redacted", "anonymous"),
    [
        ("https://u:canary@h/x", "https://***@h/x", "https://h/x"),
        ("https://canary@h/x", "https://***@h/x", "https://h/x"),
        ("https://canary:@h:8443/x", "https://***@h:8443/x", "https://h:8443/x"),
        ("https://u:can@ary@h/x", "https://***@h/x", "https://h/x"),
        ("git+https://canary@h/x@v1", "git+https://***@h/x@v1", "git+https://h/x@v1"),
        ("'https://u:canary@h/x', 'y'", "'https://***@h/x', 'y'", "'https://h/x', 'y'"),
        ("https://h/x@v1", "https://h/x@v1", "https://h/x@v1"),
        ("https://h?mail=a@b", "https://h?mail=a@b", "https://h?mail=a@b"),
        ("https://h/x?token=canary&a=1", "https://h/x?token=***&a=1", "https://h/x?token=&a=1"),
        ("x?API_KEY=canary", "x?API_KEY=***", "x?API_KEY="),
        ("https://${U}:${P}@h/x", "https://***@h/x", "https://h/x"),
        ("a==1 # no URL @ all", "a==1 # no URL @ all", "a==1 # no URL @ all"),
    ],
)
def test_a_url_is_shown_without_who_asks(text: str, redacted: str, anonymous: str) -> None:
    assert (redacted, anonymous) == (redact.redacted(text), redact.anonymous(text))


@pytest.mark.parametrize(
    ("environ", "netrc", "texts", "expected"),
    [
        ({"PIP_INDEX_URL": "https://user:canary1@h"}, "", (), {"canary1"}),
        ({"HF_TOKEN": "canary1", "my_password": "canary2", "PATH": "/bin:/usr"}, "", (),
         {"canary1", "canary2"}),
        ({}, "machine h login me password canary1\nmachine i\n account canary2", (),
         {"canary1", "canary2"}),
        ({}, "", ("--index-url https://canary1@h", "b @ https://u:can:ary2@h/b"),
         {"canary1", "can:ary2"}),
        ({}, "", ("https://u:can%40ary@h",), {"can%40ary", "can@ary"}),
        ({}, "", ("https://${USER}:${PASSWORD}@h",), set()),
        ({"SHORT_TOKEN": "ab"}, "", (), set()),
    ],
)  # fmt: skip
def test_what_may_be_a_secret_is_known(
    environ: dict, netrc: str, texts: tuple[str, ...], expected: set[str]
) -> None:
    assert expected == redact.values(environ, netrc, texts)


def test_a_known_secret_is_shown_nowhere() -> None:
    said = "asked h with canary-1 and canary-11: 401"
    assert "asked h with *** and ***: 401" == redact.redacted(said, ("canary-1", "canary-11"))
