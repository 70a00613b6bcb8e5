"""What a network is fed: pictures, or the features that a frozen backbone made of them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pasture.dataset import Dataset
from trainables import d4
from trainables.augment import augment, build
from trainables.feature_bank import feature_bank, training_elements
from trainables.image_cache import cached_views
from trainables.model import Batch
from trainables.recipe import Recipe

Rows = NDArray[np.int64]


class Inputs(Protocol):
    """A dataset's photographs as a network takes them. The first axis is always the image."""

    def training(self, rows: Rows, generator: np.random.Generator) -> Batch:
        """A training batch, freshly augmented."""

    def element(self, rows: Rows, element: int) -> Batch:
        """The images under one element of D4, not augmented otherwise."""


def make_inputs(recipe: Recipe, dataset: Dataset, fingerprint: str, device: torch.device) -> Inputs:
    """Features from the bank where the backbone is fixed, pictures where it is trained; the second backbone's features
    beside either."""
    second = recipe.semantic
    semantic = FeatureInputs(second, dataset, fingerprint, device) if second else None
    if recipe.banked:
        return FeatureInputs(recipe, dataset, fingerprint, device, semantic)
    return PictureInputs(recipe, dataset, fingerprint, device, semantic)


class FeatureInputs:
    """Features (n, views, d) out of the feature bank; the whole bank lies on the device."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        fingerprint: str,
        device: torch.device,
        semantic: FeatureInputs | None = None,
    ) -> None:
        bank = feature_bank(recipe, dataset, fingerprint, device)
        self.elements = torch.from_numpy(np.array(bank.elements)).to(device)
        drawn = self.elements[:, list(training_elements(recipe))]
        self.pool = torch.cat([drawn, torch.from_numpy(np.array(bank.replicas)).to(device)], dim=1)
        self.semantic = semantic

    def training(self, rows: Rows, generator: np.random.Generator) -> Batch:
        """One of each image's D4 elements and augmented copies, drawn at random; the same one of both backbones."""
        return self.drawn(rows, generator.integers(self.pool.shape[1], size=len(rows)))

    def drawn(self, rows: Rows, draws: Rows) -> Batch:
        """Chosen elements or copies."""
        views = self.pool[torch.from_numpy(rows), torch.from_numpy(draws)].float()
        return Batch(views, _mean(self.semantic.drawn(rows, draws)) if self.semantic else None)

    def element(self, rows: Rows, element: int) -> Batch:
        """Features of one D4 element."""
        views = self.elements[torch.from_numpy(rows), element].float()
        return Batch(views, _mean(self.semantic.element(rows, element)) if self.semantic else None)


class PictureInputs:
    """Pictures (n, views, size, size, 3) uint8 out of the image cache, augmented on the way."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        fingerprint: str,
        device: torch.device,
        semantic: FeatureInputs | None = None,
    ) -> None:
        self.views = cached_views(dataset, fingerprint, recipe.view)
        self.pipeline = build(recipe.augment.strength)
        self.device = device
        self.semantic = semantic

    def training(self, rows: Rows, generator: np.random.Generator) -> Batch:
        """Each view of each image augmented on its own."""
        pictures = self.views[rows]
        if self.pipeline is not None:
            seeds = generator.integers(2**32, size=len(rows))
            pairs = zip(pictures, seeds.tolist(), strict=True)
            pictures = np.stack([augment(self.pipeline, views, seed) for views, seed in pairs])
        semantic = _mean(self.semantic.training(rows, generator)) if self.semantic else None
        return Batch(torch.from_numpy(pictures).to(self.device), semantic)

    def element(self, rows: Rows, element: int) -> Batch:
        """Pictures laid down by one D4 element."""
        views = d4.apply(torch.from_numpy(self.views[rows]).to(self.device), element)
        return Batch(views, _mean(self.semantic.element(rows, element)) if self.semantic else None)


def _mean(batch: Batch) -> Tensor:
    """(n, d) mean over views."""
    return batch.views.mean(dim=1)
