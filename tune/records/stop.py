"""Stopping a sweep so that it can go on later: on Ctrl-C, on SIGTERM, when its hours are over, at a score."""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Literal, Self

import ray.tune

from pasture.errors import ForageError
from tune.records.ledger import Record
from tune.records.lock import Hold

StopReason = Literal["signal", "hours", "score", "lost", "failure"]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def reaches(record: Record | None, until_score: float | None) -> bool:
    """Whether a trial has the score asked for; never, where none was."""
    score = record.score if record else None
    return score is not None and until_score is not None and score >= until_score


class Stop(ray.tune.Stopper):  # type: ignore[misc]
    """Tells Ray Tune to end. A second signal ends the process at once.

    Args:
        hours: from now on; None for no end.
        until_score: enough for a complete trial; None if no score is enough.
        hold: of the run directory.

    Attributes:
        reason: why the sweep is to end; None while it is not.
        failure: what has failed, where that is why.
    """

    def __init__(self, hours: float | None = None, until_score: float | None = None, hold: Hold | None = None) -> None:
        self.deadline = math.inf if hours is None else time.monotonic() + 3600 * hours
        self.until_score, self.hold = until_score, hold
        self.reason: StopReason | None = None
        self.failure: ForageError | None = None
        self.before: dict[signal.Signals, Any] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep is to end."""
        if self.reason is None and time.monotonic() >= self.deadline:
            self.reason = "hours"
        if self.hold and self.hold.lost:
            self.reason = "lost"
        return self.reason is not None

    def fail(self, error: ForageError) -> None:
        """No trial can go on."""
        self.reason, self.failure = "failure", error

    def watch(self, record: Record) -> None:
        """Something happened to a trial."""
        if record.status == "COMPLETE" and reaches(record, self.until_score):
            self.reason = self.reason or "score"

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._handle) for s in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.reason = "signal"
        for number, handler in self.before.items():
            signal.signal(number, handler)
