"""The competition metric: one globally weighted R2 over all (image, target) rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pasture.targets import TARGETS, WEIGHTS, Array


def weighted_r2(truth: ArrayLike, predictions: ArrayLike) -> float:
    """Globally weighted R2 of (n, 5) predictions against (n, 5) truth, both in grams.

        R2 = 1 - sum_it w_t (y_it - yhat_it)^2 / sum_it w_t (y_it - ybar)^2,   ybar = sum_it w_t y_it / sum_it w_t

    with *one* mean over all rows and targets. It is neither the mean of five R2 nor an R2 per target with weights:
    predicting each target's own mean already scores well above zero.

    Raises:
        ValueError: shapes differ, are not (n, 5), hold NaN or infinity, or all truth is one number.
    """
    y, yhat = _checked(truth, predictions)
    return 1.0 - residual_ss(y, yhat) / total_ss(y)


def total_ss(truth: Array) -> float:
    """Weighted sum of squares of (n, 5) truth about its single weighted mean: the metric's denominator."""
    # Not `total == 0`: the mean of equal numbers may differ from them by a rounding error.
    if (truth == truth.flat[0]).all():
        raise ValueError("the truth is one constant number; R2 is not defined")
    mean = (truth * WEIGHTS).sum() / (WEIGHTS.sum() * len(truth))
    return float((WEIGHTS * (truth - mean) ** 2).sum())


def residual_ss(truth: Array, predictions: Array) -> float:
    """Weighted sum of squared residuals: the metric's numerator."""
    return float((WEIGHTS * (truth - predictions) ** 2).sum())


def target_r2(truth: ArrayLike, predictions: ArrayLike) -> dict[str, float]:
    """Ordinary R2 of each target about its own mean. NaN where a target is constant."""
    y, yhat = _checked(truth, predictions)
    residual = ((y - yhat) ** 2).sum(axis=0)
    total = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where((y == y[0]).all(axis=0), np.nan, 1.0 - residual / total)
    return dict(zip(TARGETS, r2.tolist(), strict=True))


def baseline_r2(truth: ArrayLike) -> float:
    """Score of predicting every target's own mean; every report shows it beside a score."""
    y = np.asarray(truth, dtype=np.float64)
    return weighted_r2(y, np.broadcast_to(y.mean(axis=0), y.shape))


def _checked(truth: ArrayLike, predictions: ArrayLike) -> tuple[Array, Array]:
    y = np.asarray(truth, dtype=np.float64)
    yhat = np.asarray(predictions, dtype=np.float64)
    if y.shape != yhat.shape or y.ndim != 2 or y.shape[1] != len(TARGETS) or len(y) == 0:
        raise ValueError(f"truth {y.shape} and predictions {yhat.shape} must both be (n, {len(TARGETS)}) with n > 0")
    if not (np.isfinite(y).all() and np.isfinite(yhat).all()):
        raise ValueError("truth or predictions hold NaN or infinity")
    return y, yhat
