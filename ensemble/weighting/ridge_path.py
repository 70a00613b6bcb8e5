"""How strong a penalty on weights should be, by holding out dates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pasture.targets import Array

GROUPS = 5
STRENGTHS = np.logspace(-4, 4, 17)
"""Penalties to choose from, in units of the mean squared length of a member's column."""


def penalty(design: Array, target: Array, day: NDArray[np.intp]) -> float:
    """The penalty a with which ridge regression of `target` on `design` predicts new dates best.

    Every fifth date is held out in turn; with G = X'X and g = X'y of the other rows, (G + aI) w = g is solved for all
    penalties from one eigendecomposition, and the squared error on the held-out rows added up (A. Hoerl, R. Kennard:
    Ridge Regression, Technometrics 12, 1970). The strongest of equals is taken.

    Args:
        design: (r, m), a column a member.
        target: (r,).
        day: (r,) number of each row's date.
    """
    penalties = STRENGTHS[::-1] * max(float((design**2).sum()) / design.shape[1], np.finfo(np.float64).tiny)
    group = np.unique(day, return_inverse=True)[1] % GROUPS
    gram, inner = design.T @ design, design.T @ target
    error = np.zeros(len(penalties))
    for held in (group == g for g in np.unique(group)):
        x, y = design[held], target[held]
        eigenvalues, axes = np.linalg.eigh(gram - x.T @ x)
        along = axes.T @ (inner - x.T @ y)
        weights = axes @ (along[:, None] / (eigenvalues.clip(0)[:, None] + penalties))  # (m, penalties)
        error += ((y[:, None] - x @ weights) ** 2).sum(axis=0)
    return float(penalties[error.argmin()])


def ridge(design: Array, target: Array, day: NDArray[np.intp]) -> Array:
    """(m,) weights of the ridge regression of (r,) target on (r, m) design with the penalty that holds on new dates."""
    gram = design.T @ design + penalty(design, target, day) * np.eye(design.shape[1])
    return np.asarray(np.linalg.solve(gram, design.T @ target))
