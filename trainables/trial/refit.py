"""Training one model on all images, with the schedule of its folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.fitted.learner import FittedLearner
from trainables.recipe.recipe import Recipe
from trainables.training.learner import FoldLearner
from trainables.training.nets import widths
from trainables.trial.memory_fit import fitted


def train_on_all(recipe: Recipe, context: TrialContext, epochs: int, scores: Sequence[float]) -> dict[str, Tensor]:
    """Train a recipe for some epochs on every image and return its weights; arguments as of `learner_on_all`."""
    return learner_on_all(recipe, context, epochs, scores).weights()


def learner_on_all(
    recipe: Recipe, context: TrialContext, epochs: int, scores: Sequence[float]
) -> FoldLearner | FittedLearner:
    """Train a recipe for some epochs on every image except those of outer dates.

    Learning rates follow the schedule of the whole trial and stop where its folds stopped.

    Args:
        recipe: what to train.
        context: the data and the device; pseudo-labelled images count with their weight, and those
            of several teachers share it.
        epochs: number of epochs; at most the recipe's, and all of them with `schedule.choose=average`.
        scores: the trial's scores of each epoch, for `schedule.kind=plateau`: no image is held out here.

    Raises:
        JobError: the loss is not finite.
    """
    inputs, dataset = make_inputs(recipe, context), context.dataset.for_one_model()
    rows, device = np.flatnonzero(~dataset.outer), context.device
    learner: FoldLearner | FittedLearner
    if recipe.neural:
        trained, at_a_time = fitted(recipe, device)
        learner = FoldLearner(trained, 0, widths(recipe), inputs, dataset, rows, device).limit(at_a_time)
    else:
        learner = FittedLearner(recipe, 0, widths(recipe), inputs, dataset, rows, device)
    for epoch in range(epochs):
        learner.train_epoch(epoch, list(scores[:epoch]))
    if recipe.averaged_epochs:
        learner.load_average()
    return learner
