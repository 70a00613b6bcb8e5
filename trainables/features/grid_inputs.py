"""Inputs of a density head on a frozen backbone: cells that stay on disk, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.compute.ranks import ALONE, Ranks
from trainables.features.feature_bank import FeatureBank, training_elements
from trainables.network.model import Batch
from trainables.recipe.recipe import Recipe

if TYPE_CHECKING:
    from trainables.features.inputs import FeatureInputs

Rows = NDArray[np.int64]


class GridInputs:
    """Cells (n, views, cells, d) from the feature bank; a batch is read from disk when it is needed."""

    def __init__(
        self, recipe: Recipe, bank: FeatureBank, device: torch.device, semantic: FeatureInputs | None = None
    ) -> None:
        self.elements, self.device, self.semantic = bank.elements, device, semantic
        self.pool = [(bank.elements, element) for element in training_elements(recipe)]
        self.pool += [(bank.replicas, copy) for copy in range(bank.replicas.shape[1])]
        if semantic is not None:
            semantic.extend_to(len(self.pool))

    def training(
        self, batches: Sequence[Rows], generator: np.random.Generator, ranks: Ranks = ALONE
    ) -> Iterator[Batch]:
        """For each image a random one of its D4 elements and augmented copies, the same for both backbones."""
        draws = [generator.integers(len(self.pool), size=len(rows)) for rows in batches]
        parts = [ranks.part(len(rows)) for rows in batches]
        return (self._drawn(rows[p], chosen[p]) for rows, chosen, p in zip(batches, draws, parts, strict=True))

    def element(self, rows: Rows, element: int) -> Batch:
        """Cells of one D4 element."""
        second = self.semantic.element(rows, element).views.mean(dim=1) if self.semantic else None
        return Batch(self._tensor([self.elements[row, element] for row in rows]), second)

    def _drawn(self, rows: Rows, draws: Rows) -> Batch:
        second = self.semantic.drawn(rows, draws).views.mean(dim=1) if self.semantic else None
        chosen = zip(rows, (self.pool[draw] for draw in draws), strict=True)
        return Batch(self._tensor([array[row, column] for row, (array, column) in chosen]), second)

    def _tensor(self, images: list[np.ndarray]) -> Tensor:
        stacked = np.stack(images) if images else np.empty((0, *self.elements.shape[2:]), self.elements.dtype)
        return torch.from_numpy(stacked).to(self.device).float()
