"""The targets of one fold's training rows."""

from __future__ import annotations

import torch

from pasture.dataset import Dataset
from pasture.targets import TOTAL
from trainables.features.inputs import Rows
from trainables.recipe.recipe import Recipe
from trainables.recipe.seeds import mix
from trainables.training.classifiers import interval_edges, intervals_of, species, states
from trainables.training.lds import image_weights
from trainables.training.losses import Truth
from trainables.training.metadata import auxiliary_targets, standardise
from trainables.training.teacher import teach


def training_truth(recipe: Recipe, fold: int, dataset: Dataset, rows: Rows, device: torch.device) -> Truth:
    """The targets of a fold's training rows, with everything that is fitted to them alone.

    Args:
        recipe: its `loss` says what is needed.
        fold: number of the fold, for the seed of the teacher.
        dataset: the truth; only `rows` are read.
        rows: the training rows.
        device: where the targets are used.
    """
    grams = dataset.targets
    weights = image_weights(grams[rows, TOTAL], dataset.pseudo_weights[rows], recipe.loss.lds)
    taught = metadata = None
    if recipe.loss.distillation:
        # A pseudo-label has no metadata to teach from: the teacher repeats it.
        taught, measured = torch.from_numpy(grams[rows]).float(), dataset.measured[rows]
        taught[measured] = teach(dataset.images, grams, rows[measured], mix(recipe.seed, fold))
        taught = taught.to(device)
    if recipe.loss.auxiliary:
        known = standardise(auxiliary_targets(dataset.images), rows)[rows]
        metadata = torch.from_numpy(known).float().to(device)
    truth = torch.from_numpy(grams[rows]).float().to(device)
    settings = recipe.loss.intervals
    return Truth(
        truth,
        torch.from_numpy(weights).float().to(device),
        taught,
        metadata,
        intervals_of(truth, interval_edges(truth, settings.bins)) if settings.weight else None,
        states(dataset.images.iloc[rows]).to(device) if recipe.loss.state else None,
        species(dataset.images.iloc[rows]).to(device) if recipe.loss.species else None,
    )
