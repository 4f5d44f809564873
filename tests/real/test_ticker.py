"""A long call that cannot tell of itself is told of, until it is over or takes too long."""

from __future__ import annotations

import threading

from workspace_agent.host import ticker


def test_a_long_call_gives_signs_of_life_and_stops_with_it(monkeypatch) -> None:
    monkeypatch.setattr(ticker, "_EVERY", 0.01)
    told, enough = [], threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 3:
            enough.set()

    with ticker.Ticker(tell, "syncing"):
        assert enough.wait(30)
    count = len(told)

    assert {"syncing"} == set(told)
    assert count == len(told)


def test_one_that_takes_too_long_is_told_of_no_more(monkeypatch) -> None:
    monkeypatch.setattr(ticker, "_EVERY", 0.01)
    monkeypatch.setattr(ticker, "_LIMIT", 0.05)
    told: list[str] = []
    one = ticker.Ticker(told.append, "x")
    with one:
        one._thread.join(30)

    assert 5 == len(told)
