"""Interval classifiers: in which interval of a target's distribution a weight lies, as an auxiliary loss."""

from __future__ import annotations

import torch
from torch import Tensor


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
    return torch.nn.functional.one_hot(numbers, edges.shape[1] + 1).float()


def intervals_loss(logits: Tensor, truth: Tensor, image_weights: Tensor) -> Tensor:
    """Cross-entropy, mean over targets and images.

    Args:
        logits: (n, 5 * bins) of the classifiers, target after target.
        truth: (n, 5, bins) probabilities: from `intervals_of`, or a mixture of two images.
        image_weights: (n,) weight of each image.
    """
    errors = -(truth * logits.view_as(truth).log_softmax(dim=2)).sum(dim=2)
    return (errors.mean(dim=1) * image_weights).mean()
