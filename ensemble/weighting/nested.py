"""Judging a way of blending on dates that it was not shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble.weighting.library import Library, combine
from pasture.targets import WEIGHTS, Array

Fit = Callable[[Library], Array]
"""What makes a blend: (m, 5) weights from a library of m members."""

Procedure = Callable[[Library], Fit]
"""A whole procedure in two steps: what is decided by scores on dates held out (the method, where it is chosen), then
the fit. From the library to weights is `procedure(library)(library)`; see `whole`."""

Grouping = list[NDArray[np.intp]]
"""Days in groups, each held out in turn."""

GROUPS = 5


def whole(procedure: Procedure) -> Fit:
    """Both steps on the same library."""
    return lambda library: procedure(library)(library)


def once(procedure: Procedure) -> Procedure:
    """The same procedure, which decides once for each set of dates of one library."""
    decided: dict[bytes, Fit] = {}

    def decide(library: Library) -> Fit:
        days = library.days.tobytes()
        if days not in decided:
            decided[days] = procedure(library)
        return decided[days]

    return decide


def deal(library: Library, repeats: int, rng: np.random.Generator) -> list[Grouping]:
    """The dates dealt at random into 5 groups (as many as there are dates, if fewer), so many times."""
    return [list(filter(len, np.array_split(rng.permutation(library.days), GROUPS))) for _ in range(repeats)]


def nested_predictions(library: Library, fits: Mapping[str, Fit], groupings: Sequence[Grouping]) -> dict[str, Array]:
    """What blends predict for the dates they were made without.

    For each group of dates everything that was chosen by score is chosen again without its images: the epoch of every
    member, and by each of `fits` the members and their weights. The blend predicts the group's images; the groups
    together give one prediction for every image.

    Args:
        library: at least two days.
        fits: what to judge, on the same groups.
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
