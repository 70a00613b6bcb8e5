from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tune.stop import Stop


@pytest.fixture
def outer() -> Iterator[list[int]]:
    """Signals that got through to whoever was there before."""
    heard: list[int] = []
    before = {s: signal.signal(s, lambda number, _: heard.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_for_the_end_and_a_second_one_gets_through(number: signal.Signals, outer: list[int]) -> None:
    with Stop() as stop:
        assert not stop.stop_all()
        signal.raise_signal(number)
        assert stop.stop_all()
        assert stop.requested
        assert not stop("a trial", {})
        assert outer == []
        signal.raise_signal(number)
        assert outer == [number]


def test_handlers_are_put_back(outer: list[int]) -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with Stop():
        assert signal.getsignal(signal.SIGTERM) is not handlers[1]
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    with pytest.raises(ZeroDivisionError), Stop():
        _ = 1 / 0
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_thread_cannot_listen_and_does_not_try(outer: list[int]) -> None:
    problems: list[Any] = []

    def work() -> None:
        try:
            with Stop() as stop:
                assert not stop.stop_all()
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert problems == []
