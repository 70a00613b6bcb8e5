"""Placeholder until the fitted heads are in."""

from __future__ import annotations

from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.recipe import Recipe


class FittedModel(nn.Module):
    """To be replaced."""

    def __init__(self, recipe: Recipe, inputs: int) -> None:
        super().__init__()

    def fit(self, features: NDArray, grams: NDArray, image_weights: NDArray, seed: int) -> None:
        """To be replaced."""
        raise NotImplementedError

    def grams(self, features: Tensor) -> Tensor:
        """To be replaced."""
        raise NotImplementedError
