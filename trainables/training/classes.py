"""State and species as classes that a network learns to tell, as auxiliary losses in training only.

The classes are those of the training rows. Photographs with pseudo-labels have no State and no species: theirs are NaN,
and so is a mixture with one of them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.training.metadata import species_tags


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
