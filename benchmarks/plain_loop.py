"""What published code does with a frozen backbone: every epoch of every fold decodes each photograph, cuts and augments
it, runs the backbone over it and trains the head, fold after fold.

Networks, loss, optimiser, schedule and every random draw are forage's own, so that the scores must be the same; only
nothing is kept from one epoch to the next. The draws are those of `trainables.features.inputs.FeatureInputs`: a
training picture is one of the D4 elements or of the augmented copies that the recipe has.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pasture.dataset import Dataset
from pasture.folds import held_out_rows, training_rows
from pasture.projection import project
from pasture.targets import TARGETS, Array
from trainables.features.feature_bank import copies, training_elements
from trainables.images import d4
from trainables.images.augment import augment, build
from trainables.images.views import load_views
from trainables.network.backbone import create_backbone
from trainables.network.model import Batch, BiomassNet
from trainables.recipe.recipe import Recipe
from trainables.recipe.seeds import mix, torch_seed
from trainables.training.losses import Truth, loss
from trainables.training.nets import create_net, widths
from trainables.training.optimizer import create_optimizer, rate_factor, set_learning_rates

Rows = np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What the loop did.

    Attributes:
        epochs: (epochs, n, 5) OOF in grams after every epoch, without TTA.
        epoch_seconds: all folds' mean seconds an epoch.
        tta_seconds: all folds' seconds for the eight elements of the held-out pictures.
    """

    epochs: Array
    epoch_seconds: float
    tta_seconds: float


class Loader:
    """Decodes, cuts, augments and runs the backbone, every time it is asked."""

    def __init__(self, recipe: Recipe, dataset: Dataset, device: torch.device) -> None:
        self.recipe, self.paths, self.device = recipe, dataset.paths, device
        self.backbone = create_backbone(recipe.backbone, recipe.view.size).to(device).eval()
        self.elements = training_elements(recipe)
        self.choices = len(self.elements) + copies(recipe)
        self.pipeline = build(recipe.augment, recipe.view.size)

    def training(self, rows: Rows, draws: Rows) -> Batch:
        """A training batch: of each picture, the element or the copy that was drawn."""
        return self._features([self._drawn(row, draw) for row, draw in zip(rows.tolist(), draws.tolist(), strict=True)])

    def element(self, rows: Rows, element: int) -> Batch:
        """A batch laid down by one element of D4."""
        return self._features([d4.apply(self._views(row), element) for row in rows.tolist()])

    def _views(self, row: int) -> Tensor:
        return torch.from_numpy(load_views(self.paths[row], self.recipe.view))

    def _drawn(self, row: int, draw: int) -> Tensor:
        if draw < len(self.elements):
            return d4.apply(self._views(row), self.elements[draw])
        seed = mix(row, draw - len(self.elements))
        return torch.from_numpy(augment(self.pipeline, self._views(row).numpy(), seed))

    @torch.inference_mode()
    def _features(self, views: list[Tensor]) -> Batch:
        pictures = torch.stack(views).to(self.device)
        features = self.backbone(pictures.flatten(0, 1))
        return Batch(features.view(*pictures.shape[:2], -1).clone())


def train(recipe: Recipe, dataset: Dataset, epochs: int, device: torch.device) -> Outcome:
    """The first epochs of a recipe, on all folds. For recipes of a plain frozen head only (no mixup, EMA, stages)."""
    v = recipe.validation
    folds = v.assign(dataset)
    oof = np.empty((epochs, len(dataset), len(TARGETS)))
    epoch_seconds = tta_seconds = 0.0
    for fold in range(v.folds):
        loader = Loader(recipe, dataset, device)
        rows, held = training_rows(folds, fold), held_out_rows(folds, fold)
        net, truth = _start(recipe, dataset, fold, rows, device)
        optimizer = create_optimizer(recipe.optimizer, recipe.stages[0], net)
        start = time.perf_counter()
        for epoch in range(epochs):
            _epoch(recipe, fold, epoch, net, optimizer, loader, rows, truth)
            oof[epoch, held] = _predict(net, loader.element(held, d4.IDENTITY))
        trained = time.perf_counter()
        for element in d4.ALL:
            _predict(net, loader.element(held, element))
        epoch_seconds += (trained - start) / epochs
        tta_seconds += time.perf_counter() - trained
    return Outcome(oof, epoch_seconds, tta_seconds)


def _start(recipe: Recipe, dataset: Dataset, fold: int, rows: Rows, device: torch.device) -> tuple[BiomassNet, Truth]:
    grams = torch.from_numpy(dataset.targets[rows]).float().to(device)
    with torch_seed(mix(recipe.seed, fold), device):
        net = create_net(recipe, widths(recipe)).to(device)
    net.codec.fit(grams)
    net.head.start_at(net.codec.start(grams))
    return net, Truth(grams, torch.ones(len(rows), device=device))


def _epoch(
    recipe: Recipe,
    fold: int,
    epoch: int,
    net: BiomassNet,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    rows: Rows,
    truth: Truth,
) -> None:
    seed = mix(recipe.seed, fold, epoch + 1)
    generator = np.random.default_rng(seed)
    net.train()
    count = math.ceil(len(rows) / recipe.schedule.batch_size)
    batches = np.array_split(generator.permutation(len(rows)), count)
    draws = [generator.integers(loader.choices, size=len(chosen)) for chosen in batches]
    with torch_seed(seed, loader.device):
        for i, chosen in enumerate(batches):
            set_learning_rates(optimizer, rate_factor(recipe.schedule, epoch * count + i, recipe.epochs * count, []))
            batch = loader.training(rows[chosen], draws[i])
            optimizer.zero_grad(set_to_none=True)
            known = truth.rows(torch.from_numpy(chosen).to(loader.device))
            loss(recipe.loss, net.codec, net(batch), known).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@torch.inference_mode()
def _predict(net: BiomassNet, batch: Batch) -> Array:
    net.eval()
    return project(net.grams(batch).double().cpu().numpy())
