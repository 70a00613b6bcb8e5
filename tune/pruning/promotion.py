"""A short first stage for all searched trials, after which the best of them continue to the end.

One halving of successive halving (Jamieson & Talwalkar, Non-stochastic Best Arm Identification, AISTATS 2016): unlike
ASHA, it compares all trials together. A trial waits at the cut with its checkpoint written, and continues from there.
Which trials continue is not written to disk: it follows from the curves in the ledger alone, so that it does not matter
when the driver is killed.

Start trials have no first stage. They train to their end at once, and do not count among the promoted ones.
"""

from __future__ import annotations

from tune.pruning.pruners import first_stage_epochs
from tune.records.ledger import Ledger, Record
from tune.records.retention import Retention


class Promotion:
    """Decides which waiting trials are pruned, and which continue when.

    Args:
        ledger: the trials and their curves.
        retention: deletes the checkpoints of waiting trials that are pruned.
        trials: number of trials of the whole sweep.
        count: how many searched trials continue, complete ones included; None for no first stage.
        epochs: of a whole trial.

    Attributes:
        cut: epoch at which trials wait, a third of a whole trial, rounded up; None for no first stage.
    """

    def __init__(self, ledger: Ledger, retention: Retention, trials: int, count: int | None, epochs: int) -> None:
        self.ledger, self.retention, self.trials, self.count = ledger, retention, trials, count
        self.cut = None if count is None else first_stage_epochs(epochs)

    def prune_waiting(self) -> list[Record]:
        """Prune the waiting trials that are not among the best so far, and return them.

        Further trials can only lower their rank, so they would never be promoted. At most `count` checkpoints wait.
        """
        waiting = self.ledger.with_status("WAITING")
        if not waiting:
            return []
        # A promoted trial keeps its place whatever its later result: the trials ranked after it were pruned for it.
        ranked = sorted(
            (r for r in self._searched() if r.status in ("WAITING", "COMPLETE") or self._promoted(r)),
            key=lambda r: (-r.curve[: self.cut][-1]["score"], r.number),
        )
        best = {r.name for r in ranked[: self.count]}
        pruned = [r for r in waiting if r.name not in best]
        for record in pruned:
            record.status = "PRUNED"
            self.ledger.write(record)
            self.retention.tidy(record)
        return pruned

    def due(self) -> list[Record]:
        """The waiting trials that may continue now: none before every trial has ended the first stage."""
        under_way = [r for r in self.ledger.with_status("PENDING", "RUNNING") if not self._promoted(r)]
        if under_way or self.ledger.proposed < self.trials:
            return []
        self.prune_waiting()  # an earlier driver may have been killed before it did this
        return self.ledger.with_status("WAITING")

    def _searched(self) -> list[Record]:
        return [r for r in self.ledger.records.values() if r.origin == "search"]

    def _promoted(self, record: Record) -> bool:
        began = record.origin == "search" and record.status in ("RUNNING", "FAILED")
        return began and self.cut is not None and len(record.curve) >= self.cut
