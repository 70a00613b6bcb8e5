"""Partial least squares (PLS) regression on frozen features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pasture.targets import Array


class Pls(nn.Module):
    """Standardised features (n, d) to k encoded targets by one linear model, fitted by PLS2.

    PLS projects the features on a few directions of high covariance with all targets together (S. Wold, M. Sjostrom,
    L. Eriksson: PLS-regression: a basic tool of chemometrics, Chemometrics and Intelligent Laboratory Systems 58,
    2001). With thousands of features of a few hundred photographs it is regularised by the number of components.

    Args:
        inputs: d.
        outputs: k.
        components: number of PLS components; fewer if there are fewer training rows or features.

    Attributes:
        coef: (d, k).
        intercept: (k,).
        ceiling: (k,) largest encoded target of the training rows; predictions are clipped there.
    """

    coef: Tensor
    intercept: Tensor
    ceiling: Tensor

    def __init__(self, inputs: int, outputs: int, components: int) -> None:
        super().__init__()
        self.components = components
        self.register_buffer("coef", torch.zeros(inputs, outputs, dtype=torch.float64))
        self.register_buffer("intercept", torch.zeros(outputs, dtype=torch.float64))
        self.register_buffer("ceiling", torch.zeros(outputs, dtype=torch.float64))

    def fit(self, features: Array, axes: Array | None, encoded: Array, weights: Array, seed: int) -> None:
        """Fit to features (n, d) and encoded targets (n, k), weighted by row (n,).

        Args:
            features: standardised.
            axes: unused: the components are PLS's own.
            encoded: targets.
            weights: above 0, mean 1.
            seed: unused: the fit draws nothing.
        """
        from sklearn.cross_decomposition import PLSRegression  # slow; workers of other heads do not need it

        mean, centre = np.average(encoded, axis=0, weights=weights), np.average(features, axis=0, weights=weights)
        root = np.sqrt(weights)[:, None]
        x, y = (features - centre) * root, (encoded - mean) * root
        coef = np.zeros((x.shape[1], y.shape[1]))
        if np.ptp(features, axis=0).any() and np.ptp(encoded, axis=0).any():
            # With a mirrored copy of every row, scikit-learn's own centring, which knows no weights, changes nothing.
            model = PLSRegression(min(self.components, np.linalg.matrix_rank(x)), scale=False)
            coef = np.ascontiguousarray(model.fit(np.concatenate([x, -x]), np.concatenate([y, -y])).coef_.T)
        self.coef = torch.from_numpy(coef)
        self.intercept = torch.from_numpy(mean - centre @ coef)
        self.ceiling = torch.from_numpy(encoded.max(axis=0))

    def forward(self, features: Tensor) -> Tensor:
        """(n, k) encoded predictions."""
        return torch.minimum(features @ self.coef + self.intercept, self.ceiling)
