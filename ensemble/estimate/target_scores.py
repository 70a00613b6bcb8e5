"""Score, error and bias of each target on its own. The competition's score hides a target that is barely predicted."""

from __future__ import annotations

import numpy as np

from pasture.metric import target_r2
from pasture.targets import TARGETS, Array


def target_scores(truth: Array, fitted: Array, unseen: Array | None) -> dict[str, dict[str, float | None]]:
    """For each target: `r2` about its own mean, `rmse` and `bias` (mean of prediction less truth) in grams, and its
    standard deviation `sd`, which is the RMSE of predicting the mean.

    `nested_r2`, `nested_rmse` and `nested_bias` are the same on dates that the blend was not fitted to, as means over
    the groupings; None where there are none. R2 is None for a target that is constant.

    Args:
        truth: (n, 5) in grams.
        fitted: (n, 5) in grams, by the blend that was fitted to these images.
        unseen: (repeats, n, 5) in grams, every image by blends made without its date.
    """
    repeats = [_scores(truth, repeat) for repeat in ([] if unseen is None else unseen)]
    own, sd = _scores(truth, fitted), truth.std(axis=0)
    result: dict[str, dict[str, float | None]] = {}
    for t, target in enumerate(TARGETS):
        scores: dict[str, float | None] = {name: _finite(values[t]) for name, values in own.items()}
        scores["sd"] = float(sd[t])
        for name in own:
            scores[f"nested_{name}"] = _finite(np.mean([r[name][t] for r in repeats])) if repeats else None
        result[target] = scores
    return result


def _scores(truth: Array, predictions: Array) -> dict[str, Array]:
    error = predictions - truth
    return {
        "r2": np.array(list(target_r2(truth, predictions).values())),
        "rmse": np.sqrt((error**2).mean(axis=0)),
        "bias": error.mean(axis=0),
    }


def _finite(value: float | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
