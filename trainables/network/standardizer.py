"""Standardising the features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor, nn

_LEAST_SPREAD: Final = 1e-6


class Standardizer(nn.Module):
    """Features (..., d) to mean 0 and standard deviation 1, by statistics of the training rows.

    The statistics are buffers: they are saved with the weights. Before `fit`, features are returned as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def fit(self, parts: Callable[[], Iterable[Tensor]]) -> None:
        """Take the statistics from features (..., d), in float64 and in two passes.

        Args:
            parts: returns the features in parts of any size, the same at each call.
        """
        count = 0
        total, squares = (
            torch.zeros_like(self.mean, dtype=torch.float64),
            torch.zeros_like(self.mean, dtype=torch.float64),
        )
        for part in parts():
            rows = part.flatten(0, -2).double()
            count += len(rows)
            total += rows.sum(dim=0)
        mean = total / count
        for part in parts():
            squares += ((part.flatten(0, -2).double() - mean) ** 2).sum(dim=0)
        std = (squares / count).sqrt()
        # A feature that does not vary in the training rows, up to rounding, is centred only: a scale of nearly 0 would
        # turn any other value into a huge one.
        varies = std > _LEAST_SPREAD * std.max()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(varies, std, torch.ones_like(std)))

    def forward(self, features: Tensor) -> Tensor:
        """Standardised features, the shape of the input."""
        return (features - self.mean) / self.std
