"""How many of the best members to average, chosen by dates held out, where each backbone counts the same.

A search proposes what scores best out of fold. On few photographs that is largely luck, and it is often one backbone:
a plain mean of what was found is then little more than that backbone. Equal weight for each backbone, shared by its
members, keeps the others in the blend however often the search has tried them.
"""

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


def best_k(residuals: Array, day: NDArray[np.intp], backbone: NDArray[np.intp]) -> NDArray[np.intp]:
    """Positions of the k members with the least loss, k chosen with each date held out in turn.

    Without a date the members are ranked by their loss on the other dates, and the mean over backbones of the k first,
    for every k, is scored on it. Of all k the largest is taken whose loss, summed over dates, is not above the least by
    more than two standard errors of the difference: a rule like the one of L. Breiman et al.: Classification and
    Regression Trees, 1984, section 3.4.3, with the blend of all members in the place of the simplest tree. Averaging
    the top members: C. Granger, Y. Jeon: Thick modeling, Economic Modelling 21, 2004.

    Args:
        residuals: (m, n, 5), weighted, in grams.
        day: (n,) number of each image's date. With one date there is nothing to choose by: all members.
        backbone: (m,) number of each member's backbone.
    """
    m = len(residuals)
    if len(np.unique(day)) < 2:
        return np.arange(m)
    held_out = held_out_losses(residuals, day, backbone)
    excess = held_out - held_out[:, [held_out.sum(axis=0).argmin()]]
    k = int(np.flatnonzero(excess.sum(axis=0) <= ERRORS * standard_error(excess))[-1]) + 1
    return np.sort(np.argsort((residuals**2).sum(axis=(1, 2)), kind="stable")[:k])


def held_out_losses(residuals: Array, day: NDArray[np.intp], backbone: NDArray[np.intp]) -> Array:
    """(days, m) loss on each date of the mean over backbones of the k best members, ranked on the other dates, for k
    from 1 to m.

    Args:
        residuals: (m, n, 5), weighted, in grams.
        day: (n,) number of each image's date, at least two.
        backbone: (m,) number of each member's backbone.
    """
    m, days = len(residuals), np.unique(day)
    loss = np.stack([(residuals[:, day == d] ** 2).sum(axis=(1, 2)) for d in days], axis=1)  # (m, days)
    total = loss.sum(axis=1)
    held_out = np.empty((len(days), m))  # of the k first
    for row, d in enumerate(days):
        order = np.argsort(total - loss[:, row], kind="stable")
        means = means_of_first(residuals[np.ix_(order, day == d)].reshape(m, -1), backbone[order])
        held_out[row] = (means**2).sum(axis=1)
    return held_out


def means_of_first(values: Array, backbone: NDArray[np.intp]) -> Array:
    """(m, r) mean over backbones of the means of each backbone's members among the first k of (m, r) values, for k from
    1 to m.

    Args:
        values: a row a member.
        backbone: (m,) number of each member's backbone.
    """
    grouped = np.argsort(backbone, kind="stable")
    first, size = np.unique(backbone[grouped], return_index=True, return_counts=True)[1:]
    rank = np.arange(len(values)) - first.repeat(size)  # of each member among those of its backbone
    sums = values[grouped].cumsum(axis=0)
    before = np.concatenate([np.zeros((1, values.shape[1])), sums])[first]  # of the backbones before each
    means = (sums - before.repeat(size, axis=0)) / (rank + 1)[:, None]
    changes = np.diff(means, axis=0, prepend=0)  # of its backbone's mean, by each member
    changes[rank == 0] = means[rank == 0]
    place = np.argsort(grouped)
    return np.asarray(changes[place].cumsum(axis=0) / (rank == 0)[place].cumsum()[:, None])


def shares(backbone: NDArray[np.intp]) -> Array:
    """(m,) weights of sum 1: the same for each backbone, shared equally by its members."""
    counts = np.bincount(backbone)
    return np.asarray(1 / counts[backbone] / np.count_nonzero(counts))
