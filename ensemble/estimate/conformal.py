"""How far off a blend may be on a photograph of a new date: conformal intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pasture.targets import Array

LEVEL: Final = 0.9


@dataclass(frozen=True)
class Conformal:
    """Parameters of an interval: `prediction -+ width * (prediction + offset)`, not below 0, for each target.

    Attributes:
        level: share of new photographs whose truth lies inside, for each target.
        offset: five, in grams: the error grows with the weight, but is not nil at 0 g.
        width: five.
    """

    level: float
    offset: tuple[float, ...]
    width: tuple[float, ...]

    def bounds(self, predictions: Array) -> tuple[Array, Array]:
        """Lower and upper end of the intervals of (n, 5) predictions, both (n, 5) in grams."""
        half = np.array(self.width) * (predictions.clip(0) + np.array(self.offset))
        return (predictions - half).clip(0), predictions + half


def calibrate(truth: Array, unseen: Array, day: NDArray[np.intp], level: float = LEVEL) -> Conformal | None:
    """Intervals for photographs of new dates.

    Photographs of one date err together, so that it is the dates that are exchangeable, not the photographs. With D
    dates, each photograph of date d counts 1 / ((D + 1) n_d), and 1 / (D + 1) lies at infinity for the new date: the
    weighted quantile of the scaled residuals then holds a new photograph with the probability `level` at least (Y. Lee,
    R. Barber, R. Willett: Distribution-free inference with hierarchical data, 2023, theorem 1). Residuals are scaled by
    the prediction plus an offset, the target's mean (J. Lei et al.: Distribution-Free Predictive Inference for
    Regression, JASA 113, 2018, section 5.2).

    Args:
        truth: (n, 5) in grams.
        unseen: (repeats, n, 5) in grams: every photograph by blends made without its date.
        day: (n,) number of each photograph's date.
        level: share that is to lie inside.

    Returns:
        None where there are too few dates: 9 for the level .9.
    """
    days, number, count = np.unique(day, return_inverse=True, return_counts=True)
    if len(days) / (len(days) + 1) < level:
        return None
    offset = truth.mean(axis=0)
    residuals = np.abs(truth - unseen) / np.maximum(unseen.clip(0) + offset, np.finfo(np.float64).tiny)
    mass = np.tile(1 / ((len(days) + 1) * count[number]), len(unseen)) / len(unseen)
    flat = residuals.reshape(-1, truth.shape[1])
    order = flat.argsort(axis=0)
    reached = mass[order].cumsum(axis=0) >= level - 1e-9
    width = np.take_along_axis(flat, order, axis=0)[reached.argmax(axis=0), np.arange(truth.shape[1])]
    return Conformal(level, tuple(offset.tolist()), tuple(width.tolist()))
