"""ASHA with a margin for noise: prune only a trial that is behind by more than a standard error, paired by date."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pasture.targets import Array
from tune.pruning.rungs import Entry, RungPruner


class PairedPruner(RungPruner):
    """Prune a trial if it is behind ASHA's cut-off by more than the standard error of the difference over dates.

    All trials predict the same images. The difference between two trials' R2 is therefore a sum over dates,

        R2_a - R2_b = sum_j (L_bj - L_aj) / SST,

    with L_aj the weighted residual sum of squares of trial a on date j, and what makes a date hard for both trials
    cancels. With D dates and differences d_j = L_aj - L_bj, the standard error of their sum is
    sqrt(D / (D - 1) * sum_j (d_j - mean(d))^2): the jackknife over dates, which is also the cluster-robust one. SST
    cancels in the comparison.

    Trial b is the one at the cut-off, the best 1/reduction quantile of the rung. Where the quantile lies between two
    trials, their losses are interpolated as the quantile is. With differences that are the same on every date, or
    with one date, the standard error is 0 and the decision is ASHA's (Li et al., MLSys 2020; see `AshaPruner`). PASHA
    (Bohdal et al., ICLR 2023) allows for noise, too, but uses it to decide how many epochs the longest trials get,
    until the ranking of the best ones is stable; here the number of epochs is fixed and noise affects pruning.
    """

    def _continues(self, entry: Entry, earlier: Sequence[Entry]) -> bool:
        if not entry.date_losses:
            raise ValueError("the report of an epoch at a rung lacks `date_losses`")
        # Recipes with other validation splitters may be scored on fewer dates, which cannot be paired.
        comparable = [other for other in earlier if len(other.date_losses) == len(entry.date_losses)]
        if not comparable:
            return True
        behind = np.asarray(entry.date_losses) - _losses_at_cutoff(comparable, self.reduction)
        return bool(behind.sum() <= _standard_error_of_sum(behind))


def _losses_at_cutoff(entries: Sequence[Entry], reduction: int) -> Array:
    """(D,) losses on each date of the trial at the best 1/reduction quantile, by total loss, linearly interpolated."""
    ranking = np.argsort([entry.loss for entry in entries], kind="stable")
    position = (len(entries) - 1) / reduction
    index = int(position)
    low, high = (np.asarray(entries[ranking[i]].date_losses) for i in (index, min(index + 1, len(entries) - 1)))
    return np.asarray(low + (position - index) * (high - low))


def _standard_error_of_sum(differences: Array) -> float:
    dates = len(differences)
    if dates < 2:
        return 0.0
    return float(np.sqrt(dates / (dates - 1) * ((differences - differences.mean()) ** 2).sum()))
