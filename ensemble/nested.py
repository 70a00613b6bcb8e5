"""Judging a way of blending on dates that it was not shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ensemble.library import Library, combine
from pasture.targets import WEIGHTS, Array

Fit = Callable[[Library], Array]
"""A procedure that makes a blend: (m, 5) weights from a library of m members."""

GROUPS = 5


def nested_predictions(
    library: Library, fits: Mapping[str, Fit], repeats: int, rng: np.random.Generator
) -> dict[str, Array]:
    """What blends predict for the dates they were made without.

    The dates are dealt at random into 5 groups (as many as there are dates, if fewer). For each group everything that
    was chosen by score is chosen again without its images: the epoch of every member, and by each of `fits` the
    members and their weights. The blend predicts the group's images; the groups together give one prediction for
    every image.

    Args:
        library: at least two days.
        fits: procedures to judge, on the same groups.
        repeats: number of groupings.
        rng: deals the dates.

    Returns:
        For each procedure (repeats, n, 5) in grams.
    """
    nested = {name: np.empty((repeats, *library.truth.shape)) for name in fits}
    for repeat in range(repeats):
        for group in filter(len, np.array_split(rng.permutation(library.days), GROUPS)):
            rest, held_out = library.split(group)
            rows = np.isin(library.day, group)
            for name, fit in fits.items():
                nested[name][repeat, rows] = combine(fit(rest), held_out.predictions)
    return nested


def losses_by_day(library: Library, predictions: Array) -> Array:
    """(days,) weighted residual sum of squares on each day, the mean over (repeats, n, 5) predictions."""
    loss = ((predictions - library.truth) ** 2 @ WEIGHTS).mean(axis=0)
    return np.bincount(np.searchsorted(library.days, library.day), weights=loss).astype(np.float64)
