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

    Each of the 2k models has its own penalty, chosen within the training rows by leave-one-out in closed form (Rifkin
    and Lippert, Notes on Regularized Least Squares, 2007). It leaves out one photograph, not one date.

    Attributes:
        alphas: (2k,) the chosen penalties, first those of the models of grams.
        coef: (d, 2k).
        intercept: (2k,).
        ceiling: (k,) largest log1p of the training rows, which limits the extrapolation of the models of logs.
    """

    alphas: Tensor
    coef: Tensor
    intercept: Tensor
    ceiling: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("alphas", torch.zeros(2 * outputs, dtype=torch.float64))
        self.register_buffer("coef", torch.zeros(inputs, 2 * outputs, dtype=torch.float64))
        self.register_buffer("intercept", torch.zeros(2 * outputs, dtype=torch.float64))
        self.register_buffer("ceiling", torch.zeros(outputs, dtype=torch.float64))

    def fit(self, features: Array, axes: Array | None, grams: Array, weights: Array, seed: int) -> None:
        """Fit to features (n, d), or their components along axes (d, c), and grams (n, k), weighted by row (n,)."""
        from sklearn.linear_model import RidgeCV  # slow; workers of other heads do not need it

        design = features if axes is None else features @ axes
        both = np.concatenate([grams, np.log1p(grams)], axis=1)
        fitted = RidgeCV(ALPHAS, alpha_per_target=True).fit(design, both, sample_weight=weights)
        coef = fitted.coef_.T if axes is None else axes @ fitted.coef_.T
        self.alphas = torch.from_numpy(fitted.alpha_)
        self.coef = torch.from_numpy(np.ascontiguousarray(coef))
        self.intercept = torch.from_numpy(fitted.intercept_)
        self.ceiling = torch.from_numpy(np.log1p(grams).max(axis=0))

    def forward(self, features: Tensor) -> Tensor:
        """(n, k) in grams."""
        raw, logs = (features @ self.coef + self.intercept).chunk(2, dim=1)
        return (raw + torch.expm1(torch.minimum(logs, self.ceiling))) / 2
