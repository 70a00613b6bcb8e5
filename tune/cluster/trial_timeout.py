"""Fail trials that hang: a worker stuck in a file system, a driver or a deadlock does not report that itself."""

from __future__ import annotations

import time
from typing import Any

import ray
import ray.tune

from tune.records.ledger import Ledger

PREPARATION_SECONDS = 3600.0
PREPARATION_FACTOR = 10.0
"""Before its first report a worker may take an hour or 10 times the limit, whichever is longer: it may have to fetch
the data, decode all pictures and compute the features of a backbone, which later trials find in the cache."""


class _Clock:
    """Time of one trial in this session.

    Attributes:
        trained: seconds of earlier workers after their first report.
        since: when the worker started, or its first report came.
        reported: whether the worker has reported.
    """

    def __init__(self) -> None:
        self.trained, self.since, self.reported = 0.0, time.monotonic(), False

    def restart(self) -> None:
        """The trial has another worker."""
        if self.reported:
            self.trained += time.monotonic() - self.since
        self.since, self.reported = time.monotonic(), False

    def report(self) -> None:
        """The worker has reported an epoch."""
        if not self.reported:
            self.since, self.reported = time.monotonic(), True


class TrialTimeout(ray.tune.Callback):  # type: ignore[misc]
    """Ray Tune's callback that kills the worker of a trial which trains for too long; the trial has then failed.

    The time of a trial counts from its first report, so that computing features on a cold cache does not count. Before
    it, `PREPARATION_SECONDS` and `PREPARATION_FACTOR` limit each worker.

    Args:
        ledger: receives the reason.
        seconds: that a trial may train in this session after its first report, on all its workers together.
    """

    def __init__(self, ledger: Ledger, seconds: float) -> None:
        self.ledger, self.seconds = ledger, seconds
        self.preparation = max(PREPARATION_SECONDS, PREPARATION_FACTOR * seconds)
        self.clocks: dict[Any, _Clock] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker; after a lost worker this happens again."""
        if trial in self.clocks:
            self.clocks[trial].restart()
        else:
            self.clocks[trial] = _Clock()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has reported."""
        if trial in self.clocks:
            self.clocks[trial].report()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ray Tune's loop, at least ten times a second: kill the workers of trials that take too long."""
        for trial, reason in [(trial, reason) for trial, clock in self.clocks.items() if (reason := self._late(clock))]:
            del self.clocks[trial]
            self.ledger.records[trial.config["trial"]].error = reason
            trial.max_failures = 0  # another worker would hang as well
            ray.kill(trial.temporary_state.ray_actor)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial has ended."""
        self.clocks.pop(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial has ended."""
        self.clocks.pop(trial, None)

    def _late(self, clock: _Clock) -> str:
        """Why a trial takes too long; empty if it does not."""
        seconds = time.monotonic() - clock.since
        if clock.reported:
            late = clock.trained + seconds > self.seconds
            return f"not over {self.seconds:g} s after its first epoch: ended by --trial-timeout" if late else ""
        if seconds > self.preparation:
            return f"no first epoch after {self.preparation:g} s: ended by --trial-timeout"
        return ""
