"""A cheap first stage for all trials, after which the best of them go on to the end.

One halving of successive halving (Jamieson & Talwalkar, Non-stochastic Best Arm Identification, AISTATS 2016): unlike
ASHA's, it judges all trials together. A trial waits at the cut with its checkpoint written, and goes on from there. Who
goes on is written down nowhere: it follows from the curves in the ledger alone, so that no kill can come between.
"""

from __future__ import annotations

import math

from tune.records.ledger import Ledger, Record
from tune.records.retention import Retention
from tune.search.asha import REDUCTION


class Promotion:
    """Says who waits in vain, and who goes on when.

    Args:
        ledger: the trials and their curves.
        retention: is tidied of what those leave that have waited in vain.
        trials: of the whole sweep.
        count: how many trials go on, complete ones counted; None where there is no first stage.
        epochs: of a whole trial.

    Attributes:
        cut: epoch at which trials wait, a third of a whole trial, rounded up; None where there is no first stage.
    """

    def __init__(self, ledger: Ledger, retention: Retention, trials: int, count: int | None, epochs: int) -> None:
        self.ledger, self.retention, self.trials, self.count = ledger, retention, trials, count
        self.cut = None if count is None else math.ceil(epochs / REDUCTION)

    def settle(self) -> list[Record]:
        """Prune the trials that wait but are not among the best so far; those trials.

        More trials only push them further down: none would ever be promoted. So at most `count` checkpoints wait.
        """
        waiting = self.ledger.with_status("WAITING")
        if not waiting:
            return []
        # A promoted trial keeps its place whatever becomes of it: those after it are pruned by then.
        ranked = sorted(
            (r for r in self.ledger.records.values() if r.status in ("WAITING", "COMPLETE") or self._promoted(r)),
            key=lambda r: (-r.curve[: self.cut][-1]["score"], r.number),
        )
        best = {r.name for r in ranked[: self.count]}
        losers = [r for r in waiting if r.name not in best]
        for record in losers:
            record.status = "PRUNED"
            self.ledger.write(record)
            self.retention.tidy(record)
        return losers

    def due(self) -> list[Record]:
        """The trials that wait and may go on now: none before all others have ended the first stage."""
        under_way = [r for r in self.ledger.with_status("PENDING", "RUNNING") if not self._promoted(r)]
        if under_way or len(self.ledger.records) < self.trials:
            return []
        self.settle()  # the driver may have died before it had
        return self.ledger.with_status("WAITING")

    def _promoted(self, record: Record) -> bool:
        began = record.status in ("RUNNING", "FAILED")
        return began and self.cut is not None and len(record.curve) >= self.cut
