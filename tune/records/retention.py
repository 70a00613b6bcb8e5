"""What a run directory takes on disk, and what of it is no longer needed.

A trial that has ended needs no checkpoint. Where only the best few trials are kept (`--keep`), the others lose their
weights, which are nearly all of what a run takes; their OOF moves to `retired/`, out of the sight of blends, which
could not predict with them. A blend that was built before has copies of its own.
"""

from __future__ import annotations

import math

from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger, Record


class Retention:
    """Tidies a run directory.

    Args:
        run: the run directory.
        ledger: which trials there are, and how they did.
        keep: how many complete trials keep their weights; None for all.
    """

    def __init__(self, run: RunFolder, ledger: Ledger, keep: int | None) -> None:
        self.run, self.ledger, self.keep = run, ledger, keep
        self.retired: set[str] = set()

    def tidy(self, record: Record) -> None:
        """A trial has ended."""
        self.run.checkpoints.delete(f"{record.name}.pt")
        self._retire_the_others()

    def collect(self) -> int:
        """Delete all that is left over, also what killed processes have left; bytes that this has freed."""
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
