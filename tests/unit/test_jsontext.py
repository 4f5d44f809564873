from __future__ import annotations

import json

import pytest

from workspace_agent.model.jsontext import dumps

VALUES = [
    None, True, False, 0, 1, -1, 2**63, -(2**70), 0.0, -0.0, 0.1, 1e-9, 1e300, 1.5e16, 3.0,
    "", "plain", "with \"quotes\" and 'these'", "back\\slash", "\\", "\\u0041", "a\nb\rc\td",
    "".join(map(chr, range(32))), "\x7f\x80\x9f", "\x1b[2J", "</script>", "\u2028\u2029\ufeff",
    "é ü ß", "日本語", "\uffff", "\U00010000", "\U0001f600", "\U0010ffff", "\udc80\udcff",
    [], {}, [[]], [{}], {"": ""}, [None, True, 1, "1", 1.0], (1, (2, (3,))),
    {"a": {"b": [1, {"c": None}]}}, {"quote\"": 1, "new\nline": 2, "\U0001f600": 3, "\udce9": 4},
    [["deep"] * 3] * 3,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_what_is_written_is_read_back(value: object) -> None:
    assert value == _tuples(json.loads(dumps(value)), value)


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_a_text_is_one_line_of_ascii(value: object) -> None:
    text = dumps(value)

    assert text.isascii()
    assert text.isprintable()


def test_an_undecodable_byte_survives_the_way_through_json() -> None:
    name = b"caf\xe9\xff".decode("utf-8", "surrogateescape")
    read = json.loads(dumps({"name": name}))["name"]

    assert b"caf\xe9\xff" == read.encode("utf-8", "surrogateescape")


def test_true_is_not_1() -> None:
    assert "[true, 1, false, 0, 1.0]" == dumps([True, 1, False, 0, 1.0])


@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}, [b"inside"], {"key": 1j}])
def test_a_value_without_a_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no JSON form"):
        dumps(value)


def _tuples(read: object, like: object) -> object:
    """Return *read* with tuples where *like* has them: JSON knows lists only."""
    if isinstance(like, tuple):
        return tuple(_tuples(one, other) for one, other in zip(read, like, strict=True))
    return read
