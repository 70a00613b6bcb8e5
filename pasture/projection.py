"""Nearest predictions that are possible: masses in balance and no weight below zero."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from pasture.targets import BALANCE, WEIGHTS, Array, from_components


def project(predictions: ArrayLike) -> Array:
    """Project predictions onto the mass balance and onto non-negative weights.

    Solves, exactly and for every row at once,

        min_x  sum_t w_t (y_t - (A x)_t)^2   subject to   x >= 0,

    where x = (green, dead, clover), A is `BALANCE` and w the competition weights. With three unknowns the
    optimum lies in one of the eight faces of the non-negative orthant: each face is a small linear system, solved in
    closed form. The answer is the face whose solution satisfies the optimality (KKT) conditions: x >= 0 on the face,
    gradient >= 0 off it. In floating point it is the face that violates them least.

    Args:
        predictions: (..., 5) in grams, in the order of `TARGETS`.

    Returns:
        (..., 5) in grams; GDM = Green + Clover and Total = Green + Dead + Clover hold to rounding. The feasible set
        is a convex cone, so that a mean of projected predictions needs no further projection.

    Raises:
        ValueError: the last axis is not 5, or a value is not finite.
    """
    y = np.asarray(predictions, dtype=np.float64)
    if y.shape[-1:] != WEIGHTS.shape:
        raise ValueError(f"predictions are {y.shape}, expected (..., {len(WEIGHTS)}): one for each target")
    if not np.isfinite(y).all():
        raise ValueError("predictions hold NaN or infinity; they cannot be projected onto the mass balance")
    rows = y.reshape(-1, len(WEIGHTS))
    hessian = BALANCE.T @ (WEIGHTS[:, None] * BALANCE)
    linear = (rows * WEIGHTS) @ BALANCE  # (n, 3): the gradient at x is hessian @ x - linear

    best = np.zeros((len(rows), 3))
    least = np.full(len(rows), np.inf)
    for face in product((False, True), repeat=3):
        free = np.flatnonzero(face)
        x = np.zeros_like(best)
        if len(free):
            x[:, free] = np.linalg.solve(hessian[np.ix_(free, free)], linear[:, free].T).T
        # Not the lowest cost: near a face, costs differ by less than rounding long before the points do.
        gradient = x @ hessian - linear
        violation = np.where(face, -x, -gradient).max(axis=1).clip(0)
        better = violation < least
        best[better], least[better] = x[better].clip(0), violation[better]
    return from_components(best).reshape(y.shape)
