"""Interface for training the folds of a trial, and its implementation in one process: one fold after another.

`tune.cluster.parallel_folds` trains the folds side by side in several processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from pasture.errors import InputError
from pasture.folds import held_out_rows, of_model, outer_rows, training_rows
from pasture.targets import TARGETS, Array
from trainables.compute.ranks import ALONE, Ranks
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.fitted.learner import FittedLearner
from trainables.recipe.recipe import Recipe
from trainables.training.learner import FoldLearner
from trainables.training.nets import widths
from trainables.trial.memory_fit import fitted

Weights = dict[str, Tensor]


class Trained(NamedTuple):
    """Facts of one epoch of one fold.

    Attributes:
        loss: mean loss over the training rows.
        learning_rates: learning rates of the last step.
        micro_batch: number of images in memory at a time.
    """

    loss: float
    learning_rates: dict[str, float]
    micro_batch: int


class FoldState(NamedTuple):
    """Everything needed to continue one fold, on the CPU.

    Attributes:
        learner: the learner's `state`.
        kept: the kept weights; empty if there are none.
    """

    learner: dict[str, Any]
    kept: Weights


class FoldExecutor(Protocol):
    """Interface for training the folds of a trial, one epoch at a time. Dictionaries are keyed by fold number; folds
    of several repeats are numbered repeat by repeat.

    Kept weights stay in the process that trains the fold until `kept` asks for them.
    """

    def train(self, epoch: int, scores: list[float]) -> dict[int, Trained]:
        """Train epoch `epoch` (0-based) of every fold; `scores` are the trial's scores of the epochs before it."""

    def predict(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """Predictions of each fold for its held-out rows under elements of D4: (rows, elements, 5) in grams."""

    def predict_outer(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """Predictions of each fold for all images of outer dates: (rows, elements, 5) in grams."""

    def keep(self) -> None:
        """Keep the present weights as those that count, in place of any that were kept before."""

    def go_back(self) -> None:
        """Load the kept weights, to predict with them."""

    def load_average(self) -> None:
        """Load the mean of the weights of the last epochs, to predict with it; training cannot continue after it."""

    def kept(self, fold: int) -> Weights:
        """The kept weights of one fold."""

    def state(self) -> dict[int, FoldState]:
        """Everything needed to continue the folds, in this executor or another one."""

    def load_state(self, states: Mapping[int, FoldState]) -> None:
        """Continue from a `state`."""


def check_splittable(recipe: Recipe) -> None:
    """Check that several processes can train one fold of a recipe together.

    Raises:
        InputError: the head is not a network.
    """
    if not recipe.neural:
        raise InputError(
            f"head.kind={recipe.head.kind} is fitted in one piece and cannot use several GPUs a fold; set "
            "--gpus-per-fold 1, or gpus_per_fold: 1 by a rule in the space's `resources`"
        )


class SequentialFolds:
    """Trains folds one after another, on one device of this process.

    Args:
        recipe: what to train.
        context: the data and the device.
        folds: numbers of the folds to train; all folds of the recipe by default.
        ranks: the processes that train these folds together.

    Raises:
        InputError: several processes for a head that is not a network; a bad picture.
    """

    def __init__(
        self, recipe: Recipe, context: TrialContext, folds: Sequence[int] | None = None, ranks: Ranks = ALONE
    ) -> None:
        if ranks.size > 1:
            check_splittable(recipe)
        dataset, device = context.dataset, context.device
        splits = recipe.validation.splits(dataset)
        numbers = range(recipe.folds) if folds is None else folds
        inputs = make_inputs(recipe, context)
        sizes = widths(recipe)
        trained, at_a_time = fitted(recipe, device)

        def learner(fold: int) -> FoldLearner | FittedLearner:
            rows = training_rows(*of_model(splits, fold))
            if recipe.neural:
                return FoldLearner(trained, fold, sizes, inputs, dataset, rows, device, ranks).limit(at_a_time)
            return FittedLearner(recipe, fold, sizes, inputs, dataset, rows, device)

        self.learners = {fold: learner(fold) for fold in numbers}
        held_out = {fold: held_out_rows(*of_model(splits, fold)) for fold in numbers}
        self.held_out = {fold: rows[ranks.part(len(rows))] for fold, rows in held_out.items()}
        outer = outer_rows(splits[0])
        self.outer = outer[ranks.part(len(outer))]
        self._kept: dict[int, Weights] = {fold: {} for fold in numbers}

    def train(self, epoch: int, scores: list[float]) -> dict[int, Trained]:
        """Train one epoch of each fold."""
        return {
            fold: Trained(learner.train_epoch(epoch, scores), learner.learning_rates(), learner.micro_batch)
            for fold, learner in self.learners.items()
        }

    def predict(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """Predictions of each fold for its held-out rows, or for this process's share of them."""
        return {fold: self._predict(fold, rows, elements) for fold, rows in self.held_out.items()}

    def predict_outer(self, elements: tuple[int, ...]) -> dict[int, Array]:
        """Predictions of each fold for the images of outer dates, or for this process's share of them."""
        return {fold: self._predict(fold, self.outer, elements) for fold in self.learners}

    def keep(self) -> None:
        """Copy the present weights to the host's memory."""
        self._kept = {fold: learner.weights() for fold, learner in self.learners.items()}

    def go_back(self) -> None:
        """Load the kept weights."""
        for fold, learner in self.learners.items():
            learner.load_weights(self._kept[fold])

    def load_average(self) -> None:
        """Load the mean of the weights of the last epochs."""
        for learner in self.learners.values():
            learner.load_average()

    def kept(self, fold: int) -> Weights:
        """The kept weights of one fold."""
        return self._kept[fold]

    def state(self) -> dict[int, FoldState]:
        """State of each fold."""
        return {fold: FoldState(learner.state(), self._kept[fold]) for fold, learner in self.learners.items()}

    def load_state(self, states: Mapping[int, FoldState]) -> None:
        """Continue each fold; states of other folds are ignored."""
        for fold, learner in self.learners.items():
            learner.load_state(states[fold].learner)
            self._kept[fold] = states[fold].kept

    def _predict(self, fold: int, rows: np.ndarray, elements: tuple[int, ...]) -> Array:
        if not len(rows):
            return np.empty((0, len(elements), len(TARGETS)))
        return self.learners[fold].predict(rows, elements)
