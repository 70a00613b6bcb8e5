"""Classifiers beside the regression, as auxiliary losses in training only: intervals of the targets, State and species.

Photographs with pseudo-labels have no State and no species: theirs are NaN, and so is a mixture with one of them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.training.metadata import species_tags


def interval_edges(grams: Tensor, bins: int) -> Tensor:
    """(5, bins - 1) edges between intervals of equal frequency: quantiles of the training fold's (n, 5) grams.

    Where many weights are equal, edges coincide, and the intervals between them stay empty.
    """
    shares = torch.arange(1, bins, dtype=torch.float64, device=grams.device) / bins
    return torch.quantile(grams.double(), shares, dim=0).T


def intervals_of(grams: Tensor, edges: Tensor) -> Tensor:
    """(n, 5, bins): 1 for the interval in which each of (n, 5) weights lies, else 0.

    A weight equal to an edge lies in the interval below it.
    """
    numbers = (grams.double().unsqueeze(2) > edges).sum(dim=2)
    return F.one_hot(numbers, edges.shape[1] + 1).float()


def intervals_loss(logits: Tensor, truth: Tensor, image_weights: Tensor) -> Tensor:
    """Cross-entropy, mean over targets and images.

    Args:
        logits: (n, 5 * bins) of the classifiers, target after target.
        truth: (n, 5, bins) probabilities: from `intervals_of`, or a mixture of two images.
        image_weights: (n,) weight of each image.
    """
    errors = -(truth * logits.view_as(truth).log_softmax(dim=2)).sum(dim=2)
    return (errors.mean(dim=1) * image_weights).mean()


def states(images: pd.DataFrame) -> Tensor:
    """(n, states) 1 for the State of each image, in alphabetical order; NaN if unknown."""
    labels = images["state"].fillna("").astype(str)
    return _hot([{label} - {""} for label in labels])


def species(images: pd.DataFrame) -> Tensor:
    """(n, tags) 1 for each species of an image and each group that it belongs to; NaN if unknown."""
    return _hot([species_tags(str(label)) for label in images["species"].fillna("")])


def states_loss(logits: Tensor, truth: Tensor, image_weights: Tensor) -> Tensor:
    """Cross-entropy, mean over the images whose State is known.

    Args:
        logits: (n, states).
        truth: (n, states) probabilities, NaN if unknown.
        image_weights: (n,) weight of each image.
    """
    return _known(truth, image_weights, -(truth.nan_to_num() * logits.log_softmax(dim=1)).sum(dim=1))


def species_loss(logits: Tensor, truth: Tensor, image_weights: Tensor) -> Tensor:
    """Binary cross-entropy, mean over tags and over the images whose species are known; arguments as `states_loss`."""
    errors = F.binary_cross_entropy_with_logits(logits, truth.nan_to_num(), reduction="none")
    return _known(truth, image_weights, errors.mean(dim=1))


def _hot(sets: list[set[str]]) -> Tensor:
    names = sorted(set().union(*sets))
    rows = [[float(name in tags) for name in names] if tags else [np.nan] * len(names) for tags in sets]
    return torch.tensor(rows, dtype=torch.float32).view(len(sets), len(names))


def _known(truth: Tensor, image_weights: Tensor, errors: Tensor) -> Tensor:
    known = truth.isfinite().all(dim=1)
    return (errors * image_weights)[known].sum() / known.sum().clamp(min=1)
