"""Deletes the files of a run directory that are no longer needed.

The checkpoint of an ended trial is deleted. With `--keep`, only the best trials keep their weights, which are most of a
run's size; the OOF of the others moves to `retired/`, where blends do not look for members: without weights they could
not predict with them. Blends that were built before have copies of their own.
"""

from __future__ import annotations

import math

from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger, Record


class Retention:
    """Deletes files that are no longer needed.

    Args:
        run: the run directory.
        ledger: the trials and their results.
        keep: how many complete trials keep their weights; None for all.
    """

    def __init__(self, run: RunFolder, ledger: Ledger, keep: int | None) -> None:
        self.run, self.ledger, self.keep = run, ledger, keep
        self.retired: set[str] = set()

    def tidy(self, record: Record) -> None:
        """Delete what an ended trial no longer needs, and what it makes superfluous of other trials."""
        self.run.checkpoints.delete(f"{record.name}.pt")
        self._retire_the_others()

    def collect(self) -> int:
        """Delete everything superfluous, also files that killed processes have left; the number of bytes freed."""
        before = sum(self.run.folder.sizes().values())
        unfinished = {record.name for record in self.ledger.with_status("PENDING", "RUNNING", "WAITING")}
        for path in self.run.folder.sizes():
            kind, _, rest = path.partition("/")
            trial = rest.partition("/")[0].partition(".")[0]
            useless = kind == "checkpoints" or (kind == "weights" and not self.run.oof.exists(f"{trial}.parquet"))
            if path.endswith(".tmp") or (useless and trial not in unfinished):
                self.run.folder.delete(path)
        self._retire_the_others()
        return before - sum(self.run.folder.sizes().values())

    def _retire_the_others(self) -> None:
        if self.keep is None:
            return
        complete = self.ledger.with_status("COMPLETE")
        ranked = sorted(complete, key=lambda r: (math.inf if r.score is None else -r.score, r.number))
        for record in ranked[self.keep :]:
            if record.name not in self.retired:
                self._retire(record.name)
                self.retired.add(record.name)

    def _retire(self, trial: str) -> None:
        # In this order a blend never sees a trial that has lost its weights.
        if self.run.oof.exists(f"{trial}.parquet"):
            self.run.retired.write(f"{trial}.parquet", self.run.oof.read(f"{trial}.parquet"))
            self.run.oof.delete(f"{trial}.parquet")
        weights = self.run.weights(trial)
        for name in weights.names():
            weights.delete(name)
