"""The best blend that any convex weights can give: the bound by which a selection is judged."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from ensemble.weighting.greedy import Gram
from pasture.targets import Array


def convex_optimum(gram: Gram, shrinkage: float = 0.0) -> Array:
    """(m,) weights over the simplex with the highest R2 - shrinkage ||a - 1/m||^2, exactly: see `convex_weights`."""
    return convex_weights(gram.residuals / np.sqrt(gram.total), shrinkage)


def convex_weights(residuals: Array, shrinkage: float = 0.0) -> Array:
    """Weights over the simplex {a >= 0, sum a = 1} with the smallest residual sum of squares, exactly.

    Minimises f(a) = ||R a||^2 + shrinkage ||a - 1/m||^2, where the columns of R are the members' residuals. On the
    simplex ||a - 1/m||^2 = ||a||^2 - 1/m, so that up to a constant f(a) = ||B a||^2 with B = [R; sqrt(shrinkage) I].
    That is a non-negative least squares problem in disguise:

        min_{w >= 0}  ||B w||^2 + (1 - 1'w)^2                                                               (*)

    Write w = s a with s = 1'w >= 0 and a on the simplex: the objective is s^2 f(a) + (1 - s)^2. For a given a it is
    least at s = 1 / (1 + f(a)) > 0, where it is f(a) / (1 + f(a)), which increases with f(a). Hence a minimises f over
    the simplex if and only if s a solves (*), and a = w / 1'w. (*) is solved to rounding by the active-set method of
    Lawson and Hanson: Solving Least Squares Problems, 1974, chapter 23.

    Args:
        residuals: (m, r), a row a member; best scaled so that ||R a||^2 is near 1, or below.
        shrinkage: 0 for the optimum itself; the larger, the nearer to uniform weights.

    Returns:
        (m,) weights, at least 0, sum 1.
    """
    m = len(residuals)
    rows = residuals.T
    if m < len(rows):
        # As many rows as members suffice: ||R w|| = ||T w|| for R = Q T. (Cholesky of R'R would square the condition.)
        rows = np.asarray(np.linalg.qr(rows, mode="r"))
    if shrinkage:
        rows = np.vstack([rows, np.sqrt(shrinkage) * np.eye(m)])
    target = np.append(np.zeros(len(rows)), 1.0)
    weights, _ = nnls(np.vstack([rows, np.ones(m)]), target)
    return np.asarray(weights / weights.sum())
