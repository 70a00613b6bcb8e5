"""Ridge regression on frozen features: the baseline of every sweep."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from pasture.targets import Array

ALPHAS: Final[Array] = np.logspace(0, 5, 11)
"""Penalties to choose from, for standardised features."""


class Ridge(nn.Module):
    """Standardised features (n, d) to k weights in grams, each the mean of two linear models: of grams and of log1p.

    Without a fixed penalty, each of the 2k models has its own, chosen within the training rows by leave-one-out in
    closed form (Rifkin and Lippert, Notes on Regularized Least Squares, 2007). It leaves out one photograph, not one
    date.

    Args:
        inputs: d.
        outputs: k.
        penalty: the factor of the squared coefficients is `penalty` times the number of features of the fit, where the
            squared errors are summed over photographs with weights of mean 1; 0 to choose it.

    Attributes:
        alphas: (2k,) the penalties, first those of the models of grams.
        coef: (d, 2k).
        intercept: (2k,).
        ceiling: (k,) largest log1p of the training rows, which limits the extrapolation of the models of logs.
    """

    alphas: Tensor
    coef: Tensor
    intercept: Tensor
    ceiling: Tensor

    def __init__(self, inputs: int, outputs: int, penalty: float = 0.0) -> None:
        super().__init__()
        self.penalty = penalty
        self.register_buffer("alphas", torch.zeros(2 * outputs, dtype=torch.float64))
        self.register_buffer("coef", torch.zeros(inputs, 2 * outputs, dtype=torch.float64))
        self.register_buffer("intercept", torch.zeros(2 * outputs, dtype=torch.float64))
        self.register_buffer("ceiling", torch.zeros(outputs, dtype=torch.float64))

    def fit(self, features: Array, axes: Array | None, grams: Array, weights: Array, seed: int) -> None:
        """Fit to features (n, d), or their components along axes (d, c), and grams (n, k), weighted by row (n,)."""
        # Imported here because it is slow and workers of other heads do not need it.
        from sklearn.linear_model import Ridge as FixedRidge
        from sklearn.linear_model import RidgeCV

        design = features if axes is None else features @ axes
        both = np.concatenate([grams, np.log1p(grams)], axis=1)
        if self.penalty:
            alphas = np.full(both.shape[1], self.penalty * design.shape[1])
            fitted = FixedRidge(alphas).fit(design, both, sample_weight=weights)
        else:
            fitted = RidgeCV(ALPHAS, alpha_per_target=True).fit(design, both, sample_weight=weights)
            alphas = fitted.alpha_
        coef = fitted.coef_.T if axes is None else axes @ fitted.coef_.T
        self.alphas = torch.from_numpy(alphas)
        self.coef = torch.from_numpy(np.ascontiguousarray(coef))
        self.intercept = torch.from_numpy(fitted.intercept_)
        self.ceiling = torch.from_numpy(np.log1p(grams).max(axis=0))

    def forward(self, features: Tensor) -> Tensor:
        """(n, k) in grams."""
        raw, logs = (features @ self.coef + self.intercept).chunk(2, dim=1)
        return (raw + torch.expm1(torch.minimum(logs, self.ceiling))) / 2
