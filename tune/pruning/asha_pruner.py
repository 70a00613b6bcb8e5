"""Asynchronous successive halving (ASHA): stop a trial that is not among the best at a rung."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tune.pruning.rungs import Entry, RungPruner


class AshaPruner(RungPruner):
    """Continue a trial if its score is at least the (1 - 1/reduction) quantile of the scores before it at the rung.

    Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2, in the stopping form of
    Ray Tune's ASHAScheduler, with one bracket. Ray's scheduler loses its rungs on restart; these are rebuilt from the
    ledger.
    """

    def _continues(self, entry: Entry, earlier: Sequence[Entry]) -> bool:
        cutoff = np.percentile([other.score for other in earlier], 100 * (1 - 1 / self.reduction))
        return bool(entry.score >= cutoff)
