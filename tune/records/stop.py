"""Stopping a sweep so that it can be resumed: on Ctrl-C, SIGTERM, after its hours, at a score, on errors."""

from __future__ import annotations

import math
import re
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Literal, Self

import ray.tune

from pasture.errors import ForageError, JobError
from tune.records.ledger import Record
from tune.records.lock import Hold

StopReason = Literal["signal", "hours", "score", "lost", "failure"]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

EQUAL_FAILURES = 5
"""A sweep stops when this many trials in a row fail with the same error."""

_IDS = re.compile(r"\b[0-9a-f]{12,}\b|\bpid\W*\d+|\bt\d{4,}\b")
"""Parts of an error that differ from trial to trial: Ray's ids, process numbers, names of trials."""


def reaches(record: Record | None, until_score: float | None) -> bool:
    """Whether a trial has reached the score; False if there is no such score."""
    score = record.score if record else None
    return score is not None and until_score is not None and score >= until_score


class Stop(ray.tune.Stopper):  # type: ignore[misc]
    """Tells Ray Tune when to end. A second signal ends the process at once.

    Args:
        hours: length of the session; None for no limit.
        until_score: score of a complete trial that ends the sweep; None for none.
        hold: the lock on the run directory.

        run: name of the run directory in the message that says how to continue.

    Attributes:
        reason: why the sweep is to end; None while it is not.
        failure: the error that stopped the sweep; None if there is none.
    """

    def __init__(
        self,
        hours: float | None = None,
        until_score: float | None = None,
        hold: Hold | None = None,
        run: str = "RUN",
    ) -> None:
        self.deadline = math.inf if hours is None else time.monotonic() + 3600 * hours
        self.until_score, self.hold, self.run = until_score, hold, run
        self.failures: list[str] = []
        self.reason: StopReason | None = None
        self.failure: ForageError | None = None
        self.handlers_before: dict[signal.Signals, Any] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never stop a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep is to end."""
        if self.reason is None and time.monotonic() >= self.deadline:
            self.reason = "hours"
        if self.hold and self.hold.lost:
            self.reason = "lost"
        return self.reason is not None

    def fail(self, error: ForageError) -> None:
        """Stop because of an error that is no fault of a single trial."""
        self.reason, self.failure = "failure", error

    def interrupt(self, error: ForageError) -> None:
        """Stop from another thread while the thread of the sweep may wait inside Ray.

        Where the sweep runs in the main thread, a signal ends that wait and raises the error there.
        """
        self.fail(error)
        if self.handlers_before:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def watch(self, record: Record) -> None:
        """Take note of an event of a trial."""
        if record.status == "COMPLETE" and reaches(record, self.until_score):
            self.reason = self.reason or "score"
        if record.status in ("COMPLETE", "PRUNED", "WAITING"):
            self.failures = []
        elif record.status == "FAILED":
            self._watch_failure(record)

    def _watch_failure(self, record: Record) -> None:
        error = _IDS.sub("", record.error)
        self.failures = [*self.failures, error] if error in self.failures else [error]
        if len(self.failures) == EQUAL_FAILURES and self.failure is None:
            self.fail(
                JobError(
                    f"stopped: {EQUAL_FAILURES} trials in a row failed with the same error ({record.error}); remove "
                    f"its cause, then run the failed trials again with: forage resume {self.run} --retry-failed"
                )
            )

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there may Python set handlers
            self.handlers_before = {s: signal.signal(s, self._handle) for s in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._restore_handlers()
        self.handlers_before = {}

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.failure is not None:
            raise self.failure
        self.reason = "signal"
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self.handlers_before.items():
            signal.signal(number, handler)
