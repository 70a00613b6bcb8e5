"""Confidence interval of a nested score: the jackknife over dates, with the whole procedure repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.stats import t

from ensemble.weighting.greedy import TIE
from ensemble.weighting.library import Library, combine
from ensemble.weighting.nested import Grouping, losses_by_day
from ensemble.weighting.procedure import Procedure
from pasture.targets import WEIGHTS, Array

LEVEL: Final = 0.95
FEWEST_DATES: Final = 5
"""With fewer, the spread of the replicates is no estimate of the standard error."""


def interval(library: Library, unseen: Array, replicates: Array) -> tuple[float, float] | None:
    """95 % interval of the R2 of nested predictions.

    It is an interval for the expected R2 of the blend on a new set of as many dates and photographs. With L and T the
    sums of squares about the predictions and about the mean, it is computed on the scale of log(L / T) = log(1 - R2),
    which is unbounded and on which the error is nearly symmetric. Its standard error is that of the jackknife over
    dates: the score is computed again without each date, and everything that was chosen by score is chosen again
    (J. MacKinnon, M. Nielsen, M. Webb: Fast and reliable jackknife and bootstrap methods for cluster-robust inference,
    Journal of Applied Econometrics 38, 2023). So it includes the variance of the choice besides that of the dates that
    the choice is scored on, and assumes neither that dates have one size nor that photographs of one date are
    independent.

    The quantiles are Student's. A standard error from D values has D - 1 degrees of freedom if they are normal; but
    they are sums of squares, often one date's above all, and it is then less certain: a variance has the degrees of
    freedom 2 / (2 / (D - 1) + k / D) where k is the excess kurtosis (B. O'Neill: Some Useful Moment Results in Sampling
    Problems, The American Statistician 68, 2014), which is estimated as R. Fisher's k-statistics have it.

    Args:
        library: at least 5 days.
        unseen: (repeats, n, 5) in grams: every image by blends made without its date.
        replicates: from `replicates`.

    Returns:
        None where the truth without some date is constant.
    """
    days = len(library.days)
    present = 1.0 - np.eye(days)
    score = _log_ratio(library, losses_by_day(library, unseen)[None], np.ones((1, days)))[0]
    without = _log_ratio(library, replicates, present)
    if not np.isfinite(without).all():
        return None
    deviation = without - without.mean()
    error = float(np.sqrt((days - 1) / days * (deviation**2).sum()))
    half = error * t.ppf((1 + LEVEL) / 2, _degrees_of_freedom(deviation)) if error else 0.0
    return float(1 - np.exp(score + half)), float(1 - np.exp(score - half))


def replicates(library: Library, procedure: Procedure, groupings: Sequence[Grouping]) -> Array:
    """(days, days) weighted residual sum of squares on each day (column), computed without one day (row).

    The nested predictions are made again without each date: neither epochs nor members nor weights nor penalties are
    chosen by it, and it is not scored. The result is the mean over the groupings, as the score is. Only what
    `procedure` decides by scores on dates held out is decided once for each group: to decide it again for every row
    would be a third level of nesting.
    """
    days = library.days
    losses = np.zeros((len(days), len(days)))
    for group in (group for grouping in groupings for group in grouping):
        rest, held_out = library.split(group)
        fit = procedure(rest).fit
        columns = np.isin(days, group)
        losses[np.ix_(columns, columns)] += _losses(held_out, fit(rest))
        for row in np.flatnonzero(~columns):
            rest, others = library.split(np.append(group, days[row]))
            losses[row, columns] += _losses(others.on(group), fit(rest))
    np.fill_diagonal(losses, 0.0)
    return losses / len(groupings)


def _losses(held_out: Library, weights: Array) -> Array:
    """(days,) of the days held out."""
    return losses_by_day(held_out, combine(weights, held_out.predictions)[None])


def _log_ratio(library: Library, losses: Array, present: Array) -> Array:
    """(k,) log(L / T) of the days that are present, from (k, days) losses and (k, days) ones and zeros."""
    of_day = (library.day[:, None] == library.days).astype(np.float64)  # (n, days)
    centred = library.truth - library.truth.mean()  # against cancellation in the sums of squares
    weight = present @ of_day.sum(axis=0) * WEIGHTS.sum()
    first, second = (present @ ((centred**power @ WEIGHTS) @ of_day) for power in (1, 2))
    total = second - first**2 / weight
    total[total < TIE * second] = 0.0  # of a constant truth, which has no R2, rounding leaves more
    lost = np.maximum((losses * present).sum(axis=1), np.finfo(np.float64).tiny)  # 0 has no logarithm
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(lost) - np.log(total))


def _degrees_of_freedom(deviation: Array) -> float:
    """Of the variance of (n,) values about their mean: n - 1 for normal ones, fewer for those with heavy tails."""
    n = len(deviation)
    excess = float((deviation**4).mean() / (deviation**2).mean() ** 2) - 3
    excess = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * excess + 6)
    return 2 / (2 / (n - 1) + max(excess, 0.0) / n)
