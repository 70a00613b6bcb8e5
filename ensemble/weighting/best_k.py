"""How many of the best members to average, chosen by dates held out. Backbones have equal weight in the mean.

A search settles on one backbone: in a plain mean, near-copies of its best trial would outvote the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.weighting.nested import standard_error
from pasture.targets import Array

ERRORS: Final = 2.0
"""Standard errors by which fewer members must be better. With 1, searched blends were .003 to .015 behind in outer
cross-validation, on real and on synthetic photographs; with 3, poor members stayed in."""


def best_k(residuals: Array, day: NDArray[np.intp], backbones: Sequence[str]) -> NDArray[np.intp]:
    """Positions of the k members with the least loss, k chosen with each date held out in turn.

    Without a date the members are ranked by their loss on the other dates, and the mean of the k first, for every k, is
    scored on it. Of all k the largest is taken whose loss, summed over dates, is not above the least by more than two
    standard errors of the difference: a rule like the one of L. Breiman et al.: Classification and Regression Trees,
    1984, section 3.4.3, with the mean of all members in the place of the simplest tree. Averaging the top members: C.
    Granger, Y. Jeon: Thick modeling, Economic Modelling 21, 2004.

    Args:
        residuals: (m, n, 5), weighted, in grams.
        day: (n,) number of each image's date. With one date there is nothing to choose by: all members.
        backbones: m names.
    """
    m = len(residuals)
    if len(np.unique(day)) < 2:
        return np.arange(m)
    held_out = held_out_losses(residuals, day, backbones)
    excess = held_out - held_out[:, [held_out.sum(axis=0).argmin()]]
    k = int(np.flatnonzero(excess.sum(axis=0) <= ERRORS * standard_error(excess))[-1]) + 1
    return np.sort(np.argsort((residuals**2).sum(axis=(1, 2)), kind="stable")[:k])


def held_out_losses(residuals: Array, day: NDArray[np.intp], backbones: Sequence[str]) -> Array:
    """(days, m) loss on each date of the mean of the k best members, ranked on the other dates, for k from 1 to m.

    Args:
        residuals: (m, n, 5), weighted, in grams.
        day: (n,) number of each image's date, at least two.
        backbones: m names.
    """
    m, days, number = len(residuals), np.unique(day), np.unique(backbones, return_inverse=True)[1]
    loss = np.stack([(residuals[:, day == d] ** 2).sum(axis=(1, 2)) for d in days], axis=1)  # (m, days)
    total = loss.sum(axis=1)
    held_out = np.empty((len(days), m))  # of the mean of the k first
    for row, d in enumerate(days):
        order = np.argsort(total - loss[:, row], kind="stable")
        means = _means_of_first(residuals[np.ix_(order, day == d)], number[order])
        held_out[row] = (means**2).sum(axis=(1, 2))
    return held_out


def equal_backbones(backbones: Sequence[str]) -> Array:
    """(m,) weights with which backbones weigh the same, and so do the members of each."""
    names, number, count = np.unique(backbones, return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(names) * count[number]))


def _means_of_first(residuals: Array, backbone: NDArray[np.intp]) -> Array:
    """(m, n, 5) mean of the k first members for k from 1 to m, in which backbones weigh the same.

    Args:
        residuals: (m, n, 5).
        backbone: (m,) number of each member's backbone.
    """
    steps, is_new = np.empty_like(residuals), np.zeros(len(residuals))
    for own in (np.flatnonzero(backbone == b) for b in np.unique(backbone)):
        means = residuals[own].cumsum(axis=0) / np.arange(1, len(own) + 1)[:, None, None]
        steps[own] = np.diff(means, axis=0, prepend=np.zeros_like(means[:1]))
        is_new[own[0]] = 1
    return np.asarray(steps.cumsum(axis=0) / is_new.cumsum()[:, None, None])
