"""The ledger: one small JSON file per trial, written by the driver only.

It is the whole state of a search: a new scheduler and a new sampler are rebuilt from its proposals, curves and
outcomes, so that resuming needs no pickle, no snapshot of Ray's and not the same version of either.
"""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pasture.checksum import json_with_checksum, read_json_with_checksum
from pasture.errors import InputError
from pasture.oof import Origin
from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

GROUP_SECONDS = 0.5
"""Shortest time between two groups of records that wait to be written."""

GROUP_SHARE = 0.05
"""Share of the driver's time that writing groups may take."""

Status = Literal["PENDING", "RUNNING", "WAITING", "COMPLETE", "PRUNED", "FAILED"]


@dataclass
class Record:
    """Everything that is recorded about one trial.

    Attributes:
        number: 0-based, in the order of proposal.
        params: labels drawn from the search space, by field.
        recipe: the whole recipe, as nested plain values.
        status: PENDING until it has a worker, then RUNNING until it ends; WAITING between its first stage and its
            promotion (`Plan.promote`).
        curve: one report per epoch.
        error: why it failed.
        origin: where the trial comes from.
        waited: seconds from its proposal until it had a worker; None where the session that proposed it did not start
            it. Like `where` it depends on the cluster, so two records are equal whatever it is.
        where: node and GPUs that trained its last epoch.
    """

    number: int
    params: dict[str, Any]
    recipe: dict[str, Any]
    status: Status = "PENDING"
    curve: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    origin: Origin = "search"
    waited: float | None = field(default=None, compare=False)
    where: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The trial's name in every file."""
        return trial_name(self.number)

    @property
    def score(self) -> float | None:
        """Score of its best epoch so far."""
        return float(self.curve[-1]["score"]) if self.curve else None

    def report(self, result: dict[str, Any]) -> None:
        """Add the report of an epoch; a later report of the same epoch replaces it and those after it."""
        epoch = int(result["epoch"])
        self.curve[epoch - 1 :] = [result]


def trial_name(number: int) -> str:
    """t0000, t0001, ..."""
    return f"t{number:04d}"


class Ledger:
    """All records of a run, in memory and on disk.

    Raises:
        InputError: a record is damaged. It is not skipped, because the sampler would learn from wrong results.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        names = run.trials.names(".json")
        with ThreadPoolExecutor(16) as pool:
            records = list(pool.map(self._read, names))
        self.records: dict[str, Record] = {r.name: r for r in sorted(records, key=lambda r: r.number)}
        self._free = 0
        self._proposed_at: dict[str, float] = {}
        self._unwritten: dict[str, Record] = {}
        self._group_ended = self._group_took = 0.0

    @property
    def next_number(self) -> int:
        """The lowest free number: the next one, or that of a record that the user deleted."""
        while trial_name(self._free) in self.records:  # records are never removed, so a taken number stays taken
            self._free += 1
        return self._free

    def propose(
        self, params: dict[str, Any], recipe: Recipe | None, error: str = "", origin: Origin = "search"
    ) -> Record:
        """Write the record of a new trial before it runs; without a recipe, of one whose recipe is impossible."""
        content = recipe.to_dict() if recipe else {}
        record = Record(self.next_number, params, content, "PENDING" if recipe else "FAILED", [], error, origin)
        self.records[record.name] = record
        self._proposed_at[record.name] = time.monotonic()
        self.write(record)
        return record

    def start(self, record: Record) -> None:
        """Write that a trial has a worker, and how long it waited for it."""
        proposed = self._proposed_at.pop(record.name, None)
        if proposed is not None:
            record.waited = time.monotonic() - proposed
        record.status = "RUNNING"
        self.write(record)

    def write(self, record: Record) -> None:
        """Write a record atomically; it is on the disk when this returns."""
        # Not `asdict`, which copies the whole curve value by value.
        self.run.trials.write(f"{record.name}.json", json_with_checksum(vars(record)))
        self._unwritten.pop(record.name, None)

    def write_later(self, record: Record) -> None:
        """Write a record with the next group (see `write_group`): for reports, which a trial can repeat."""
        self._unwritten[record.name] = record

    def write_group(self) -> None:
        """Write the records passed to `write_later`, if the last group was long enough ago.

        A flush to the disk for every report would be most of what a report costs. The time between two groups is
        GROUP_SECONDS, or more where writing would otherwise take more than GROUP_SHARE of the driver's time.
        """
        if self._unwritten and time.monotonic() - self._group_ended > max(
            GROUP_SECONDS, self._group_took / GROUP_SHARE
        ):
            self.flush()

    def flush(self) -> None:
        """Write the records passed to `write_later` now."""
        start = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self.write, list(self._unwritten.values())))
        self._group_ended = time.monotonic()
        self._group_took = self._group_ended - start

    def write_log(self, record: Record, text: str) -> None:
        """Write a failed trial's traceback beside its record."""
        self.run.trials.write(f"{record.name}.log", text.encode())

    def retryable(self) -> list[Record]:
        """Records of failed trials that can run again: those with a recipe."""
        return [record for record in self.with_status("FAILED") if record.recipe]

    def retry(self, record: Record) -> None:
        """Set a failed trial back to its proposal; its checkpoint was deleted when it failed."""
        record.status, record.curve, record.error = "PENDING", [], ""
        self.run.trials.delete(f"{record.name}.log")
        self.write(record)

    def with_status(self, *status: Status) -> list[Record]:
        """Records in one of some states."""
        return [r for r in self.records.values() if r.status in status]

    def ended(self) -> list[Record]:
        """Records of trials that will not run again."""
        return self.with_status("COMPLETE", "PRUNED", "FAILED")

    @property
    def proposed(self) -> int:
        """How many trials have been proposed, confirmations not counted."""
        return sum(record.origin != "confirm" for record in self.records.values())

    def left(self, trials: int) -> int:
        """How many of `trials` trials are unfinished or not yet proposed."""
        return len(self.with_status("PENDING", "RUNNING")) + max(0, trials - self.proposed)

    def best(self) -> Record | None:
        """The complete trial with the best score; the earlier of equals."""
        complete = self.with_status("COMPLETE")
        return max(complete, key=lambda r: -math.inf if r.score is None else r.score) if complete else None

    def table(self) -> pd.DataFrame:
        """One row per trial: name, status, origin, score, epochs, seconds, error and the flattened recipe."""
        import pandas as pd  # only here: `forage status` does without

        rows = []
        for record in self.records.values():
            flat = Recipe.parse(record.recipe).flat() if record.recipe else {}
            rows.append(
                {
                    "trial": record.name,
                    "status": record.status,
                    "origin": record.origin,
                    "score": record.score,
                    "epochs": len(record.curve),
                    "best_epoch": record.curve[-1]["best_epoch"] if record.curve else None,
                    "seconds": sum(report["seconds"] for report in record.curve),
                    "waited": record.waited,
                    "where": record.where,
                    "error": record.error,
                    **{k: json.dumps(v) if isinstance(v, list) else v for k, v in flat.items()},
                }
            )
        return pd.DataFrame(rows)

    def write_table(self) -> None:
        """Write trials.parquet."""
        import pyarrow as pa

        from pasture.parquet import write_parquet

        write_parquet(self.run.folder, "trials.parquet", pa.Table.from_pandas(self.table(), preserve_index=False))

    def _read(self, name: str) -> Record:
        try:
            return Record(**read_json_with_checksum(self.run.trials.read(name)))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(
                f"{self.run.trials / name}: damaged record ({error}); delete it and the trial is proposed anew"
            ) from None
