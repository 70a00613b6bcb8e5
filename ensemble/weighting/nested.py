"""Judging a way of blending on dates that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble.weighting.library import Library, combine
from pasture.targets import WEIGHTS, Array

Grouping = list[NDArray[np.intp]]
"""Days in groups, each held out in turn."""

GROUPS = 5


def deal(library: Library, repeats: int, rng: np.random.Generator) -> list[Grouping]:
    """The dates divided at random into 5 groups (as many as there are dates, if fewer), `repeats` times."""
    return [list(filter(len, np.array_split(rng.permutation(library.days), GROUPS))) for _ in range(repeats)]


def nested_predictions(
    library: Library, fits: Mapping[str, Callable[[Library], Array]], groupings: Sequence[Grouping]
) -> dict[str, Array]:
    """Predictions of blends for the dates they were made without.

    For each group of dates everything that was chosen by score is chosen again without its images: the epoch of every
    member whose recipe chooses it by score, and by each of `fits` the members and their weights. The blend predicts the
    group's images; the groups together give one prediction for every image.

    Args:
        library: at least two days.
        fits: what to judge, on the same groups: each makes (m, 5) weights of a library of m members.
        groupings: from `deal`.

    Returns:
        For each of `fits` (groupings, n, 5) in grams.
    """
    nested = {name: np.empty((len(groupings), *library.truth.shape)) for name in fits}
    for repeat, grouping in enumerate(groupings):
        for group in grouping:
            rest, held_out = library.split(group)
            rows = np.isin(library.day, group)
            for name, fit in fits.items():
                nested[name][repeat, rows] = combine(fit(rest), held_out.predictions)
    return nested


def losses_by_day(library: Library, predictions: Array) -> Array:
    """(days,) weighted residual sum of squares on each day, the mean over (repeats, n, 5) predictions."""
    loss = ((predictions - library.truth) ** 2 @ WEIGHTS).mean(axis=0)
    return np.bincount(np.searchsorted(library.days, library.day), weights=loss).astype(np.float64)


def standard_error(by_day: Array) -> Array:
    """Of the sums over days of (days, ...) numbers, independent between days."""
    return np.asarray(np.sqrt(len(by_day) * by_day.var(axis=0, ddof=1)))
