"""Those who train the folds of a trial, behind one face: one after another here, or side by side elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from pasture.errors import InputError
from pasture.files import Folder
from pasture.folds import held_out_rows, outer_rows, training_rows
from pasture.targets import TARGETS, Array
from pasture.verification import VerifiedDataset
from trainables.compute.ranks import ALONE, Ranks
from trainables.features.inputs import make_inputs
from trainables.fitted.learner import FittedLearner
from trainables.recipe.recipe import Recipe
from trainables.training.learner import FoldLearner
from trainables.training.nets import widths

Weights = dict[str, Tensor]


class Trained(NamedTuple):
    """An epoch of one fold.

    Attributes:
        loss: mean over the training rows.
        learning_rates: of the last step.
        micro_batch: images in memory at a time.
    """

    loss: float
    learning_rates: dict[str, float]
    micro_batch: int


class FoldState(NamedTuple):
    """Everything that continuing one fold needs, on the CPU.

    Attributes:
        learner: as the learner says.
        best: weights of the trial's best epoch; empty before the first.
    """

    learner: dict[str, Any]
    best: Weights


class FoldExecutor(Protocol):
    """All folds of a trial, an epoch at a time. What is told of folds is told by their number.

    The weights of the best epoch stay where they are trained until they are asked for.
    """

    def train(self, epoch: int, scores: list[float]) -> dict[int, Trained]:
        """One epoch, 0-based, after those that had the scores."""

    def predict(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """(held-out rows, elements, 5) in grams of each fold."""

    def predict_outer(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """Predictions of each fold for all images of outer dates: (rows, elements, 5) in grams."""

    def keep(self) -> None:
        """The present weights are those of the best epoch."""

    def go_back(self) -> None:
        """To the weights of the best epoch, to predict with them."""

    def best(self, fold: int) -> Weights:
        """The weights of the best epoch."""

    def state(self) -> dict[int, FoldState]:
        """Everything that continuing needs."""

    def load_state(self, states: Mapping[int, FoldState]) -> None:
        """Continue where `state` was taken, by whatever executor."""


def check_splittable(recipe: Recipe) -> None:
    """Whether one fold can be trained by several processes.

    Raises:
        InputError: it is no network.
    """
    if not recipe.neural:
        raise InputError(
            f"head.kind={recipe.head.kind} is fitted in one piece and cannot use several GPUs a fold; set "
            "--gpus-per-fold 1, or gpus_per_fold: 1 by a rule in the space's `resources`"
        )


class SequentialFolds:
    """Folds one after another, on one device of this process.

    Args:
        recipe: what to train.
        dataset: labelled images.
        device: where to compute.
        shared: folder that all nodes of a cluster see, for feature banks under way; none is needed on one node.
        folds: which of the recipe's folds; all by default.
        ranks: the processes that train these folds together.

    Raises:
        InputError: several processes for what is no network.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: VerifiedDataset,
        device: torch.device,
        shared: Folder | None = None,
        folds: Sequence[int] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        if ranks.size > 1:
            check_splittable(recipe)
        assigned = recipe.validation.assign(dataset)
        numbers = range(int(assigned.max()) + 1) if folds is None else folds
        inputs = make_inputs(recipe, dataset, device, shared)
        sizes = widths(recipe)

        def learner(fold: int) -> FoldLearner | FittedLearner:
            rows = training_rows(assigned, fold)
            if recipe.neural:
                return FoldLearner(recipe, fold, sizes, inputs, dataset, rows, device, ranks)
            return FittedLearner(recipe, fold, sizes, inputs, dataset, rows, device)

        self.learners = {fold: learner(fold) for fold in numbers}
        held_out = {fold: held_out_rows(assigned, fold) for fold in numbers}
        self.held_out = {fold: rows[ranks.part(len(rows))] for fold, rows in held_out.items()}
        outer = outer_rows(assigned)
        self.outer = outer[ranks.part(len(outer))]
        self.kept: dict[int, Weights] = {fold: {} for fold in numbers}

    def train(self, epoch: int, scores: list[float]) -> dict[int, Trained]:
        """One epoch of each fold."""
        return {
            fold: Trained(learner.train_epoch(epoch, scores), learner.learning_rates(), learner.micro_batch)
            for fold, learner in self.learners.items()
        }

    def predict(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """The held-out rows of each fold, or this process's share of them."""
        return {fold: self._predict(fold, rows, elements) for fold, rows in self.held_out.items()}

    def predict_outer(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """Predictions of each fold for the images of outer dates, or for this process's share of them."""
        return {fold: self._predict(fold, self.outer, elements) for fold in self.learners}

    def keep(self) -> None:
        """Copy the weights to the host's memory."""
        self.kept = {fold: learner.weights() for fold, learner in self.learners.items()}

    def go_back(self) -> None:
        """To what was kept."""
        for fold, learner in self.learners.items():
            learner.load_weights(self.kept[fold])

    def best(self, fold: int) -> Weights:
        """What was kept."""
        return self.kept[fold]

    def state(self) -> dict[int, FoldState]:
        """Of each fold."""
        return {fold: FoldState(learner.state(), self.kept[fold]) for fold, learner in self.learners.items()}

    def load_state(self, states: Mapping[int, FoldState]) -> None:
        """Of each fold; others may be there."""
        for fold, learner in self.learners.items():
            learner.load_state(states[fold].learner)
            self.kept[fold] = states[fold].best

    def _predict(self, fold: int, rows: np.ndarray, elements: tuple[int, ...]) -> Array:
        if not len(rows):
            return np.empty((0, len(elements), len(TARGETS)))
        return self.learners[fold].predict(rows, elements)
