from __future__ import annotations

import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pasture.errors import JobError
from tune.records.ledger import Record, Status
from tune.records.lock import Hold
from tune.records.stop import EQUAL_FAILURES, Stop


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
        assert stop.reason == "signal"
        assert not stop("a trial", {})
        assert outer == []
        signal.raise_signal(number)
        assert outer == [number]


@pytest.mark.parametrize(("hours", "over"), [(None, False), (1.0, False), (0.9 / 3600, True)])
def test_the_hours_of_a_session(hours: float | None, over: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    with Stop(hours) as stop:
        assert not stop.stop_all()
        monkeypatch.setattr(time, "monotonic", lambda: now + 1)
        assert stop.stop_all() == over
        assert stop.reason == ("hours" if over else None)


def test_the_end_of_the_hold_is_the_end_of_the_sweep() -> None:
    hold = Hold()
    stop = Stop(hold=hold)
    assert not stop.stop_all()
    hold.lost = True
    assert stop.stop_all()
    assert stop.reason == "lost"
    assert isinstance(pickle.loads(pickle.dumps(stop)), Stop)  # Ray Tune makes copies of what it is given


@pytest.mark.parametrize(
    ("status", "score", "enough", "reason"),
    [
        ("COMPLETE", 0.7, 0.7, "score"),
        ("COMPLETE", -0.2, -0.3, "score"),
        ("COMPLETE", 0.69, 0.7, None),
        ("COMPLETE", 0.7, None, None),
        ("PRUNED", 0.8, 0.7, None),
        ("RUNNING", 0.8, 0.7, None),
        ("FAILED", None, -0.3, None),
    ],
)
def test_a_score_that_is_enough(
    status: Status, score: float | None, enough: float | None, reason: str | None, report: Callable[..., Any]
) -> None:
    record = Record(0, {}, {}, status)
    if score is not None:
        record.report(report(1, score))
    stop = Stop(until_score=enough)
    stop.watch(record)
    assert (stop.reason, stop.stop_all()) == (reason, reason is not None)


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


def test_an_error_in_another_thread_is_raised_in_the_main_thread_that_waits(outer: list[int]) -> None:
    stop = Stop()
    threading.Timer(0.1, stop.interrupt, [JobError("Ray has died")]).start()
    with pytest.raises(JobError, match="Ray has died"), stop:
        time.sleep(30)
    assert (stop.reason, outer) == ("failure", [])
    signal.raise_signal(signal.SIGINT)  # the handlers from before are back
    assert outer == [signal.SIGINT]


def test_without_a_handler_an_error_in_another_thread_only_asks_for_the_end() -> None:
    stop = Stop()
    stop.interrupt(JobError("Ray has died"))
    assert stop.stop_all()


def failed(error: str) -> Record:
    return Record(0, {}, {}, "FAILED", error=error)


def test_equal_failures_in_a_row_stop_the_sweep() -> None:
    stop = Stop(run="runs/night")
    for number in range(EQUAL_FAILURES):
        assert stop.failure is None
        ids = f"actor_id: {number:032x}, pid={number}, t{number:04d}"
        stop.watch(failed(f"worker lost: {ids}"))
        stop.watch(Record(9, {}, {}, "RUNNING"))
    assert stop.stop_all()
    assert isinstance(stop.failure, JobError)
    assert str(stop.failure).startswith(f"stopped: {EQUAL_FAILURES} trials in a row failed with the same error (worker")
    assert str(stop.failure).endswith("forage resume runs/night --retry-failed")


@pytest.mark.parametrize("between", [Record(9, {}, {}, "COMPLETE"), Record(9, {}, {}, "PRUNED"), failed("another")])
def test_failures_with_anything_else_in_between_do_not_stop_the_sweep(between: Record) -> None:
    stop = Stop()
    for number in range(2 * EQUAL_FAILURES):
        stop.watch(failed("the loss is nan"))
        if number % (EQUAL_FAILURES - 1) == EQUAL_FAILURES - 2:
            stop.watch(between)
    assert not stop.stop_all()
