"""What training minimises: a regression loss on encoded targets, and consistency of the masses in grams."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pasture.targets import CLOVER, DEAD, GDM, GREEN, TOTAL
from trainables import recipe as recipes
from trainables.target_codec import TargetCodec


def loss(config: recipes.Loss, codec: TargetCodec, predicted: Tensor, grams: Tensor, image_weights: Tensor) -> Tensor:
    """Scalar loss of a batch.

    Args:
        config: kind, target weights, weight of the consistency.
        codec: of the model that predicted.
        predicted: (n, k) encoded predictions.
        grams: (n, 5) truth.
        image_weights: (n,) how much each image counts (LDS); mean 1 over the training fold.
    """
    errors = regression(config, predicted, codec.encode(grams))
    weights = codec.weights / codec.weights.sum()
    if config.weights == "equal":
        weights = torch.full_like(weights, 1 / len(weights))
    total = ((errors * weights).sum(dim=1) * image_weights).mean()
    if config.consistency and codec.kind == "five":
        total = total + config.consistency * consistency(codec.decode(predicted))
    return total


def regression(config: recipes.Loss, predicted: Tensor, truth: Tensor) -> Tensor:
    """Elementwise loss, the shape of its arguments."""
    if config.kind == "smooth_l1":
        return F.smooth_l1_loss(predicted, truth, beta=config.beta, reduction="none")
    if config.kind == "huber":
        return F.huber_loss(predicted, truth, delta=config.beta, reduction="none")
    return F.mse_loss(predicted, truth, reduction="none")


def consistency(grams: Tensor) -> Tensor:
    """How far (n, 5) predictions in grams are from balance: SmoothL1 of both sums, mean over images.

    In grams, because the sum of logarithms means nothing.
    """
    total = F.smooth_l1_loss(grams[:, TOTAL], grams[:, GREEN] + grams[:, DEAD] + grams[:, CLOVER])
    return total + F.smooth_l1_loss(grams[:, GDM], grams[:, GREEN] + grams[:, CLOVER])
