"""One model trained on all images, as its folds were but for what they held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pasture.verification import VerifiedDataset
from trainables.features.inputs import make_inputs
from trainables.fitted.learner import FittedLearner
from trainables.recipe.recipe import Recipe
from trainables.training.learner import FoldLearner
from trainables.training.nets import widths


def train_on_all(
    recipe: Recipe, dataset: VerifiedDataset, epochs: int, scores: Sequence[float], device: torch.device
) -> dict[str, Tensor]:
    """The weights of a recipe after some epochs on every image.

    Learning rates follow the schedule of the whole trial and stop where its folds stopped.

    Args:
        recipe: what to train.
        dataset: labelled images; pseudo-labelled ones count with their weight.
        epochs: how many to train; at most the recipe's.
        scores: of the trial's epochs before, for a schedule that waits for a better one: nothing is held out here.
        device: where to compute.

    Raises:
        JobError: the loss is not finite.
    """
    inputs = make_inputs(recipe, dataset, device)
    kind = FoldLearner if recipe.neural else FittedLearner
    learner = kind(recipe, 0, widths(recipe), inputs, dataset, np.flatnonzero(~dataset.outer), device)
    for epoch in range(epochs):
        learner.train_epoch(epoch, list(scores[:epoch]))
    return learner.weights()
