"""Ends trials that hang: a worker stuck in a file system, a driver or a deadlock never says so itself."""

from __future__ import annotations

import time
from typing import Any

import ray
import ray.tune

from tune.records.ledger import Ledger


class TrialTimeout(ray.tune.Callback):  # type: ignore[misc]
    """Ray Tune's callback that kills the worker of a trial which runs for too long; the trial has then failed.

    Args:
        ledger: is told the reason.
        seconds: that a trial may run in this session, on all its workers together.
    """

    def __init__(self, ledger: Ledger, seconds: float) -> None:
        self.ledger, self.seconds = ledger, seconds
        self.began: dict[Any, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has got its worker, or another one after that has died."""
        self.began.setdefault(trial, time.monotonic())

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ray Tune looks round, some ten times a second at least."""
        late = [trial for trial, began in self.began.items() if time.monotonic() - began > self.seconds]
        for trial in late:
            del self.began[trial]
            record = self.ledger.records[trial.config["trial"]]
            record.error = f"not over after {self.seconds:g} s: ended by --trial-timeout"
            trial.max_failures = 0  # another worker would hang as well
            ray.kill(trial.temporary_state.ray_actor)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial is over."""
        self.began.pop(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial is over."""
        self.began.pop(trial, None)
