"""The training loss: a regression loss on encoded targets, and terms on weights in grams and on metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pasture.targets import CLOVER, COMPONENTS, DEAD, GDM, GREEN, TOTAL, WEIGHTS
from trainables.network.model import Outputs
from trainables.network.target_codec import TargetCodec
from trainables.recipe import sections
from trainables.training.classifiers import intervals_loss, species_loss, states_loss

_TOTAL_WEIGHT: Final = 3.0
_LEAST_G: Final = 1e-3  # keeps a proportion away from 0, whose logarithm has no gradient


class Truth(NamedTuple):
    """Targets of a batch. The first axis is the image.

    Attributes:
        grams: (n, 5) weights.
        image_weights: (n,) weight of each image in the loss (LDS, pseudo-labels); mean 1 over the training fold.
        taught: (n, 5) the teacher's predictions in grams; None for a recipe without distillation.
        metadata: (n, 2) standardised NDVI and height, NaN if missing; None if the recipe does not predict them.
        intervals: (n, 5, bins) probabilities of the intervals; None for a recipe without interval classifiers.
        states: (n, states) 1 for the State of the photograph, NaN if unknown; None if the recipe does not predict it.
        species: (n, tags) 1 for each of its species and their groups, NaN if unknown; None if the recipe does not
            predict them.
    """

    grams: Tensor
    image_weights: Tensor
    taught: Tensor | None = None
    metadata: Tensor | None = None
    intervals: Tensor | None = None
    states: Tensor | None = None
    species: Tensor | None = None

    def rows(self, index: Tensor) -> Truth:
        """The targets of some images."""
        return self._map(lambda part: part[index])

    def mixed(self, order: Tensor, share: float) -> Truth:
        """Targets of each image mixed with another: `share` of its own, the rest of image `order`."""
        return self._map(lambda part: share * part + (1 - share) * part[order])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Truth:
        return Truth(*(None if part is None else change(part) for part in self))  # type: ignore[arg-type]


def loss(
    config: sections.Loss, codec: TargetCodec, encoded: Tensor, truth: Truth, log_variance: Tensor | None = None
) -> Tensor:
    """Scalar loss of encoded predictions (n, vectors, c).

    With late fusion, each of the several vectors of an image has to meet its targets by itself.

    Args:
        config: the loss.
        codec: fitted to the training fold.
        encoded: predictions.
        truth: targets of the same images.
        log_variance: (n, c) predicted with `gaussian_nll`.
    """
    vectors = encoded.shape[1]
    flat = encoded.flatten(0, 1)
    image_weights = truth.image_weights.repeat_interleave(vectors)

    spread = None if log_variance is None else log_variance.repeat_interleave(vectors, dim=0)

    def against(grams: Tensor) -> Tensor:
        errors = image_errors(config, codec, flat, grams.repeat_interleave(vectors, dim=0), spread)
        return (errors * image_weights).mean()

    total = against(truth.grams)
    if config.distillation and truth.taught is not None:
        total = total + config.distillation * against(truth.taught)
    if config.consistency and codec.kind != "scalar":
        total = total + config.consistency * consistency(codec.decode(flat))
    if config.proportions and codec.kind != "scalar":
        grams = truth.grams.repeat_interleave(vectors, dim=0)
        total = total + config.proportions * proportions(codec.decode(flat), grams, image_weights)
    return total


def head_losses(config: sections.Loss, outputs: Outputs, truth: Truth) -> Tensor:
    """Weighted sum of the losses of the classifiers that exist in training only."""
    total = outputs.encoded.new_zeros(())
    weighted = (
        (config.intervals.weight, intervals_loss, outputs.intervals, truth.intervals),
        (config.state, states_loss, outputs.states, truth.states),
        (config.species, species_loss, outputs.species, truth.species),
    )
    for weight, error, logits, classes in weighted:
        if logits is not None and classes is not None:
            total = total + weight * error(logits, classes, truth.image_weights)
    return total


def target_weights(config: sections.Loss, codec: TargetCodec) -> Tensor:
    """(c,) weight of each encoded target, with sum 1."""
    weights = torch.ones(len(codec.columns))
    if config.weights == "competition":
        weights = torch.tensor(WEIGHTS[codec.columns], dtype=torch.float32)
    elif config.weights == "total":
        weights[codec.columns.index(TOTAL)] = _TOTAL_WEIGHT
    return weights / weights.sum()


def image_errors(
    config: sections.Loss, codec: TargetCodec, encoded: Tensor, grams: Tensor, log_variance: Tensor | None = None
) -> Tensor:
    """(n,) loss of each image.

    Args:
        config: the loss.
        codec: fitted to the training fold.
        encoded: (n, c) encoded predictions.
        grams: (n, 5) truth.
        log_variance: (n, c) predicted with `gaussian_nll`.
    """
    if config.kind == "r2":
        return r2_errors(codec.decode(encoded), grams) / codec.variance
    truth = codec.encode(grams)
    if config.kind == "gaussian_nll":
        assert log_variance is not None
        errors = gaussian_nll(encoded, truth, log_variance)
    else:
        errors = regression(config, encoded, truth)
    return (errors * target_weights(config, codec).to(errors)).sum(dim=1)


def r2_errors(predicted: Tensor, truth: Tensor) -> Tensor:
    """(n,) squared errors of (n, 5) grams, with the weights of the competition metric."""
    return (predicted - truth).square() @ torch.tensor(WEIGHTS).to(predicted)


def gaussian_nll(predicted: Tensor, truth: Tensor, log_variance: Tensor) -> Tensor:
    """Elementwise negative log-likelihood of a normal distribution, without its constant (D. Nix, A. Weigend, 1994)."""
    return 0.5 * ((predicted - truth).square() * torch.exp(-log_variance) + log_variance)


def regression(config: sections.Loss, predicted: Tensor, truth: Tensor) -> Tensor:
    """Elementwise loss, of the shape of its arguments."""
    if config.epsilon:
        predicted, truth = F.softshrink(predicted - truth, config.epsilon), torch.zeros_like(truth)
    squared = F.mse_loss(predicted, truth, reduction="none")
    if config.kind == "mse":
        return squared
    if config.kind == "smooth_l1":
        robust = F.smooth_l1_loss(predicted, truth, beta=config.beta, reduction="none")
    else:
        robust = F.huber_loss(predicted, truth, delta=config.beta, reduction="none")
    return (1 - config.mse_share) * robust + config.mse_share * squared


def consistency(grams: Tensor) -> Tensor:
    """Deviation of (n, 5) predictions in grams from the mass balance: SmoothL1 of both sums, mean over images.

    It is computed in grams: logarithms of weights do not add up.
    """
    total = F.smooth_l1_loss(grams[:, TOTAL], grams[:, GREEN] + grams[:, DEAD] + grams[:, CLOVER])
    return total + F.smooth_l1_loss(grams[:, GDM], grams[:, GREEN] + grams[:, CLOVER])


def proportions(predicted: Tensor, truth: Tensor, image_weights: Tensor | float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of predicted from true proportions of green, dead and clover, mean over images.

    Args:
        predicted, truth: (n, 5) in grams.
        image_weights: (n,) weight of each image.
    """
    p, q = (grams[:, list(COMPONENTS)].clamp(min=_LEAST_G) for grams in (truth, predicted))
    p, q = p / p.sum(dim=1, keepdim=True), q / q.sum(dim=1, keepdim=True)
    return ((p * (p / q).log()).sum(dim=1) * image_weights).mean()


def auxiliary(predicted: Tensor, metadata: Tensor) -> Tensor:
    """Mean squared error of predicted NDVI and height, (n, 2) standardised, over the measured values."""
    known = metadata.isfinite()
    return F.mse_loss(predicted[known], metadata[known]) if known.any() else predicted.sum() * 0
