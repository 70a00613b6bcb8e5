"""Keeps the ledger while Ray Tune runs: writes every report and every result, and reports results to the searcher."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import ray.exceptions
import ray.tune

from pasture.errors import ForageError, StorageError
from tune.pruning.promotion import Promotion
from tune.pruning.scheduler import PruningScheduler
from tune.records.ledger import Ledger, Record
from tune.records.stop import Stop
from tune.search.optuna_searcher import OptunaSearcher

_TABLE_SECONDS = 10.0
_TABLE_SHARE = 0.01
"""At most this share of the driver's time goes into writing trials.parquet, which is slow for a long sweep."""


def _stop_on_failure(entry: Callable[..., None]) -> Callable[..., None]:
    """Stop the sweep if something cannot be written, and write nothing after that: a later record could claim more
    than the files hold. The error is not raised, because Ray Tune would fail the trial for it and run it again."""

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
        scheduler: says which trials were pruned.
        searcher: gets the result of every trial.
        stop: stops the sweep if the driver or a worker cannot write.
        promotion: prunes waiting trials that will not be promoted; its retention deletes what ended trials no longer
            need.
        watch: called after every event, with its record.
        tick: called at least ten times a second.
    """

    def __init__(
        self,
        ledger: Ledger,
        scheduler: PruningScheduler,
        searcher: OptunaSearcher,
        stop: Stop,
        promotion: Promotion,
        watch: Callable[[Record], None],
        tick: Callable[[], None],
    ) -> None:
        self.ledger, self.scheduler, self.searcher = ledger, scheduler, searcher
        self.stop, self.promotion, self.watch, self.tick = stop, promotion, watch, tick
        self.table_written, self.table_cost = time.monotonic(), 0.0

    @_stop_on_failure
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a worker; after a lost worker this happens again."""
        record = self._record(trial)
        if record.status in ("PENDING", "WAITING"):
            self.ledger.start(record)
        self.watch(record)

    @_stop_on_failure
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch, or an error that the trial caught."""
        if result.get("stop"):
            raise StorageError(result["error"])
        record = self._record(trial)
        if "error" in result:
            record.error = result["error"]
            if traceback := result.get("traceback"):
                self.ledger.write_log(record, traceback)
        else:
            record.report(dict(result["report"]))
            record.where = result.get("where", record.where)
        if result["done"]:  # in one write with the report, so that a pruned trial is not resumed after a kill
            record.status = self.scheduler.outcome(record.name, result)
            self.ledger.write(record)
        else:
            self.ledger.write_later(record)
            self.watch(record)

    @_stop_on_failure
    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ray Tune's loop, at least ten times a second."""
        self.ledger.write_group()
        self.tick()

    @_stop_on_failure
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial is complete, pruned, waiting or failed; its last result said so and is written."""
        self._end(self._record(trial))

    @_stop_on_failure
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial's worker died more than `max_failures` times, or was killed for a reason that its record has."""
        record = self._record(trial)
        record.status = "FAILED"
        error = trial.get_pickled_error()
        record.error = record.error or _death(error)
        if error is not None:
            self.ledger.write_log(record, str(error))
        self.ledger.write(record)
        self._end(record)

    def _end(self, record: Record) -> None:
        self.searcher.report_end(record)
        if record.status != "WAITING":
            self.promotion.retention.tidy(record)
        pruned = self.promotion.prune_waiting()
        start = time.monotonic()
        if start - self.table_written > max(_TABLE_SECONDS, self.table_cost / _TABLE_SHARE):
            self.ledger.write_table()
            self.table_written = time.monotonic()
            self.table_cost = self.table_written - start
        for other in pruned:
            if other is not record:
                self.watch(other)
        self.watch(record)

    def _record(self, trial: Any) -> Record:
        return self.ledger.records[trial.config["trial"]]


def _death(error: Exception | None) -> str:
    """Ray's error message in one line."""
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause  # the error of a fold worker, as the trial's process raised it
    words = " ".join(str(error).split())[:300]
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"its node ran out of memory; raise --cpus-per-trial, so that fewer trials share a node ({words})"
    return f"worker lost: {words}"
