"""Keeps the ledger while Ray Tune runs: every report and every ending is written down and told to the sampler."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import ray.exceptions
import ray.tune

from pasture.errors import ForageError, StorageError
from tune.records.ledger import Ledger, Record
from tune.records.retention import Retention
from tune.records.stop import Stop
from tune.search.asha import AshaScheduler
from tune.search.promotion import Promotion
from tune.search.proposer import Proposer

_TABLE_SECONDS = 10.0
_TABLE_SHARE = 0.01
"""Of the driver's time, at most: the table of a long sweep takes a while to write."""


def _closed_by_failure(entry: Callable[..., None]) -> Callable[..., None]:
    """Where something cannot be written down the sweep stops, and nothing is written from there on: a record would
    say more than what has happened to the files. Not raised: Ray Tune would blame the trial and run it again."""

    @wraps(entry)
    def guarded(self: Bookkeeper, *args: Any, **info: Any) -> None:
        if self.stop.failure is None:
            try:
                entry(self, *args, **info)
            except ForageError as error:
                self.stop.fail(error)

    return guarded


class Bookkeeper(ray.tune.Callback):  # type: ignore[misc]
    """Ray Tune's callback that writes the ledger.

    Args:
        ledger: to write to.
        scheduler: knows which trials it stopped.
        proposer: is told how trials end.
        retention: is tidied when a trial ends.
        stop: is told of what cannot be written, by the driver or by a worker.
        promotion: knows which trials wait in vain.
        watch: called after every event, with the record it was about.
    """

    def __init__(
        self,
        ledger: Ledger,
        scheduler: AshaScheduler,
        proposer: Proposer,
        retention: Retention,
        stop: Stop,
        promotion: Promotion,
        watch: Callable[[Record], None],
    ) -> None:
        self.ledger, self.scheduler, self.proposer = ledger, scheduler, proposer
        self.retention, self.stop, self.promotion, self.watch = retention, stop, promotion, watch
        self.table_written, self.table_cost = time.monotonic(), 0.0

    @_closed_by_failure
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has got its worker; not always its first."""
        record = self._record(trial)
        if record.status in ("PENDING", "WAITING"):
            record.status = "RUNNING"
            self.ledger.write(record)
        self.watch(record)

    @_closed_by_failure
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch, or an error that the trial caught itself."""
        if result.get("stop"):
            raise StorageError(result["error"])
        record = self._record(trial)
        if "error" in result:
            record.error = result["error"]
        else:
            record.report(dict(result["report"]))
        if result["done"]:  # in one write with the report: a trial judged at a rung must not be judged again
            record.status = self.scheduler.outcome(record.name, result)
        self.ledger.write(record)
        if record.status == "RUNNING":
            self.watch(record)

    @_closed_by_failure
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial has finished, was pruned, waits or gave up: its last result said so and is written down."""
        self._end(self._record(trial))

    @_closed_by_failure
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial's worker died more often than is forgiven, or was killed for a reason that the record has."""
        record = self._record(trial)
        record.status = "FAILED"
        record.error = record.error or _death(trial.get_pickled_error())
        self.ledger.write(record)
        self._end(record)

    def _end(self, record: Record) -> None:
        self.proposer.tell(record)
        if record.status != "WAITING":
            self.retention.tidy(record)
        settled = self.promotion.settle()
        start = time.monotonic()
        if start - self.table_written > max(_TABLE_SECONDS, self.table_cost / _TABLE_SHARE):
            self.ledger.write_table()
            self.table_written = time.monotonic()
            self.table_cost = self.table_written - start
        for other in settled:
            if other is not record:
                self.watch(other)
        self.watch(record)

    def _record(self, trial: Any) -> Record:
        return self.ledger.records[trial.config["trial"]]


def _death(error: Exception | None) -> str:
    """Ray's many lines in one."""
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause  # what the trial's process says of one of its fold workers
    words = " ".join(str(error).split())[:300]
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"its node ran out of memory; raise --cpus-per-trial, so that fewer trials share a node ({words})"
    return f"worker lost: {words}"
