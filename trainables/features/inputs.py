"""Inputs of a network: pictures, or the features that a frozen backbone has computed from them."""

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
from trainables.features.grid_inputs import GridInputs
from trainables.images import d4
from trainables.images.augment import augment, build
from trainables.images.image_cache import cached_views
from trainables.network.model import Batch
from trainables.recipe.recipe import Recipe

Rows = NDArray[np.int64]


class Inputs(Protocol):
    """A dataset's photographs as inputs of a network. The first axis is always the image.

    Attributes:
        semantic: features of the second backbone; None for a recipe without one.
    """

    semantic: FeatureInputs | None

    def training(
        self, batches: Sequence[Rows], generator: np.random.Generator, ranks: Ranks = ALONE
    ) -> Iterator[Batch]:
        """Yield training batches with fresh augmentation, each prepared while the previous one is computed.

        Batches may be on the host. All random numbers are drawn from the generator before the first batch is returned.
        Only this process's share of each batch is made, equal to that part of the whole batch."""

    def element(self, rows: Rows, element: int) -> Batch:
        """Images under one element of D4, without other augmentation."""


def make_inputs(recipe: Recipe, context: TrialContext) -> Inputs:
    """Features from the bank for a frozen backbone, else pictures; with the features of the second backbone, if any."""
    device, second = context.device, recipe.semantic
    semantic = FeatureInputs(second, feature_bank(second, context), device) if second else None
    if recipe.banked and recipe.dense:
        return GridInputs(recipe, feature_bank(recipe, context), device, semantic)
    if recipe.banked:
        return FeatureInputs(recipe, feature_bank(recipe, context), device, semantic)
    return PictureInputs(recipe, cached_views(context.dataset, recipe.view, context.watch), device, semantic)


class FeatureInputs:
    """Features (n, views, d) from the feature bank; the whole bank is held on the device."""

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
        """For each image a random one of its D4 elements and augmented copies, the same for both backbones."""
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
    """Pictures (n, views, size, size, 3) uint8 from the image cache, augmented when a batch is made."""

    def __init__(
        self, recipe: Recipe, views: np.ndarray, device: torch.device, semantic: FeatureInputs | None = None
    ) -> None:
        self.views, self.device, self.semantic = views, device, semantic
        self.augment, self.size = recipe.augment, recipe.view.size

    def training(
        self, batches: Sequence[Rows], generator: np.random.Generator, ranks: Ranks = ALONE
    ) -> Iterator[Batch]:
        """Each view of each image augmented independently, in as many threads as the trial has CPUs."""
        jobs = []
        for rows in batches:
            seeds = generator.integers(2**32, size=len(rows)).tolist()
            draws = self.semantic.draws(rows, generator) if self.semantic else None
            part = ranks.part(len(rows))
            jobs.append(partial(self._augmented, rows[part], seeds[part], None if draws is None else draws[part]))
        return prefetch(jobs, torch.get_num_threads())

    def _augmented(self, rows: Rows, seeds: list[int], draws: Rows | None) -> Batch:
        pictures = self.views[rows]
        pipeline = build(self.augment, self.size)  # one per call: a pipeline has state, which threads must not share
        if pipeline is not None and len(rows):
            pictures = np.stack([augment(pipeline, views, s) for views, s in zip(pictures, seeds, strict=True)])
        host = torch.from_numpy(pictures)
        if self.device.type == "cuda":
            host = host.pin_memory()  # lets the copy to the device overlap computation
        return Batch(host, _mean(self.semantic.drawn(rows, draws)) if self.semantic and draws is not None else None)

    def element(self, rows: Rows, element: int) -> Batch:
        """Pictures transformed by one D4 element."""
        views = d4.apply(torch.from_numpy(self.views[rows]).to(self.device), element)
        return Batch(views, _mean(self.semantic.element(rows, element)) if self.semantic else None)


def _mean(batch: Batch) -> Tensor:
    """(n, d) mean over views."""
    return batch.views.mean(dim=1)
