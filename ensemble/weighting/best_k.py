"""How many of the best members to average, chosen by dates held out."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.weighting.nested import standard_error
from pasture.targets import Array

ERRORS: Final = 2.0
"""Standard errors by which fewer members must be better. With 1, blends of heads on real photographs were .011 to .021
behind the mean of all on dates held out, with 2 .003 to .009, with 3 poor members stayed in; see
docs/explanation/blends.md."""


def best_k(residuals: Array, day: NDArray[np.intp]) -> NDArray[np.intp]:
    """Positions of the k members with the least loss, k chosen with each date held out in turn.

    Without a date the members are ranked by their loss on the other dates, and the mean of the k first, for every k, is
    scored on it. Of all k the largest is taken whose loss, summed over dates, is not above the least by more than two
    standard errors of the difference: a rule like the one of L. Breiman et al.: Classification and Regression Trees,
    1984, section 3.4.3, with the mean of all members in the place of the simplest tree. Averaging the top members with
    equal weights: C. Granger, Y. Jeon: Thick modeling, Economic Modelling 21, 2004.

    Args:
        residuals: (m, n, 5), weighted, in grams.
        day: (n,) number of each image's date. With one date there is nothing to choose by: all members.
    """
    m = len(residuals)
    if len(np.unique(day)) < 2:
        return np.arange(m)
    held_out = held_out_losses(residuals, day)
    excess = held_out - held_out[:, [held_out.sum(axis=0).argmin()]]
    k = int(np.flatnonzero(excess.sum(axis=0) <= ERRORS * standard_error(excess))[-1]) + 1
    return np.sort(np.argsort((residuals**2).sum(axis=(1, 2)), kind="stable")[:k])


def held_out_losses(residuals: Array, day: NDArray[np.intp]) -> Array:
    """(days, m) loss on each date of the mean of the k best members, ranked on the other dates, for k from 1 to m.

    Args:
        residuals: (m, n, 5), weighted, in grams.
        day: (n,) number of each image's date, at least two.
    """
    m, days = len(residuals), np.unique(day)
    loss = np.stack([(residuals[:, day == d] ** 2).sum(axis=(1, 2)) for d in days], axis=1)  # (m, days)
    total = loss.sum(axis=1)
    held_out = np.empty((len(days), m))  # of the mean of the k first
    for row, d in enumerate(days):
        order = np.argsort(total - loss[:, row], kind="stable")
        sums = residuals[np.ix_(order, day == d)].cumsum(axis=0)
        held_out[row] = (sums**2).sum(axis=(1, 2)) / np.arange(1, m + 1) ** 2
    return held_out
