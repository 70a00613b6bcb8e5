"""What a network is fed: pictures, or the features that a frozen backbone made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.compute.prefetch import prefetch
from trainables.compute.ranks import ALONE, Ranks
from trainables.features.context import TrialContext
from trainables.features.feature_bank import FeatureBank, feature_bank, training_elements
from trainables.images import d4
from trainables.images.augment import augment, build
from trainables.images.image_cache import cached_views
from trainables.network.model import Batch
from trainables.recipe.recipe import Recipe

Rows = NDArray[np.int64]


class Inputs(Protocol):
    """A dataset's photographs as a network takes them. The first axis is always the image.

    Attributes:
        semantic: features of the second backbone; None for a recipe without one.
    """

    semantic: FeatureInputs | None

    def training(
        self, batches: Sequence[Rows], generator: np.random.Generator, ranks: Ranks = ALONE
    ) -> Iterator[Batch]:
        """Training batches, freshly augmented, each made ready while the one before is computed on. They may lie on
        the host. All random numbers are drawn from the generator before the first batch is returned. Of each batch only
        this process's share is made, as it would be in the whole."""

    def element(self, rows: Rows, element: int) -> Batch:
        """The images under one element of D4, not augmented otherwise."""


def make_inputs(recipe: Recipe, context: TrialContext) -> Inputs:
    """Features from the bank if the backbone is frozen, pictures if it is trained; with the features of the second
    backbone in either case."""
    device, second = context.device, recipe.semantic
    semantic = FeatureInputs(second, feature_bank(second, context), device) if second else None
    if recipe.banked:
        return FeatureInputs(recipe, feature_bank(recipe, context), device, semantic)
    return PictureInputs(recipe, cached_views(context.dataset, recipe.view, context.watch), device, semantic)


class FeatureInputs:
    """Features (n, views, d) out of the feature bank; the whole bank lies on the device."""

    def __init__(
        self, recipe: Recipe, bank: FeatureBank, device: torch.device, semantic: FeatureInputs | None = None
    ) -> None:
        self.elements = torch.from_numpy(np.array(bank.elements)).to(device)
        drawn = self.elements[:, list(training_elements(recipe))]
        self.pool = torch.cat([drawn, torch.from_numpy(np.array(bank.replicas)).to(device)], dim=1)
        self.semantic = semantic
        if semantic is not None:
            semantic.extend_to(self.pool.shape[1])

    def extend_to(self, draws: int) -> None:
        """Let every draw of the first backbone have features here: an imported bank has no augmented copies, so the
        features of the unaugmented photograph stand in for them."""
        missing = draws - self.pool.shape[1]
        if missing > 0:
            unaugmented = self.elements[:, d4.IDENTITY].unsqueeze(1)
            self.pool = torch.cat([self.pool, unaugmented.expand(-1, missing, -1, -1)], dim=1)

    def training(
        self, batches: Sequence[Rows], generator: np.random.Generator, ranks: Ranks = ALONE
    ) -> Iterator[Batch]:
        """One of each image's D4 elements and augmented copies, drawn at random; the same one of both backbones."""
        draws = [self.draws(rows, generator) for rows in batches]
        parts = [ranks.part(len(rows)) for rows in batches]
        return (self.drawn(rows[p], chosen[p]) for rows, chosen, p in zip(batches, draws, parts, strict=True))

    def draws(self, rows: Rows, generator: np.random.Generator) -> Rows:
        """A random element or copy for each image."""
        return generator.integers(self.pool.shape[1], size=len(rows))

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
        self, recipe: Recipe, views: np.ndarray, device: torch.device, semantic: FeatureInputs | None = None
    ) -> None:
        self.views, self.strength, self.device, self.semantic = views, recipe.augment.strength, device, semantic

    def training(
        self, batches: Sequence[Rows], generator: np.random.Generator, ranks: Ranks = ALONE
    ) -> Iterator[Batch]:
        """Each view of each image augmented on its own, by as many threads as the trial was given CPUs."""
        jobs = []
        for rows in batches:
            seeds = generator.integers(2**32, size=len(rows)).tolist()
            draws = self.semantic.draws(rows, generator) if self.semantic else None
            part = ranks.part(len(rows))
            jobs.append(partial(self._augmented, rows[part], seeds[part], None if draws is None else draws[part]))
        return prefetch(jobs, torch.get_num_threads())

    def _augmented(self, rows: Rows, seeds: list[int], draws: Rows | None) -> Batch:
        pictures = self.views[rows]
        pipeline = build(self.strength)  # of its own: a pipeline has a state, which threads must not share
        if pipeline is not None and len(rows):
            pictures = np.stack([augment(pipeline, views, s) for views, s in zip(pictures, seeds, strict=True)])
        host = torch.from_numpy(pictures)
        if self.device.type == "cuda":
            host = host.pin_memory()  # or the copy to the device could not overlap the computation there
        return Batch(host, _mean(self.semantic.drawn(rows, draws)) if self.semantic and draws is not None else None)

    def element(self, rows: Rows, element: int) -> Batch:
        """Pictures laid down by one D4 element."""
        views = d4.apply(torch.from_numpy(self.views[rows]).to(self.device), element)
        return Batch(views, _mean(self.semantic.element(rows, element)) if self.semantic else None)


def _mean(batch: Batch) -> Tensor:
    """(n, d) mean over views."""
    return batch.views.mean(dim=1)
